package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// Facets count what the query selects, and say if that is all.
func TestFacets(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t))
	names(t, s, "a/one", "a/two", "b/three", "four")
	want := []indexer.Facet{
		{Name: "namespace", Values: []indexer.FacetValue{{Value: "a", Count: 2}, {Value: "b", Count: 1}}},
		{Name: "os", Values: []indexer.FacetValue{{Value: "linux", Count: 4}}},
		{Name: "arch", Values: []indexer.FacetValue{{Value: "amd64", Count: 4}}},
		{Name: "type", Values: []indexer.FacetValue{{Value: "image", Count: 4}}},
		{Name: "label", Values: []indexer.FacetValue{{Value: "content", Count: 4}}},
	}
	view(t, s, func(v *postgres.View) error {
		got, err := v.Facets(t.Context(), indexer.Query{})
		if diff := cmp.Diff(indexer.Facets{Counted: 4, All: true, Facets: want}, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		return err
	})
	view(t, s, func(v *postgres.View) error {
		got, err := v.Facets(t.Context(), indexer.PlainQuery("four"))
		if got.Counted != 1 || !got.All || len(got.Facets) != 4 {
			t.Errorf("of one: %+v", got)
		}
		return err
	})
}

// Beyond so many, facets are of the best, and say so.
func TestFacetsOfMany(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	const many = `
		WITH r AS (INSERT INTO repository (name) SELECT 'n' || g % 30 || '/r' || g FROM generate_series(1, $1) g RETURNING id, name)
		INSERT INTO repository_search (repository_id, name, basename, title, description, tags, updated_at, name_words, all_words)
		SELECT id, name, name, '', '', 1, now(), 'r', 'r' FROM r`
	if _, err := pool.Exec(t.Context(), many, indexer.MaxFaceted+1); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "r"} {
		view(t, postgres.New(pool), func(v *postgres.View) error {
			got, err := v.Facets(t.Context(), indexer.PlainQuery(text))
			if got.Counted != indexer.MaxFaceted || got.All || len(got.Facets) != 1 || len(got.Facets[0].Values) != 20 {
				t.Errorf("%q: counted %d, all %v, %d facets", text, got.Counted, got.All, len(got.Facets))
			}
			return err
		})
	}
}
