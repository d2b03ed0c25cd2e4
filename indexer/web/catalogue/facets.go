package catalogue

import (
	"context"
	"fmt"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/cache"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

const (
	// maxFacetsTotal is the most bytes of the cache of facets: 4 MiB. Those of most
	// queries have 5 KB.
	maxFacetsTotal = 4 << 20
	// maxFacets is the most bytes of the facets of one query that are cached: 64 KiB.
	// Values are labels, which may be long.
	maxFacets = 64 << 10
)

// newFacetCache returns a cache of the facets of queries. They are the same on every page
// and in every order of a query, and are more costly than the results.
func newFacetCache() *cache.Versioned[indexer.Facets] {
	return cache.New(maxFacetsTotal, maxFacets, facetBytes)
}

// facets returns the facets of q, from the cache if it has them. It counts them without
// the page and order of q, so that they depend on nothing outside the key.
func (s *Catalogue) facets(ctx context.Context, b answer.Book, q query.Query) (indexer.Facets, error) {
	version, err := b.Version(ctx)
	if err != nil {
		return indexer.Facets{}, err
	}
	q.Sort, q.Limit, q.Offset, q.After = "", 0, 0, ""
	k := cache.Key{Version: version, Asker: b.Asker(), Question: fmt.Sprintf("%#v", q)}
	return s.facetCache.Get(ctx, k, func() (indexer.Facets, error) { return b.Facets(ctx, q) })
}

// facetBytes returns about how many bytes facets take: their text, and 32 for each value.
func facetBytes(f indexer.Facets) (n int) {
	for _, facet := range f.Facets {
		for _, v := range facet.Values {
			n += len(v.Value) + 32
		}
	}
	return n
}
