package indexer

import "time"

// A Status says how well the book follows the registry.
type Status struct {
	Version   Version
	LastScan  *Scan // the last one that finished; nil before the first
	Running   *Scan // nil if none runs
	Waiting   *Scan // asked for, and begun by nobody yet; nil if none is
	TasksDue  int
	OldestDue time.Duration // how long the oldest due task has waited
	GivenUp   int           // tasks that failed too often
	Failures  []TaskFailure // the most recent, at most 100

	Instance      string    // the registry's process that was the last to send its first event; "" if none ever did
	InstanceSince time.Time // when that came
}

// An Overview says what is in the book, and when it is looked after.
type Overview struct {
	Repositories int // that have a tag
	Tags         Count
	Manifests    Count
	LastEvent    time.Time     // when the last one came; zero if none is kept
	ScansEvery   time.Duration // from the beginning of a scan to when the last that began by itself was due; 0 if none is remembered
}

// A Count is how many there are, or about how many.
type Count struct {
	N     int
	About bool // it was not counted: the database estimates it
}

// A Scan is one look at everything.
type Scan struct {
	ID           int64
	Reason       string // start, interval, instance, command
	AskedAt      time.Time
	StartedAt    time.Time
	FinishedAt   time.Time // zero while it runs
	Listed       int       // repositories that the registry has named so far
	Repositories int       // looked at
	Tags         int       // looked at
	Changed      int       // found to differ, and asked to be read
	Errors       int       // repositories that could not be looked at
	Problem      string    // why it could not go on, while it is so
}

// A TaskFailure is a reference that could not be read.
type TaskFailure struct {
	Repository string
	Reference  string // a tag or a digest
	Attempts   int
	Error      string
	GivenUp    bool
}
