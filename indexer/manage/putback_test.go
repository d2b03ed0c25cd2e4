package manage_test

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/manage"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/registry/push"
)

// guarded opens a site whose Manager asks the store what is protected, as in the program.
func guarded(t *testing.T) *site {
	t.Helper()
	return open(t, func(c *manage.Config) { c.Protected = c.Store.Protected })
}

// protect protects tags of all repositories of team, or freezes them for "".
func (s *site) protect(tags string) access.Protection {
	s.t.Helper()
	pattern, err := access.ParsePattern("team/*")
	if err != nil {
		s.t.Fatal(err)
	}
	p := access.Protection{Kind: access.Protect, Pattern: pattern, Tags: tags}
	if tags == "" {
		p.Kind = access.Freeze
	}
	if err := s.store.AddProtection(s.ctx, p); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// moves returns what is noted about the protected tags of team/app, by tag.
func (s *site) moves() map[string]indexer.ProtectedMove {
	s.t.Helper()
	all := map[string]indexer.ProtectedMove{}
	err := s.store.View(s.t.Context(), indexer.Everyone, func(v *postgres.View) error {
		n, err := v.Notices(s.t.Context(), "team/app")
		for _, m := range n.Moves {
			all[m.Tag] = m
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

// hurry makes operations due that wait before the next try.
func (s *site) hurry() {
	s.t.Helper()
	const now = "UPDATE operation SET run_after = now() WHERE ended_at IS NULL AND run_after > now()"
	if _, err := s.pool.Exec(s.t.Context(), now); err != nil {
		s.t.Fatal(err)
	}
}

// back waits until a protected tag of team/app was moved or deleted, and shows a digest again.
func (s *site) back(tag string, want digest.Digest) {
	s.t.Helper()
	s.until(func() bool {
		s.hurry()
		m := s.moves()[tag]
		return m.State == indexer.ProtectedDone && m.Problem == ""
	})
	s.shows("team/app", tag, want)
}

// A protected tag that somebody moves or deletes in the registry itself is put back: also if
// its manifest was deleted, and those that it lists. The log says so. Tags that are not
// protected, and new ones, stay as they were pushed.
func TestProtectedTagsArePutBack(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	one, two := s.image("team/app", "one", "v1", "v2", "latest"), s.image("team/app", "two", "other")
	s.protect("v*")
	s.image("team/app", "two", "v1", "latest", "v3")
	s.back("v1", one.Digest)
	s.shows("team/app", "latest", two.Digest)
	s.shows("team/app", "v3", two.Digest)

	for _, reference := range []string{"v2", one.Digest.String()} {
		if err := s.push.Delete(t.Context(), "team/app", reference); err != nil {
			t.Fatal(err)
		}
		s.until(func() bool { s.hurry(); return s.moves()["v2"].Tag != "" && s.has("team/app", "v2") })
		s.back("v2", one.Digest)
	}
	s.back("v1", one.Digest)
	for event, least := range map[access.Event]int{access.ProtectionBreak: 4, access.ProtectionRestore: 4} {
		records, err := s.store.Audit(t.Context(), access.AuditQuery{Event: event, Repository: "team/app", Limit: 10})
		if err != nil || len(records) < least {
			t.Errorf("%s: %d records, %v; want %d", event, len(records), err, least)
		}
	}

	// Nothing of ours moves or deletes it either.
	s.refused(indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "v1"}, indexer.ErrConflict, "are protected")
	s.refused(indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: one.Digest}, indexer.ErrConflict,
		"are protected")
	// Nobody moves a protected tag by asking for that.
	o := indexer.Operation{Kind: indexer.PutBack, Repository: "team/app", Tag: "v1", Digest: digest.FromString("x")}
	if o, err := s.manager.Do(s.ctx, o); !errors.Is(err, indexer.ErrInvalid) {
		t.Errorf("somebody asks to put a tag back: %+v, %v", o, err)
	}
}

// In a frozen repository all tags are put back, and nothing is deleted, not even what no tag
// shows.
func TestFrozenRepositoriesArePutBack(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	one, untagged := s.image("team/app", "one", "latest"), s.image("team/app", "untagged")
	p := s.protect("")
	s.refused(indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: untagged.Digest}, indexer.ErrConflict,
		"is frozen")
	two := s.image("team/app", "two", "latest")
	s.back("latest", one.Digest)
	if err := s.store.RemoveProtection(s.ctx, p); err != nil {
		t.Fatal(err)
	}
	s.image("team/app", "two", "latest")
	s.shows("team/app", "latest", two.Digest)
	s.do(indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: untagged.Digest})
}

// A program that moves a protected tag again and again does not fight with us for ever.
func TestPutBackGivesUp(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	one := s.image("team/app", "one", "v1")
	s.protect("v1")
	s.until(func() bool {
		desc, _, err := s.push.Fetch(t.Context(), "team/app", "v1")
		if err != nil {
			t.Fatal(err)
		}
		m := s.moves()["v1"]
		if desc.Digest == one.Digest && (m.Tag == "" || m.State == indexer.ProtectedDone) {
			s.image("team/app", "two", "v1")
		}
		s.hurry()
		return m.State == indexer.ProtectedFailed
	})
	var n int
	if err := s.pool.QueryRow(t.Context(), "SELECT count(*) FROM operation WHERE kind = 'put-back'").Scan(&n); err != nil || n != 5 {
		t.Errorf("%d operations, %v, want 5", n, err)
	}
	// An operator who removes what is protected, or puts it back, ends it.
	if _, err := s.push.Image(t.Context(), "team/app", "v1", push.ImageSpec{Labels: map[string]string{"content": "one"}}); err != nil {
		t.Fatal(err)
	}
	s.back("v1", one.Digest)
}
