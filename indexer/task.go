package indexer

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// A Priority orders tasks: those that a person waits for are read first.
type Priority int

const (
	PriorityEvent   Priority = 0 // an event announced a push or deletion
	PriorityScan    Priority = 1 // a scan found a difference
	PriorityConfirm Priority = 2 // a second look at a tag that an event announced
)

// An Ask is a request to read a reference.
type Ask struct {
	Repository string
	Reference  TagOrDigest
	Priority   Priority
	Hint       digest.Digest // the digest that the tag shows, from an event; "" without one
	After      time.Duration // how long to wait before reading it
}

// A Task is a reference that one worker has claimed and is to read.
type Task struct {
	ID         int64
	Repository string
	Reference  TagOrDigest
	Priority   Priority
	Hint       digest.Digest
	HintedAt   time.Time     // when the event with the hint arrived, by our clock
	Wanted     int           // number of requests for it when it was claimed
	Claims     int           // number of claims, including this one
	Attempts   int           // number of attempts, including this one
	TagDigest  digest.Digest // the digest that the tag shows in the book; "" if the book lacks it
	Known      bool          // whether the book has the manifest of Hint or Reference, complete
}

// A Finding is the result of reading a task.
type Finding struct {
	Task      Task
	Manifests []Manifest    // manifests that were read, to be stored
	Outcome   Outcome       // what the read found
	Digest    digest.Digest // the digest that a tag shows, if Outcome is Found
	Problem   string        // if Outcome is Broken
	Asks      []Ask         // further references to read
	Again     time.Duration // pause before a second look; 0: none
	// Unfinished reports that a part, such as the config of an image, could not be
	// read. The rest is stored, unless the book has the manifests already, and the
	// task does not end.
	Unfinished bool
}

// An Outcome says what a read of a reference found.
type Outcome string

const (
	Found  Outcome = "found"
	Gone   Outcome = "gone"   // the registry does not have it
	Broken Outcome = "broken" // the registry has it but cannot show it
)

// An Event is the event of a push or a deletion, with the fields that we use.
type Event struct {
	ID         string
	At         time.Time
	Action     string // push or delete
	Repository string
	Tag        string
	Digest     digest.Digest
	MediaType  string
	Actor      string // who, as the registry says
	By         ClientKind
	UserAgent  string
	Instance   string // the registry's process that sent it
	Source     string // address of the client, as the registry saw it; "": unknown
	Request    string // the registry's id of the request
}
