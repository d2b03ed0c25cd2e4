package indexer

import (
	"encoding/json"
	"time"

	"github.com/opencontainers/go-digest"
)

// An OperationKind says what an operation changes.
type OperationKind string

// The kinds of operations.
const (
	Untag            OperationKind = "untag"
	DeleteManifest   OperationKind = "delete-manifest"
	DeleteRepository OperationKind = "delete-repository"
	Restore          OperationKind = "restore"
	Rollback         OperationKind = "rollback"
	ApplyPlan        OperationKind = "apply-plan"
	PutBack          OperationKind = "put-back" // of a protected tag that was moved or deleted
)

// OperationKinds are all kinds, in the order in which they are documented.
var OperationKinds = []OperationKind{Untag, DeleteManifest, DeleteRepository, Restore, Rollback, ApplyPlan, PutBack}

// An OperationState says how far an operation is.
type OperationState string

// The states of an operation.
const (
	OperationWaiting OperationState = "waiting" // for another one of its repository, for a writer, or to be tried again
	OperationRunning OperationState = "running"
	OperationDone    OperationState = "done"
	OperationFailed  OperationState = "failed"
)

// An Operation is one change of what the registry stores, which somebody asked for.
type Operation struct {
	ID         int64
	Kind       OperationKind
	Repository string        // "": several
	Tag        string        // of an Untag or a Rollback
	Digest     digest.Digest // what the tag must still show, to delete or to put back; "": see the kind
	Options    OperationOptions

	Actor, Token, Source, Request string // who asked: see access.Actor and access.Record

	State                         OperationState
	Done, Total                   int    // how much of it is done
	Error                         string // why it failed, or why the last attempt did; for people
	Result                        OperationResult
	CreatedAt, StartedAt, EndedAt time.Time // zero: not yet

	Attempts, Claims int
}

// Ended reports whether the operation is over.
func (o Operation) Ended() bool { return o.State == OperationDone || o.State == OperationFailed }

// OperationOptions are what else was asked for. Each kind uses some of them.
type OperationOptions struct {
	Referrers bool            `json:"referrers,omitempty"` // delete-manifest: what refers to it goes too
	Children  bool            `json:"children,omitempty"`  // delete-manifest: the manifests of an index go too, unless needed
	Tags      []string        `json:"tags,omitempty"`      // delete-manifest: all tags that the caller knows to show it; nil: any
	Shows     digest.Digest   `json:"shows,omitempty"`     // rollback: what the tag must still show; "": anything
	Move      int64           `json:"move,omitempty"`      // rollback: the entry of the history to go back to
	Trash     []int64         `json:"trash,omitempty"`     // restore: what to put back
	Undo      int64           `json:"undo,omitempty"`      // restore: the operation whose deletions are put back
	Plan      int64           `json:"plan,omitempty"`      // apply-plan, or a restore that undoes one: its number
	Permitted bool            `json:"permitted,omitempty"` // the actor had to have a right, and must have it still
	More      json.RawMessage `json:"more,omitempty"`      // of kinds elsewhere
}

// MaxNotes is the maximum number of notes of an operation: 100. They say what was different
// from what was asked for, which people read.
const MaxNotes = 100

// An OperationResult says what an operation changed.
type OperationResult struct {
	Untagged int             `json:"untagged"` // tags that were deleted
	Deleted  int             `json:"deleted"`  // manifests that were deleted
	Restored int             `json:"restored"` // manifests that were put into the registry
	Tagged   int             `json:"tagged"`   // tags that were created or moved
	PutBack  int             `json:"put_back"` // of the deleted: put back, because somebody pushed them meanwhile
	Notes    []string        `json:"notes,omitempty"`
	Failure  string          `json:"failure,omitempty"` // the kind of error of a failed one
	More     json.RawMessage `json:"more,omitempty"`    // of kinds elsewhere
}

// An OperationQuery selects operations, the latest first.
type OperationQuery struct {
	Repository, Actor string        // "": any
	Kind              OperationKind // "": any
	State             OperationState
	Before            int64 // only those with a smaller id; 0: all
	Limit             int
}

// A Trash is a manifest that an operation deleted, or is about to, or of which it deleted tags.
type Trash struct {
	ID         int64
	Operation  int64
	Repository string
	Digest     digest.Digest
	MediaType  string // "" if the registry did not say
	Tags       []string
	TagsOnly   bool   // only the tags are gone: the manifest stayed, or came back under another one
	Size       int64  // bytes of the body
	Body       []byte // nil except to store it
	KeptAt     time.Time
	DeletedAt  time.Time // zero: the registry still has it, as far as we know
	RestoredAt time.Time // zero: it was not put back
}

// A TrashQuery selects what can be restored, the latest first.
type TrashQuery struct {
	Repository string // "": any
	Operation  int64  // 0: any
	Before     int64  // only those with a smaller id; 0: all
	Limit      int
}

// An Effect is what an operation would do now.
type Effect struct {
	Operation Operation
	Deletes   []Effected // manifests that would be deleted, the first 1,000
	Manifests int        // how many they are
	Untags    []string   // tags that would be deleted, sorted
	Stays     []Effected // manifests that stay though they belong to it, with the reason
	Puts      []Effected // manifests that would be put back
	Tags      []TagMove  // tags that would be created or moved
	Missing   []Missing  // blobs and manifests that would be needed and are gone
	Refused   []string   // why it would be refused; none: it would be done
	Own       int64      // bytes that only the deleted manifests use; -1: unknown
	Shared    int64      // bytes that others use too; -1: unknown
}

// An Effected is a manifest that an operation changes, or not.
type Effected struct {
	Digest    digest.Digest
	Kind      Kind
	MediaType string
	Tags      []string // that show it
	Why       string   // in words
}

// A TagMove is a tag that would show another digest.
type TagMove struct {
	Tag      string
	From, To digest.Digest // From is "" if the tag does not exist now
}

// A Missing is something that is needed to put a manifest back, and that the registry lacks.
type Missing struct {
	Digest digest.Digest
	Of     digest.Digest // the manifest that needs it
	What   string        // "blob" or "manifest"
}

// Target returns what the operation is about: a tag, a manifest, a repository or a number.
func (o Operation) Target() string {
	switch {
	case o.Tag != "":
		return o.Repository + ":" + o.Tag
	case o.Digest != "" && o.Repository != "":
		return o.Repository + "@" + o.Digest.String()
	}
	return o.Repository
}
