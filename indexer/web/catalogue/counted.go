package catalogue

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

const (
	// maxCounted is the most queries whose facets are cached: 64.
	maxCounted = 64
	// maxFacetBytes is the most bytes of facets that are cached for one query: 64 KB,
	// so that all together take 4 MB. Most have 5 KB; values are labels, which may be
	// long.
	maxFacetBytes = 64 << 10
)

// A counted caches facets for one version of the catalogue. They are the same on every
// page and in every order of a query, and are more costly than the results.
type counted struct {
	mu      sync.Mutex
	version indexer.Version
	facets  map[[sha256.Size]byte]indexer.Facets
}

// get returns the facets of q, from the cache if it has them. It counts them without
// the page and order of q, so that they depend on nothing outside the key. Two requests
// may count at the same time; their results are the same.
func (c *counted) get(ctx context.Context, b answer.Book, q query.Query) (indexer.Facets, error) {
	v, err := b.Version(ctx)
	if err != nil {
		return indexer.Facets{}, err
	}
	q.Sort, q.Limit, q.Offset, q.After = "", 0, 0, ""
	key := sha256.Sum256(fmt.Appendf(nil, "%s\x00%#v", b.Asker(), q))
	c.mu.Lock()
	known, found := c.facets[key]
	found = found && c.version == v
	c.mu.Unlock()
	if found {
		return known, nil
	}
	facets, err := b.Facets(ctx, q)
	if err != nil || facetBytes(facets) > maxFacetBytes {
		return facets, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.facets == nil || c.version != v || len(c.facets) >= maxCounted {
		c.version, c.facets = v, map[[sha256.Size]byte]indexer.Facets{}
	}
	c.facets[key] = facets
	return facets, nil
}

// facetBytes returns the number of bytes of text in facets.
func facetBytes(f indexer.Facets) (n int) {
	for _, facet := range f.Facets {
		for _, v := range facet.Values {
			n += len(v.Value)
		}
	}
	return n
}
