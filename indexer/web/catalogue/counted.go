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
	// maxCounted is of how many queries the facets are kept: 64.
	maxCounted = 64
	// maxFacetBytes is the most bytes of facets that are kept: 64 KB, so that all
	// together are 4 MB. Most have 5 KB; values are labels, which may be long.
	maxFacetBytes = 64 << 10
)

// A counted keeps the facets of one version of the catalogue. They are the same
// on every page and in every order of a query, and cost more than the page of
// results beside them.
type counted struct {
	mu      sync.Mutex
	version indexer.Version
	facets  map[[sha256.Size]byte]indexer.Facets
}

// get returns the facets of q in a book, and counts them if they are not kept: those of
// q without its page and order, so that they depend on nothing that the key leaves
// out. Two may count at once; what they find is the same.
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

// facetBytes is how many bytes of text facets hold.
func facetBytes(f indexer.Facets) (n int) {
	for _, facet := range f.Facets {
		for _, v := range facet.Values {
			n += len(v.Value)
		}
	}
	return n
}
