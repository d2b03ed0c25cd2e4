package indexer

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// A ProtectedMove is a protected tag that somebody moved or deleted all the same, and what was
// done about it.
type ProtectedMove struct {
	Repository, Tag string
	Keeps           digest.Digest // what the tag must show
	Shows           digest.Digest // what it was seen to show; "": it was deleted
	State           string        // see ProtectedWaiting
	Tries           int           // operations that were to put it back, within a day
	SeenAt, EndedAt time.Time     // when it was last seen; when it was put back, zero: not yet
	Operation       int64         // the last operation
	Problem         string        // why it is not tried any more, or why the last operation failed
}

// The states of a ProtectedMove.
const (
	ProtectedWaiting = "waiting" // to be put back
	ProtectedDone    = "done"    // it shows what it must again, or is not protected any more
	ProtectedFailed  = "failed"  // it is not tried any more
)

// A ProtectionLevel is a way by which what is protected is kept, and whether it is active.
type ProtectionLevel struct {
	Name   string // token, front or put back
	Active bool
	Text   string // what it does, or why it is not active
}
