package search_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// SQL writes facts of each kind that the Go code knows, and no others; and each stored
// fact, as a term of the query language, finds the repository that has it.
func TestStoredFacts(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	labelled := made("team/labels", "linux/amd64", 1, 1, "2026-01-01", "a=b", "c", "org.opencontainers.image.licenses", "MIT")
	s.Find("team/labels", "v1", labelled)
	stored := func(q string) (facts []indexer.Fact) {
		var err error
		if facts, err = pg.Column[indexer.Fact](t.Context(), s.Pool, q); err != nil {
			t.Fatal(err)
		}
		return facts
	}
	kinds := func(facts []indexer.Fact) []indexer.FactKind {
		all := map[indexer.FactKind]bool{}
		for _, f := range facts {
			all[f.Kind()] = true
		}
		return slices.Sorted(maps.Keys(all))
	}
	known := func(stored func(indexer.FactKind) bool) []indexer.FactKind {
		return slices.Sorted(slices.Values(slices.DeleteFunc(indexer.FactKinds(), func(k indexer.FactKind) bool { return !stored(k) })))
	}
	images := stored("SELECT DISTINCT unnest(facts) FROM image_search")
	if diff := cmp.Diff(known(indexer.FactKind.OfImage), kinds(images)); diff != "" {
		t.Errorf("facts of images (-known +stored):\n%s", diff)
	}
	all := stored("SELECT DISTINCT unnest(facts) FROM repository_search")
	if diff := cmp.Diff(known(func(k indexer.FactKind) bool { return k != indexer.FactNamespace }), kinds(all)); diff != "" {
		t.Errorf("facts of repositories (-known +stored):\n%s", diff)
	}
	for _, f := range all {
		term, ok := query.FieldTerm(string(f.Kind()), f.Value())
		if !ok {
			t.Errorf("no term asks for %s", f)
			continue
		}
		names, err := pg.Column[string](t.Context(), s.Pool, "SELECT name FROM repository_search WHERE $1 = ANY(facts) ORDER BY name", string(f))
		if err != nil {
			t.Fatal(err)
		}
		s.Finds(term, names...)
	}
}
