package indexer

import "time"

// A Status describes how up to date the book is.
type Status struct {
	Version   Version
	LastScan  *Scan // the last one that finished; nil before the first
	Running   *Scan // nil if none runs
	Waiting   *Scan // requested and not begun; nil if there is none
	TasksDue  int
	OldestDue time.Duration // how long the oldest due task has waited
	GivenUp   int           // tasks that failed too often
	Failures  []TaskFailure // the most recent, at most 100

	Webhooks WebhookStatus // zero for an asker who does not see all repositories

	Instance      string    // the newest process of the registry that has sent an event; "" if none has
	InstanceSince time.Time // when its first event arrived
}

// A WebhookStatus says how events are sent to webhooks.
type WebhookStatus struct {
	All     int           // number of webhooks
	Paused  int           // that the indexer has paused
	Failing int           // that are enabled, and whose last attempt failed
	Waiting int           // deliveries, as the leader last counted
	Oldest  time.Duration // how long the oldest delivery to an enabled webhook has waited
}

// An Overview summarises the content of the book and its updates.
type Overview struct {
	Repositories int // with at least one tag
	Tags         Count
	Manifests    Count
	LastEvent    time.Time     // when the last event arrived; zero if none is kept
	ScansEvery   time.Duration // from the start of a scan to the next periodic request, as last seen; 0 if unknown
}

// A Count is an exact or an estimated number.
type Count struct {
	N     int
	About bool // N is an estimate of the database
}

// A Scan is one comparison of the whole registry with the book.
type Scan struct {
	ID           int64
	Reason       string // start, interval, instance, restart, command
	AskedAt      time.Time
	StartedAt    time.Time
	FinishedAt   time.Time // zero while it runs
	Listed       int       // repositories that the registry has listed so far
	Repositories int       // compared
	Tags         int       // compared
	Changed      int       // references that differ and are to be read
	Errors       int       // repositories that could not be compared
	Problem      string    // why the scan is interrupted; "" if it is not
}

// A TaskFailure is a reference that could not be read.
type TaskFailure struct {
	Repository string
	Reference  TagOrDigest
	Attempts   int
	Error      string
	GivenUp    bool
}

// A SearchCopy is the state of the copy of the search rows that a process holds in memory
// and answers searches from.
type SearchCopy struct {
	Kept     bool          // whether the process is to hold one: search.memory
	Ready    bool          // whether searches are answered from it; else from the database
	TooLarge bool          // whether the last attempt to build it exceeded search.memory_limit
	BuiltAt  time.Time     // when it was last built completely; zero before the first attempt
	Took     time.Duration // how long that took

	// If Ready. The first three are 0 for an asker who does not see all repositories.
	Repositories, Segments int
	Bytes                  int64
	Version                Version // of the latest state that it has
}
