package indexer

import "time"

// A Job is the state of one job of the leader, as seen by one process. A process that
// never led knows no jobs.
type Job struct {
	Name      string
	Running   bool
	LastBegin time.Time // of the last run; the zero time before the first
	LastEnd   time.Time // of the last run that ended; the zero time before the first
	LastError string    // why the last run that ended failed; "" if it succeeded
	Next      time.Time // when it runs next; the zero time while it runs, and when this process does not lead
}
