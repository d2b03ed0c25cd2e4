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
	results, err := v.planned(ctx, q)
	if err != nil {
		return indexer.Facets{}, wrap("facets", err)
	}
	items := results.Items[:min(len(results.Items), indexer.MaxFaceted)]
	return indexer.Facets{Counted: len(items), All: len(items) == len(results.Items), Facets: facetsOf(items)}, nil
}

// planned is a search without its total.
func (v *View) planned(ctx context.Context, q indexer.Query) (indexer.Results, error) {
	s := newSearch(q)
	s.uncounted = true
	return v.search(ctx, s)
}

// facetsOf counts values; a facet that nothing has a value of is left out.
func facetsOf(items []indexer.Result) []indexer.Facet {
	counts := map[string]map[string]int{}
	for _, name := range facetNames {
		counts[name] = map[string]int{}
	}
	for _, item := range items {
		if ns := item.Namespace(); ns != "" {
			counts["namespace"][ns]++
		}
		for _, fact := range item.Facts {
			name, value, _ := strings.Cut(fact, ":")
			if values := counts[name]; values != nil {
				values[value]++
			}
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
