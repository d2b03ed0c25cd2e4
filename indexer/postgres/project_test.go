package postgres_test

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

// held returns what a store tells of a repository of a project.
func held(t *testing.T, s *postgres.Store, name string) (r indexer.HeldRepository, tags []indexer.HeldTag) {
	t.Helper()
	view(t, s, func(v *postgres.View) (err error) {
		if r, err = v.Held(t.Context(), name); err == nil {
			tags, err = v.HeldTags(t.Context(), name, 10)
		}
		return err
	})
	return r, tags
}

// A tag that is pushed again comes first, though it does not move; the manifests stay as they
// are. A scan that sees the tag again changes nothing.
func TestPushedAgain(t *testing.T) {
	t.Parallel()
	shelf := newShelf(t)
	s := postgres.New(shelf.Pool, postgres.Config{})
	one, two := made("acme/app", "linux/amd64", 1, 1, "2026-01-01"), made("acme/app", "linux/amd64", 2, 1, "2026-01-01")
	push := func(tag string, m indexer.Manifest, p indexer.Priority) {
		t.Helper()
		ask := indexer.Ask{Repository: "acme/app", Reference: indexer.TagOrDigest(tag), Priority: p}
		if p == indexer.PriorityEvent {
			ask.Hint = m.Digest
		}
		must(t, s.Ask(t.Context(), []indexer.Ask{ask}))
		tasks, err := s.Claim(t.Context(), indexer.PriorityConfirm, 10, time.Minute)
		must(t, err)
		for _, task := range tasks {
			must(t, s.Apply(t.Context(), []indexer.Finding{{Task: task, Manifests: []indexer.Manifest{m}, Outcome: indexer.Found, Digest: m.Digest}}))
		}
	}
	first := func() string {
		_, tags := held(t, s, "acme/app")
		return tags[0].Tag
	}
	push("a", one, indexer.PriorityEvent)
	push("b", two, indexer.PriorityEvent)
	if got := first(); got != "b" {
		t.Fatalf("%s is first", got)
	}
	// An event of the last 10 ms may be the same one, read twice.
	_, err := shelf.Pool.Exec(t.Context(), "UPDATE tag SET moved_at = moved_at - interval '1 min', pushed_at = pushed_at - interval '1 min'")
	must(t, err)
	push("a", one, indexer.PriorityEvent)
	if got := first(); got != "a" {
		t.Errorf("after the second push of a, %s is first", got)
	}
	push("b", two, indexer.PriorityScan)
	if got := first(); got != "a" {
		t.Errorf("after a scan, %s is first", got)
	}
}

// The size of a repository has its loose blobs, until the repository is deleted; that of a project
// goes to 0.
func TestSizeOfLooseBlobs(t *testing.T) {
	t.Parallel()
	shelf := newShelf(t)
	ctx, s := t.Context(), postgres.New(shelf.Pool, postgres.Config{})
	m := made("acme/app", "linux/amd64", 1, 1, "2026-01-01")
	shelf.Find("acme/app", "v1", m)
	storage := func() indexer.ProjectStorage {
		t.Helper()
		_, err := s.PruneLoose(ctx, true)
		must(t, err)
		_, err = s.CountStorage(ctx)
		must(t, err)
		_, err = s.CountProjects(ctx)
		must(t, err)
		var p indexer.ProjectStorage
		view(t, s, func(v *postgres.View) (err error) { p, err = v.ProjectStorage(ctx, "acme"); return err })
		return p
	}
	r, _ := held(t, s, "acme/app")
	whole := r.Size
	if whole == 0 || storage().Size != whole {
		t.Fatalf("the size is %d, of the project %d", whole, storage().Size)
	}
	must(t, s.ReceiveBlobs(ctx, []indexer.BlobEvent{
		{Repository: "acme/app", Digest: digest.FromString("loose"), Size: 7}, {Repository: "acme/app", Digest: m.Layers[0].Digest, Size: 5},
		{Repository: "acme/app", Digest: digest.FromString("only pulled"), Size: 9, Pull: true},
		{Repository: "acme/uploads", Digest: digest.FromString("loose"), Size: 7},
	}))
	if r, _ := held(t, s, "acme/app"); r.Size != whole+7 || storage().Size != whole+7 {
		t.Errorf("with a loose blob the size is %d, of the project %d; want %d", r.Size, storage().Size, whole+7)
	}
	gone := func(reference indexer.TagOrDigest) {
		t.Helper()
		must(t, s.Ask(ctx, []indexer.Ask{{Repository: "acme/app", Reference: reference}}))
		tasks, err := s.Claim(ctx, indexer.PriorityConfirm, 10, time.Minute)
		must(t, err)
		for _, task := range tasks {
			must(t, s.Apply(ctx, []indexer.Finding{{Task: task, Outcome: indexer.Gone}}))
		}
	}
	gone("v1")
	gone(indexer.TagOrDigest(m.Digest))
	if r, tags := held(t, s, "acme/app"); r.Size != whole+7 || len(tags) != 0 || storage().Size != whole+7 {
		t.Errorf("after the deletion the size is %d, of the project %d; want %d", r.Size, storage().Size, whole+7)
	}
	must(t, s.UnlistLoose(ctx, "acme/app"))
	if p := storage(); p.Size != 0 || p.UpdatedAt.IsZero() {
		t.Errorf("of the empty project: %+v", p)
	}
}
