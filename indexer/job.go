package indexer

import "time"

// A Job is the state of one job of the leader.
type Job struct {
	Name      string
	Running   bool
	LastBegin time.Time // of the last run; the zero time before the first
	LastEnd   time.Time // of the last run that ended; the zero time before the first
	LastError string    // why the last run that ended failed; "" if it succeeded
	// Next is when it runs next; the zero time while it runs, when the leader has stopped, and if
	// it runs only when somebody asks for it.
	Next time.Time
	// Done and Total say how far the run is, or how far the last one came. Total is 0 if the job
	// does not say.
	Done, Total int64
}

// The jobs that run only when somebody asks for them. Their names are those of the registry of
// Deploys.app, whose scheduler asks for them.
const (
	IndexManifests          = "indexManifests"
	RunBlobGC               = "runBlobGC"
	CalculateProjectStorage = "calculateProjectStorage"
	RunAll                  = "runAll" // the three before, in their order
)

// InternalJobs are the jobs that a request with the secret of the configuration may ask for.
var InternalJobs = []string{IndexManifests, RunBlobGC, CalculateProjectStorage, RunAll}

// JobNames are the names of all jobs, each of which somebody may ask for, in the order in which
// they are shown. A leader has those that its configuration turns on.
var JobNames = append([]string{"scan", "search", "storage", "partitions", "changes", "usage", "protection", "webhooks",
	"watch", "loose", "times", "trash", "plans", "tidy", "collect"}, InternalJobs...)

// A JobRun is a run of a job that somebody asked for. If several ask before it begins, it is one
// run.
type JobRun struct {
	ID        int64
	Name      string
	AskedBy   string // an account, cli:USER, or internal
	AskedAt   time.Time
	StartedAt time.Time // zero: it has not begun
	EndedAt   time.Time // zero: it has not ended
	Error     string    // why it failed, after the name of the job; "" if it did not
}

// Ended reports whether the run is over.
func (r JobRun) Ended() bool { return !r.EndedAt.IsZero() }

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
