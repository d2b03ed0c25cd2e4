package indexer

import (
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

// A StorageLook is one look at the whole storage of the registry, compared with the book. What
// was pushed or deleted during the look may be counted as a difference.
type StorageLook struct {
	Begin   time.Time
	Seconds float64

	Blobs, Bytes int64 // in their places
	Links        int64
	Manifests    int64 // one for each repository that has it

	AbandonedUploads, AbandonedBytes int64
	ActiveUploads                    int64 // somebody has lately written to

	// Unreadable is how many links and manifests could not be read. If it is not 0, Unused,
	// Unlinked, Missing and Cut are not exact. Problems names the first of them.
	Unreadable int64
	Blind      string // why links may exist that were not seen; "" if none
	Problems   []string

	Unused, UnusedBytes     int64 // blobs that no manifest uses
	Unlinked, UnlinkedBytes int64 // those of them that no repository links either
	Trashed, TrashedBytes   int64
	Missing                 int64 // blobs that a manifest needs and that the storage does not have
	Cut                     int64 // blobs that a manifest needs and that no repository links

	BookManifests, BookBytes int64
	OnlyBook                 int64    // manifests of the book that the storage does not have
	OnlyStorage              int64    // manifests in the storage that the book does not have
	Examples                 []string // of the differences
}

// A CandidateState says what has become of a blob that no manifest uses.
type CandidateState string

const (
	Waiting CandidateState = "waiting" // in its place
	Trashed CandidateState = "trashed" // in the trash, or about to be moved there
	Deleted CandidateState = "deleted"
	Stuck   CandidateState = "stuck" // waiting or trashed, after MaxCollectFailures failures
)

// ParseCandidateState returns the state of a name; "" for "", which is any. It returns ErrInvalid
// for all else.
func ParseCandidateState(text string) (CandidateState, error) {
	switch s := CandidateState(text); s {
	case "", Waiting, Trashed, Deleted, Stuck:
		return s, nil
	}
	return "", Invalid("the state %.64q is not known: write waiting, trashed, stuck or deleted", text)
}

// MaxCollectFailures is after how many failures in a row a blob is stuck: 10. By the backoff
// that is after two days.
const MaxCollectFailures = 10

// A Candidate is a blob that no manifest uses, or that was deleted for that reason.
type Candidate struct {
	Digest     digest.Digest
	Size       int64
	State      CandidateState
	UnusedAt   time.Time // the first look in a row that saw it unused
	UnlinkedAt time.Time // the first look in a row that saw it unused and unlinked; zero: linked
	ChangedAt  time.Time // when its state last changed
	Failures   int
	NextTry    time.Time
	Problem    string // why the last order did not do it
}

// A CandidateSum counts the candidates of one state.
type CandidateSum struct {
	State CandidateState
	Blobs int64
	Bytes int64
}

// Returned counts blobs that were needed again after looks had seen them unused for a time: at
// most UpTo, and more than that of the element before. UpTo of the last element is 0: any time.
type Returned struct {
	UpTo   time.Duration
	Used   int64 // by a manifest
	Linked int64 // by a repository
}

// ReturnBuckets are the upper bounds of Returned.
var ReturnBuckets = []time.Duration{
	time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	24 * time.Hour, 48 * time.Hour, 96 * time.Hour, 168 * time.Hour, 336 * time.Hour, 720 * time.Hour,
}

// A Collection is the state of the garbage collection of blobs.
type Collection struct {
	Paused              bool
	PausedBy            string
	PausedAt            time.Time
	Looks               int64
	FirstLook, LastLook time.Time
	Observed            time.Duration // for which looks have been made without long gaps
	Does                string        // what the leader does, or why it deletes nothing
	Deleted             int64         // since the beginning
	DeletedBytes        int64
	Longest             time.Duration // after which a blob was needed again
	Sums                []CandidateSum
	Returns             []Returned  // nil if no blob was needed again
	Look                StorageLook // its Begin is zero before the first
}

// Of returns the sum of the candidates of a state.
func (c Collection) Of(state CandidateState) CandidateSum {
	for _, s := range c.Sums {
		if s.State == state {
			return s
		}
	}
	return CandidateSum{State: state}
}

// A CollectPolicy says when blobs may be deleted.
type CollectPolicy struct {
	Delete  bool
	Observe time.Duration // for which looks must have been made before
	Delay   time.Duration // for which every look must have seen that nothing uses or links a blob
	Trash   time.Duration // for which it then stays in the trash
}

// returnFactor is how many times the longest time after which a blob was needed again the delay
// must be: 4. It was chosen, not measured: the longest time of some weeks is not the longest
// ever.
const returnFactor = 4

// Refusal returns why nothing may be deleted, "" if it may.
func (p CollectPolicy) Refusal(c Collection) string {
	switch {
	case !p.Delete:
		return "the collection only looks: collect.delete is false"
	case c.Paused:
		return fmt.Sprintf("the collection was paused by %s", c.PausedBy)
	case c.Look.Begin.IsZero():
		return "the storage has not been looked at yet"
	case c.Look.Blind != "":
		return "the last look may not have seen all links: " + c.Look.Blind
	case c.Observed < p.Observe:
		return fmt.Sprintf("the storage has been looked at for %s, and collect.observe is %s",
			c.Observed.Round(time.Second), p.Observe)
	case p.Delay < returnFactor*c.Longest:
		return fmt.Sprintf("a blob was needed again after %s, so collect.delay must be at least %d times that, %s, and is %s",
			c.Longest.Round(time.Millisecond), returnFactor, (returnFactor * c.Longest).Round(time.Millisecond), p.Delay)
	}
	return ""
}
