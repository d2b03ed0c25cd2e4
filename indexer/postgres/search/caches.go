package search

import (
	"context"

	"github.com/portbook/portbook/indexer/cache"
	"github.com/portbook/portbook/indexer/query"
)

const (
	// maxTotals is the most bytes of the cache of totals: 2 MiB, which hold 8,000.
	maxTotals = 2 << 20
	// maxCorrections is the most bytes of the cache of corrected queries: 1 MiB, which
	// hold 800 of the longest queries and 3,000 usual ones.
	maxCorrections = 1 << 20
)

// Caches are shared by all views of one store.
type Caches struct {
	totals      *cache.Versioned[int]
	corrections *cache.Versioned[string]
}

// NewCaches returns empty caches.
func NewCaches() *Caches {
	return &Caches{
		totals:      cache.New(maxTotals, 0, func(int) int { return 0 }), // an int is part of its entry
		corrections: cache.New(maxCorrections, 2*query.MaxLength, func(text string) int { return len(text) }),
	}
}

// cached returns the value of a question for the version and the asker of a reader, from
// the cache or from compute.
//
// A reader that waits for another to compute the value holds its connection meanwhile.
// That cannot deadlock: the other has a connection of its own, waits for no lock of a
// reader, and its compute uses no cache.
func cached[T any](
	ctx context.Context, rd *Reader, values *cache.Versioned[T], question string, compute func() (T, error),
) (T, error) {
	version, err := rd.version(ctx)
	if err != nil {
		var none T
		return none, err
	}
	return values.Get(ctx, cache.Key{Version: version, Asker: rd.asker, Question: question}, compute)
}
