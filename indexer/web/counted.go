package web

import (
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
)

// maxCounted is of how many queries the facets are kept: 64, at most 10 KB each.
const maxCounted = 64

// A counted keeps the facets of one version of the catalogue. They are the same
// on every page and in every order of a query, and cost more than the page of
// results beside them.
type counted struct {
	mu      sync.Mutex
	version indexer.Version
	facets  map[string]indexer.Facets
}

// get gives the facets of q in a version, counting them if nobody has. Two may
// count at once; what they find is the same.
func (c *counted) get(v indexer.Version, q indexer.Query, count func() (indexer.Facets, error)) (indexer.Facets, error) {
	key := q.Text + "\x00" + q.AgeFrom().Format(time.RFC3339)
	c.mu.Lock()
	known, found := c.facets[key]
	found = found && c.version == v
	c.mu.Unlock()
	if found {
		return known, nil
	}
	facets, err := count()
	if err != nil {
		return facets, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.facets == nil || c.version != v || len(c.facets) >= maxCounted {
		c.version, c.facets = v, map[string]indexer.Facets{}
	}
	c.facets[key] = facets
	return facets, nil
}
