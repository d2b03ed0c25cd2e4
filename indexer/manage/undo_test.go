package manage_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/registry/registrytest"
)

// readOnly starts the registry again, without deletions.
func (s *site) readOnly() {
	s.registry = registrytest.Start(s.t, registrytest.Config{
		Root: s.registry.Root, Configure: func(c *configuration.Configuration) { c.Storage["delete"]["enabled"] = false },
	})
}

// history returns the moves of a tag, the latest first.
func (s *site) history(repository, tag string) (moves []indexer.Move) {
	s.t.Helper()
	err := s.store.View(s.t.Context(), indexer.Everyone, func(v *postgres.View) (err error) {
		moves, err = v.History(s.t.Context(), repository, tag, 0, 100)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return moves
}

// A tag is rolled back to each entry of its history, also to one whose manifest was deleted,
// and from there forward again.
func TestRollback(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one := s.image("team/app", "one", "latest")
	two := s.image("team/app", "two", "latest")
	moves := s.history("team/app", "latest")
	if len(moves) != 2 || moves[1].To != one.Digest {
		t.Fatalf("%+v", moves)
	}
	o := indexer.Operation{Kind: indexer.Rollback, Repository: "team/app", Tag: "latest"}
	o.Options.Move, o.Options.Shows = moves[1].ID, one.Digest
	s.refused(o, indexer.ErrConflict, "team/app:latest shows "+two.Digest.String()+" now")
	o.Options.Shows = two.Digest
	e, err := s.manager.Preview(t.Context(), o)
	if err != nil || len(e.Tags) != 1 || e.Tags[0] != (indexer.TagMove{Tag: "latest", From: two.Digest, To: one.Digest}) {
		t.Errorf("%+v, %v", e, err)
	}
	s.do(o)
	s.shows("team/app", "latest", one.Digest)
	if got := s.history("team/app", "latest"); len(got) != 3 || got[0].To != one.Digest {
		t.Errorf("%+v", got)
	}
	// The manifest of the other entry is deleted; the trash has its bytes.
	s.do(indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: two.Digest})
	s.gone("team/app", two.Digest)
	o.Options.Move, o.Options.Shows = moves[0].ID, ""
	s.do(o)
	s.shows("team/app", "latest", two.Digest)
	o.Options.Move = 1 << 40
	s.refused(o, indexer.ErrNotFound, "no such entry")
	s.do(indexer.Operation{Kind: indexer.Untag, Repository: "team/app", Tag: "latest"})
	o.Options.Move = s.history("team/app", "latest")[0].ID
	s.refused(o, indexer.ErrConflict, "is a deletion")
	o.Options.Move, o.Digest = 0, one.Digest // a tag that was deleted can be put back too
	s.do(o)
	s.shows("team/app", "latest", one.Digest)
}

// What cannot be put back, because a blob is gone, is refused with the name of the blob.
func TestMissingBlob(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one, two := s.image("team/app", "one", "latest"), s.image("team/app", "two", "latest")
	deleted := s.do(indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: one.Digest})
	trash, err := s.store.Trash(t.Context(), indexer.TrashQuery{Repository: "team/app", Limit: 10})
	if err != nil || len(trash) != 1 || trash[0].Digest != one.Digest || trash[0].Operation != deleted.ID {
		t.Fatalf("%+v, %v", trash, err)
	}
	config := s.config("team/app", one.Digest)
	if err := s.remote.DeleteBlob(t.Context(), "team/app", config); err != nil {
		t.Fatal(err)
	}
	o := indexer.Operation{Kind: indexer.Rollback, Repository: "team/app", Tag: "latest", Digest: one.Digest}
	e, err := s.manager.Preview(t.Context(), o)
	if err != nil || len(e.Missing) != 1 || e.Missing[0] != (indexer.Missing{Digest: config, Of: one.Digest, What: "blob"}) {
		t.Errorf("%+v, %v", e, err)
	}
	s.refused(o, indexer.ErrConflict, "no longer has the blob "+config.String())
	s.refused(indexer.Operation{
		Kind: indexer.Restore, Repository: "team/app", Options: indexer.OperationOptions{Trash: []int64{trash[0].ID}},
	}, indexer.ErrConflict, config.String())
	s.shows("team/app", "latest", two.Digest)
	// If another repository has the blob, it is mounted from there.
	s.image("team/other", "one", "latest")
	s.do(o)
	s.shows("team/app", "latest", one.Digest)
	if err := s.remote.HasBlob(t.Context(), "team/app", config); err != nil {
		t.Error(err)
	}
}

// config returns the digest of the config of an image that is in the trash.
func (s *site) config(repository string, d digest.Digest) digest.Digest {
	s.t.Helper()
	_, body, err := s.store.TrashBody(s.t.Context(), repository, d)
	if err != nil {
		s.t.Fatal(err)
	}
	var m struct {
		Config struct{ Digest digest.Digest }
	}
	decode(s.t, body, &m)
	return m.Config.Digest
}

// Of several, those are restored that can be, and the tags that show something else stay.
func TestRestoreWhatCanBe(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one, two := s.image("team/app", "one", "v1"), s.image("team/app", "two", "v2")
	done := s.do(indexer.Operation{Kind: indexer.DeleteRepository, Repository: "team/app"})
	lost := s.config("team/app", two.Digest)
	if err := s.remote.DeleteBlob(t.Context(), "team/app", lost); err != nil {
		t.Fatal(err)
	}
	three := s.image("team/app", "three", "v1")
	restored := s.do(indexer.Operation{Kind: indexer.Restore, Repository: "team/app", Options: indexer.OperationOptions{Undo: done.ID}})
	s.shows("team/app", "v1", three.Digest)
	if !s.has("team/app", one.Digest.String()) || s.has("team/app", two.Digest.String()) || len(restored.Result.Notes) != 2 {
		t.Errorf("%+v", restored)
	}
}

// A tag that cannot be read goes with its repository.
func TestBrokenTag(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.image("team/app", "one", "v1", "broken")
	link := filepath.Join(s.registry.Root, "docker/registry/v2/repositories/team/app/_manifests/tags/broken/current/link")
	if err := os.WriteFile(link, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.do(indexer.Operation{Kind: indexer.DeleteRepository, Repository: "team/app"})
	if tags, err := s.remote.Tags(t.Context(), "team/app"); err == nil && len(tags) > 0 || err != nil && !errors.Is(err, indexer.ErrNotFound) {
		t.Errorf("%q, %v", tags, err)
	}
}

// What comes back under another tag does not take the deleted tags out of the trash.
func TestUndoAfterRollback(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	one := s.image("team/app", "one", "v1", "v2")
	deleted := s.do(indexer.Operation{Kind: indexer.DeleteManifest, Repository: "team/app", Digest: one.Digest})
	s.do(indexer.Operation{Kind: indexer.Rollback, Repository: "team/app", Tag: "x", Digest: one.Digest})
	trash, err := s.store.Trash(t.Context(), indexer.TrashQuery{Repository: "team/app", Limit: 10})
	if err != nil || len(trash) != 1 || !trash[0].TagsOnly {
		t.Errorf("%+v, %v", trash, err)
	}
	s.do(indexer.Operation{Kind: indexer.Restore, Repository: "team/app", Options: indexer.OperationOptions{Undo: deleted.ID}})
	for _, tag := range []string{"v1", "v2", "x"} {
		s.shows("team/app", tag, one.Digest)
	}
	if trash, err = s.store.Trash(t.Context(), indexer.TrashQuery{Limit: 10}); err != nil || len(trash) > 0 {
		t.Errorf("%+v, %v", trash, err)
	}
}
