package indexer

import "time"

// A Job is the state of one job of the leader.
type Job struct {
	Name      string
	Running   bool
	LastBegin time.Time // of the last run; the zero time before the first
	LastEnd   time.Time // of the last run that ended; the zero time before the first
	LastError string    // why the last run that ended failed; "" if it succeeded
	Next      time.Time // when it runs next; the zero time while it runs, and when the leader has stopped
}

// A JobReport has the states of the leader's jobs, as it last reported them.
type JobReport struct {
	Since time.Time     // when this leader first reported; the zero time if no leader ever has
	Age   time.Duration // time since the last report, by the clock of the database server
	Jobs  []Job         // in the order in which they are shown
}

// maxReportAge is the maximum age of the report of a process that leads: 1 minute. The
// leader reports every 20 s, so three reports in a row were lost.
const maxReportAge = time.Minute

// IsCurrent reports whether the leader that sent the report probably still leads. It is
// false if no leader has ever reported.
func (r JobReport) IsCurrent() bool { return !r.Since.IsZero() && r.Age <= maxReportAge }
