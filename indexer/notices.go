package indexer

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Notices are what people must know of a repository besides its content: what was taken back,
// and what must stay as it is.
type Notices struct {
	Yanks []Yank          // in order of tag and digest
	Kept  []Kept          // those of the widest pattern first
	Moves []ProtectedMove // the latest first
}

// A Kept is a protection that selects a repository, as everybody may read it.
type Kept struct {
	Kind    string // protect, freeze or quota
	Pattern string // of repositories
	Tags    string // for protect: a glob
	Bytes   int64  // for quota
	Holds   bool   // for quota: whether it is used up, so that nothing is pushed
	Text    string // what it does, in words
	Since   time.Time
}

// Deprecated returns the yank that deprecates the repository, nil if it is not.
func (n Notices) Deprecated() *Yank { return n.yank(func(y Yank) bool { return y.Deprecated }) }

// Yanked returns the yank of the whole repository, nil if there is none.
func (n Notices) Yanked() *Yank { return n.Of("", "") }

// Of returns why a tag that shows a digest is yanked: by its name, by its digest, or as all of
// the repository. It is nil if it is not yanked.
func (n Notices) Of(tag string, d digest.Digest) *Yank {
	return n.yank(func(y Yank) bool {
		return !y.Deprecated && (y.Tag == "" && y.Digest == "" || y.Tag != "" && y.Tag == tag || y.Digest != "" &&
			y.Digest == d)
	})
}

func (n Notices) yank(is func(Yank) bool) *Yank {
	for i := range n.Yanks {
		if is(n.Yanks[i]) {
			return &n.Yanks[i]
		}
	}
	return nil
}

// Protects reports whether a tag is protected.
func (n Notices) Protects(tag string) bool {
	for _, k := range n.Kept {
		if k.Kind == "protect" && MatchGlob(k.Tags, tag) {
			return true
		}
	}
	return false
}

// Restrict returns the protections of the whole repository that hold now: it is frozen, or over
// its quota.
func (n Notices) Restrict() (all []Kept) {
	for _, k := range n.Kept {
		if k.Kind == "freeze" || k.Holds {
			all = append(all, k)
		}
	}
	return all
}

// Moved returns what is noted about a protected tag that is not back, nil if there is nothing.
func (n Notices) Moved(tag string) *ProtectedMove {
	for i := range n.Moves {
		if n.Moves[i].Tag == tag && n.Moves[i].State != ProtectedDone {
			return &n.Moves[i]
		}
	}
	return nil
}
