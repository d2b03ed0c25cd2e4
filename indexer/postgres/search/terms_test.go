package search_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
	"github.com/portbook/portbook/indexer/postgres/search"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/schema/schematest"
)

// A label is found whether the row of its repository has its values, or they or the
// keys are too many.
func TestManyLabels(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	for i := range search.MaxValues + 3 {
		s.Find("a/many", fmt.Sprint("v", i), made("a/many", "linux/amd64", 1, 1, "2026-01-01", "build", fmt.Sprint(i), "team", "red"))
	}
	for i := range search.MaxValues {
		s.Find("b/some", fmt.Sprint("v", i), made("b/some", "linux/amd64", 1, 1, "2026-01-01", "build", fmt.Sprint(i), "team", "blue"))
	}
	var keys []string
	for i := range search.MaxKeys + 1 {
		keys = append(keys, fmt.Sprint("key", i), fmt.Sprint("value", i))
	}
	s.Find("c/keys", "v1", made("c/keys", "linux/arm64", 1, 1, "2026-01-01", append(keys, "team", "red")...))
	const many, some, wide = "a/many", "b/some", "c/keys"
	last := fmt.Sprint(search.MaxValues + 2)
	for query, want := range map[string][]string{
		"label:build=1":                            {many, some},
		"label:build=" + last:                      {many},
		"label:build=99":                           nil,
		"label:build":                              {many, some},
		"label:build=1 label:team=red":             {many},
		"label:build=1 label:build=2":              nil, // true of two images, not of one
		"label:team=red":                           {many, wide},
		"label:team=red platform:linux/arm64":      {wide},
		"label:key7=value7":                        {wide},
		"label:key7=value8":                        nil,
		"label:key7":                               {wide},
		"label:none":                               nil,
		"-label:key7":                              {many, some},
		"-label:build=" + last:                     {some, wide},
		"label:key7=value7 OR label:build=" + last: {many, wide},
		"label:build=1 some":                       {some},
		"label:build=" + last + " many":            {many},
	} {
		s.Finds(query, want...)
	}
	if n := s.Rows("SELECT max(cardinality(terms)) FROM repository_search"); n > 2*search.MaxLabelKeys {
		t.Errorf("got %d terms of a repository", n)
	}
}

