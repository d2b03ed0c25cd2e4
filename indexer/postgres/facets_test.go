package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/schema/schematest"
)

// Facets count all matches of the query, and report whether the counts are complete.
func TestFacets(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	names(t, s, "a/one", "a/two", "b/three", "four")
	want := []indexer.Facet{
		{Name: "namespace", Values: []indexer.FacetValue{{Value: "a", Count: 2}, {Value: "b", Count: 1}}},
		{Name: "os", Values: []indexer.FacetValue{{Value: "linux", Count: 4}}},
		{Name: "arch", Values: []indexer.FacetValue{{Value: "amd64", Count: 4}}},
		{Name: "type", Values: []indexer.FacetValue{{Value: "image", Count: 4}}},
		{Name: "label", Values: []indexer.FacetValue{{Value: "content", Count: 4}}},
	}
	view(t, s, func(v *postgres.View) error {
		got, err := v.Facets(t.Context(), query.Query{})
		if diff := cmp.Diff(indexer.Facets{Counted: 4, All: true, Facets: want}, got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		return err
	})
	view(t, s, func(v *postgres.View) error {
		got, err := v.Facets(t.Context(), query.Plain("four"))
		if got.Counted != 1 || !got.All || len(got.Facets) != 4 {
			t.Errorf("of one: %+v", got)
		}
		return err
	})
}

// If too many repositories match, facets count the best ones and report that.
func TestFacetsOfMany(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	const many = `
		WITH r AS (INSERT INTO repository (name) SELECT 'n' || g % 30 || '/r' || g FROM generate_series(1, $1) g RETURNING id, name)
		INSERT INTO repository_search (repository_id, name, basename, title, description, tags, updated_at, name_words, all_words)
		SELECT id, name, name, '', '', 1, now(), 'r', 'r' FROM r`
	const most = 10_000
	if _, err := pool.Exec(t.Context(), many, most+1); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "r"} {
		view(t, postgres.New(pool, postgres.Config{}), func(v *postgres.View) error {
			got, err := v.Facets(t.Context(), query.Plain(text))
			if got.Counted != most || got.All || len(got.Facets) != 1 || len(got.Facets[0].Values) != 20 || !got.Facets[0].Values[0].AtLeast {
				t.Errorf("%q: counted %d, all %v, %d facets", text, got.Counted, got.All, len(got.Facets))
			}
			return err
		})
	}
}

// If there are too many images, their counts are lower bounds and marked so; counts
// from the search rows of repositories are exact.
func TestFacetsOfManyImages(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	names(t, s, "a/few", "a/many")
	for _, q := range []string{
		`INSERT INTO manifest (repository_id, digest, media_type_id, kind, size, content_size)
			SELECT r.id, sha256(n::text::bytea), 1, 'image', 1, 1 FROM repository r, generate_series(1, 100000) AS n WHERE r.name = 'a/many'`,
		"ANALYZE manifest", // without it, each foreign key check reads the whole table
		`INSERT INTO image_search (repository_id, manifest_id, latest, tags, facts, size, pushed_at)
			SELECT repository_id, id, false, '{v}', '{os:linux,arch:amd64}', 1, now() FROM manifest m
			WHERE NOT EXISTS (SELECT FROM image_search i WHERE i.repository_id = m.repository_id AND i.manifest_id = m.id)`,
	} {
		if _, err := pool.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	for text, want := range map[string]indexer.FacetValue{
		"arch:amd64": {Value: "linux", Count: 1, AtLeast: true},
		"":           {Value: "linux", Count: 2},
	} {
		q, err := query.Parse(text, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		view(t, s, func(v *postgres.View) error {
			got, err := v.Facets(t.Context(), q)
			for _, f := range got.Facets {
				exact := f.Name == "namespace" || f.Name == "licence" || text == ""
				if f.Values[0].AtLeast == exact || f.Name == "os" && f.Values[0] != want {
					t.Errorf("%q: %+v", text, f)
				}
			}
			if len(got.Facets) < 4 || !got.All {
				t.Errorf("%q: %+v", text, got)
			}
			return err
		})
	}
}

// With a copy in memory, facets of conditions that only the database decides count all
// repositories, unless these have too many tags.
func TestFacetsOfManyRead(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{Memory: 1 << 30})
	const most, repositories = 1000, 1500
	var all []string
	for n := range repositories {
		all = append(all, fmt.Sprintf("n%d/r%d", n%3, n))
	}
	names(t, s, all...)
	q, err := query.Parse("tag:late*", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		tags, counted int // of each repository, of all
		all           bool
	}{{tags: 1, counted: repositories, all: true}, {tags: 34, counted: most}} {
		if _, err := pool.Exec(t.Context(), "UPDATE repository_search SET tags = $1", c.tags); err != nil {
			t.Fatal(err)
		}
		if err := s.CopyStep(t.Context()); err != nil {
			t.Fatal(err)
		}
		view(t, s, func(v *postgres.View) error {
			got, err := v.Facets(t.Context(), q)
			if err != nil {
				return err
			}
			linux := indexer.FacetValue{Value: "linux", Count: c.counted, AtLeast: !c.all}
			if got.Counted != c.counted || got.All != c.all || len(got.Facets) < 2 || got.Facets[1].Values[0] != linux {
				t.Errorf("%d tags each: %+v", c.tags, got)
			}
			return nil
		})
	}
}
