package postgres_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

func put(t *testing.T, s *postgres.Store, all ...indexer.Manifest) {
	t.Helper()
	for _, m := range all {
		store(t, s, m.Digest.String(), indexer.Finding{Task: indexer.Task{Repository: m.Repository}, Outcome: indexer.Found,
			Digest: m.Digest, Manifests: []indexer.Manifest{m}})
	}
}

func holding(t *testing.T, s *postgres.Store, asker indexer.Asker, of indexer.HoldingOf) (h indexer.Holding, err error) {
	t.Helper()
	err = s.View(t.Context(), asker, func(v *postgres.View) error {
		h, err = v.Holding(t.Context(), of)
		return err
	})
	return h, err
}

// Deleting an image index frees also what only it lists, and no image that a tag or
// another index needs. What is attached stays unless it is deleted too.
func TestHoldingOfIndex(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	only, tagged := heavy("app", map[string]int64{"only": 1, "base": 1 << 20}), heavy("app", map[string]int64{"tagged": 1 << 1})
	listed, other := heavy("app", map[string]int64{"listed": 1 << 2}), heavy("app", map[string]int64{"other": 1 << 3, "base": 1 << 20})
	deep := heavy("app", map[string]int64{"deep": 1 << 4})
	sbom, signature, kept := heavy("app", map[string]int64{"sbom": 1 << 5}), heavy("app", map[string]int64{"sig": 1 << 6}), heavy("app", map[string]int64{"kept": 1 << 7})
	sbom.Subject, signature.Subject, kept.Subject = only.Digest, sbom.Digest, only.Digest
	inner := indexOf("app", deep)
	index := indexOf("app", only, tagged, listed, inner)
	put(t, s, only, tagged, listed, other, deep, sbom, signature, kept, inner)
	setTag(t, s, "v1", index)
	setTag(t, s, "latest", index)
	setTag(t, s, "amd64", tagged)
	setTag(t, s, "kept", kept)
	setTag(t, s, "v2", indexOf("app", listed, other))

	got, err := holding(t, s, indexer.Everyone, indexer.HoldingOf{Reference: indexer.Reference{Repository: "app", Tag: "v1"}})
	if err != nil {
		t.Fatal(err)
	}
	m := got.Manifest
	if m == nil || m.Digest != index.Digest || !cmp.Equal(m.Tags, []string{"latest", "v1"}) || m.ListedBy != 0 || m.Attached != 2 {
		t.Fatalf("got manifest %+v", m)
	}
	if got.Own != 1+1<<1+1<<2+1<<4 || got.Shared != 1<<20 {
		t.Errorf("the index with all that it lists: own %b, shared %b", got.Own, got.Shared)
	}
	goes := index.Size + only.Size + inner.Size + deep.Size
	if f := got.Frees; f.Frees != 1+1<<4+goes || f.Manifests != 4 || f.Shared != 1<<20 || !f.Known() {
		t.Errorf("with what only it needs: got %+v, want %d bytes", f, 1+1<<4+goes)
	}
	if f := m.Alone; f.Frees != index.Size || f.Manifests != 1 {
		t.Errorf("alone: got %+v, want %d", f, index.Size)
	}
	if f := m.All; f.Frees != 1+1<<4+1<<5+1<<6+goes+sbom.Size+signature.Size || f.Manifests != 6 {
		t.Errorf("with what is attached: got %+v", f)
	}

	child, err := holding(t, s, indexer.Everyone, indexer.HoldingOf{Reference: indexer.Reference{Repository: "app", Digest: listed.Digest}})
	// The two indexes still name it, so its own bytes stay, but not its layer's.
	if err != nil || child.Manifest.ListedBy != 2 || child.Frees.Frees != 1<<2 || child.Frees.Shared != listed.Size {
		t.Errorf("an image of two indexes: got %+v, %v", child, err)
	}
}

// A repository and a namespace free what nothing outside of them uses. Who sees a part
// is told what would be freed at most, which does not depend on the rest.
func TestHoldingOfAll(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	a := heavy("team/a", map[string]int64{"base": 1000, "team": 500, "a": 30})
	b := heavy("team/b", map[string]int64{"base": 1000, "team": 500, "b": 4})
	put(t, s, a, b, heavy("teams", map[string]int64{"base": 1000, "x": 9}), heavy("hidden/c", map[string]int64{"a": 30}))
	team, none := "team", ""
	part := indexer.AskerOf(indexer.VisibleNames("team/*"))
	of := func(name string) indexer.HoldingOf {
		return indexer.HoldingOf{Reference: indexer.Reference{Repository: name}}
	}
	for name, test := range map[string]struct {
		asker              indexer.Asker
		of                 indexer.HoldingOf
		own, shared, frees int64
	}{
		"repository":        {indexer.Everyone, of("team/b"), 4, 1500, 4 + b.Size},
		"namespace":         {indexer.Everyone, indexer.HoldingOf{Namespace: &team}, 504, 1030, 504 + a.Size + b.Size},
		"part, repository":  {part, of("team/a"), 30, 1500, 30 + a.Size},
		"part, namespace":   {part, indexer.HoldingOf{Namespace: &team}, 1534, 0, 1534 + a.Size + b.Size},
		"without namespace": {indexer.Everyone, indexer.HoldingOf{Namespace: &none}, 9, 1000, 0},
	} {
		got, err := holding(t, s, test.asker, test.of)
		if test.frees == 0 {
			test.frees = got.Frees.Frees
		}
		if err != nil || got.Own != test.own || got.Shared != test.shared || got.Frees.Frees != test.frees || got.Frees.Part != (test.asker == part) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, test)
		}
	}
	hidden := "hidden"
	for _, of := range []indexer.HoldingOf{of("hidden/c"), of("no"), {Namespace: &hidden}, {Namespace: &none},
		{Reference: indexer.Reference{Repository: "hidden/c", Digest: a.Digest}}} {
		if _, err := holding(t, s, part, of); !errors.Is(err, indexer.ErrNotFound) {
			t.Errorf("%+v is not hidden: %v", of, err)
		}
	}
}