// Patterns and equality compare the first 200 characters of a value, so that a
// pattern on large values does not delay other searches. Without that limit, each of
// these searches takes many seconds and is cancelled.
func TestLongValues(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	long := strings.Repeat("a", 250_000) + "b"
	var images []indexer.Manifest
	for i := range 12 {
		images = append(images, made("a/long", "linux/amd64", int64(i), 1, "2026-01-01", "k", long, fmt.Sprint("key", long), "v"))
	}
	s.Find("a/long", "latest", append([]indexer.Manifest{listing("a/long", images...)}, images...)...)
	dense := strings.Repeat("a", 900)
	for query, found := range map[string]bool{
		"-label:k=*" + dense + "b*":       true,
		"label:k=*" + dense + "b*":        false,
		"label:k=*a*a*a*a*a*a*ab*":        false,
		"label:k*=*a*a*a*a*a*a*ab*":       false,
		"label:k=*a":                      true,
		"label:k=a*":                      true,
		"label:k=" + dense:                true,
		"label:k=" + dense + "b":          true, // the rest is ignored
		"label:k=" + dense[:199]:          false,
		"label:key" + dense[:250]:         true,
		"label:key" + dense[:250] + "=v":  true,
		"label:key" + dense[:250] + "=v*": true,
		"label:key" + dense[:196]:         false,
		"label:key*a=v":                   true,
	} {
		got, _ := s.Names(func(v *postgres.View) (indexer.Results, error) { return v.Search(t.Context(), parsed(t, query)) })
		if found != (len(got) == 1) {
			t.Errorf("%.60q finds %v", query, got)
		}
	}
	for value, n := range map[string]int{"*" + dense + "b*": 0, "a*": 1} {
		q := query.Images{{Field: query.FieldLabel, Name: "k", Op: query.OpMatches, Values: []string{value}}}
		err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) error {
			got, err := v.Images(t.Context(), q)
			if len(got) != n {
				t.Errorf("images with a label like %.10q: got %d repositories, want %d", value, len(got), n)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// Totals are exact up to MaxTotal; beyond it, the total is MaxTotal and a lower bound.
func TestTotals(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	const fill = `
		WITH r AS (INSERT INTO repository (name) SELECT 'team/app-' || n FROM generate_series(1, 30000) AS n RETURNING id, name)
		INSERT INTO repository_search (repository_id, name, basename, title, description, tags, updated_at, name_words, all_words, facts)
		SELECT id, name, split_part(name, '/', 2), '', '', 1, now(), words, words, facts FROM r
		CROSS JOIN LATERAL (SELECT
			array_to_tsvector(ARRAY['team', 'app', id::text] || CASE WHEN id <= 10000 THEN '{some}'::text[] ELSE '{}' END) AS words,
			CASE WHEN id % 2 = 0 THEN ARRAY['os:linux'] ELSE '{}' END || CASE WHEN id <= 10001 THEN ARRAY['arch:arm'] ELSE '{}' END AS facts) AS made`
	if _, err := pool.Exec(t.Context(), fill); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), "ANALYZE"); err != nil {
		t.Fatal(err)
	}
	s := shelf{postgrestest.On(t, pool)}
	for text, want := range map[string]int{ // more than MaxTotal: a lower bound
		"":                   30_000,
		"team":               30_000,
		"some":               10_000,
		"os:linux":           15_000,
		"arch:arm":           10_001,
		"arch:arm os:linux":  0, // no image has both
		"some arch:arm":      10_000,
		"team -some":         20_000,
		"team -os:linux":     15_000,
		"some -os:linux":     5000,
		"namespace:team app": 30_000,
		"app 17":             1 + 10 + 100 + 1000, // 17, 17x, 17xx, 17xxx
	} {
		var found indexer.Results
		if err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) (err error) {
			found, err = v.Search(t.Context(), parsed(t, text))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		atLeast := want > query.MaxTotal
		if found.Total != min(want, query.MaxTotal) || found.AtLeast != atLeast || len(found.Items) != min(want, 25) {
			t.Errorf("%q: got total %d, at least: %v, and %d results, want %d", text, found.Total, found.AtLeast, len(found.Items), want)
		}
	}
}

// Equal states mean equal images, whatever is pushed, moved and deleted: otherwise an
// outdated index would stay in caches for ever.
func TestImagesState(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	q := query.Images{{Field: query.FieldLabel, Name: "ref", Op: query.OpExists}}
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[string]string{}
	states := map[string]bool{}
	for range 120 {
		image := func() indexer.Manifest {
			return made("team/app", "linux/amd64", 1, 1, "2026-01-01", "ref", fmt.Sprint(random.IntN(4)))
		}
		tag := fmt.Sprint("v", random.IntN(3))
		switch random.IntN(4) {
		case 0:
			s.Find("team/app", tag)
		case 1:
			s.Find("team/app", tag, image())
		default:
			var children []indexer.Manifest
			for range 1 + random.IntN(3) {
				children = append(children, image())
			}
			s.Find("team/app", tag, append([]indexer.Manifest{listing("team/app", children...)}, children...)...)
		}
		err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) error {
			state, err := v.ImagesState(t.Context(), q)
			if err != nil {
				return err
			}
			images, err := v.Images(t.Context(), q)
			got := fmt.Sprintf("%+v", images)
			if before, known := seen[state]; known && before != got {
				t.Errorf("state %s stands for\n%s\nand for\n%s", state, before, got)
			}
			seen[state], states[got] = got, true
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(states) < 20 || len(seen) < 20 {
		t.Errorf("got %d states of %d contents: too few for a test", len(seen), len(states))
	}
}

// Terms that are kept or updated in part equal terms that are computed as a whole,
// whatever is pushed, moved and deleted.
func TestTermsFollow(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	random := rand.New(rand.NewPCG(3, 4))
	kept := 0
	for i := range 150 {
		image := func() indexer.Manifest {
			m := made("team/app", "linux/amd64", 1, 1, "2026-01-01", "team", fmt.Sprint(random.IntN(3)), "build", fmt.Sprint(random.IntN(12)))
			if random.IntN(3) == 0 {
				m.Annotations = map[string]string{fmt.Sprint("note", random.IntN(2)): "x"}
				m.Body = fmt.Appendf(m.Body, "%v", m.Annotations)
				m.Digest = digest.FromBytes(m.Body)
			}
			return m
		}
		tag := fmt.Sprint("v", random.IntN(8))
		switch random.IntN(5) {
		case 0:
			s.Find("team/app", tag)
		case 1:
			children := []indexer.Manifest{image(), image()}
			s.Find("team/app", tag, append([]indexer.Manifest{listing("team/app", children...)}, children...)...)
		default:
			s.Find("team/app", tag, image())
		}
		const differ = `SELECT count(*) FROM repository_search s WHERE ARRAY(SELECT unnest(s.terms) ORDER BY 1) <> `
		if n := s.Rows(differ + "ARRAY(SELECT unnest(" + search.TermsOf("s.facts", "s.repository_id") + ") ORDER BY 1)"); n > 0 {
			t.Fatalf("after %d changes some terms are wrong", i+1)
		}
		kept += s.Rows("SELECT count(*) FROM repository_search WHERE cardinality(terms) > 8")
	}
	if kept < 20 {
		t.Errorf("only %d of 150 states had many terms: too few for a test", kept)
	}
}
