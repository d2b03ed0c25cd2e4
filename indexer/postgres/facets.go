package postgres

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// facetNames are the facets that are counted, in the order in which they are
// shown.
var facetNames = []string{"namespace", "os", "arch", "type", "licence", "label"}

// maxFacetValues is how many values of a facet are given: 20, as many as a page
// can show.
const maxFacetValues = 20

// Facets counts what the repositories are that q selects: the best MaxFaceted of
// them by relevance, whatever order q asks for.
func (v *View) Facets(ctx context.Context, q indexer.Query) (indexer.Facets, error) {
	q.Sort, q.Limit, q.Offset = indexer.SortRelevance, indexer.MaxFaceted+1, 0
	ids, err := v.found(ctx, newSearch(q))
	if err != nil {
		return indexer.Facets{}, wrap("facets", err)
	}
	counted := ids[:min(len(ids), indexer.MaxFaceted)]
	counts, err := collect[factCount](ctx, v.tx, factsQuery, counted)
	return indexer.Facets{Counted: len(counted), All: len(counted) == len(ids), Facets: facetsOf(counts)}, wrap("facets", err)
}

// A factCount is how many repositories have a fact.
type factCount struct {
	Fact string
	N    int
}

// factsQuery counts the facts of repositories, and their namespaces as one. The
// fence keeps Postgres from reading more rows than those.
const factsQuery = `
	SELECT fact, count(*)::int AS n FROM (
		SELECT unnest(s.facts || CASE WHEN strpos(s.name, '/') > 0 THEN 'namespace:' || split_part(s.name, '/', 1) END) AS fact
		FROM unnest($1::int[]) AS found (repository_id)
		CROSS JOIN LATERAL (SELECT s.name, s.facts FROM repository_search s WHERE s.repository_id = found.repository_id OFFSET 0) AS s
	) AS facts
	WHERE fact IS NOT NULL GROUP BY fact`

// facetsOf sorts counts; a facet that nothing has a value of is left out.
func facetsOf(facts []factCount) []indexer.Facet {
	counts := map[string]map[string]int{}
	for _, name := range facetNames {
		counts[name] = map[string]int{}
	}
	for _, f := range facts {
		name, value, _ := strings.Cut(f.Fact, ":")
		if values := counts[name]; values != nil {
			values[value] = f.N
		}
	}
	var facets []indexer.Facet
	for _, name := range facetNames {
		if values := mostFirst(counts[name]); len(values) > 0 {
			facets = append(facets, indexer.Facet{Name: name, Values: values})
		}
	}
	return facets
}

func mostFirst(counts map[string]int) []indexer.FacetValue {
	var values []indexer.FacetValue
	for value, n := range counts {
		values = append(values, indexer.FacetValue{Value: value, Count: n})
	}
	slices.SortFunc(values, func(a, b indexer.FacetValue) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	return values[:min(len(values), maxFacetValues)]
}
