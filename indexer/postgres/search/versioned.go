package search

import (
	"context"
	"crypto/sha256"
	"sync"

	"github.com/portbook/portbook/indexer"
)

const (
	// maxTotals is the most totals in a cache: 10,000, some 1 MB.
	maxTotals = 10_000
	// maxMends is the most corrected queries in a cache: 1,000. A query has at most
	// 1,024 bytes, so this is 1 MB.
	maxMends = 1000
)

// Caches are shared by all views of one store.
type Caches struct {
	totals versioned[int]
	mends  versioned[string]
}

// NewCaches returns empty caches.
func NewCaches() *Caches {
	return &Caches{totals: versioned[int]{most: maxTotals}, mends: versioned[string]{most: maxMends}}
}

// A versioned is a cache of values for one version of the catalogue, with an entry
// for each question. It stores the hash of a question, because a question may be a
// list of 12,000 numbers. Equal versions have equal content.
type versioned[T any] struct {
	most int // entries

	mu      sync.Mutex
	version indexer.Version
	of      map[[sha256.Size]byte]T
}

// remembered returns the value of a question for the version and the asker of a
// reader, from the cache or from find.
func remembered[T any](ctx context.Context, rd *Reader, cache *versioned[T], question string, find func() (T, error)) (T, error) {
	var none T
	version, err := rd.version(ctx)
	if err != nil {
		return none, err
	}
	key := sha256.Sum256([]byte(rd.asker.String() + "\x00" + question))
	if value, known := cache.get(version, key); known {
		return value, nil
	}
	value, err := find()
	if err != nil {
		return none, err
	}
	cache.put(version, key, value)
	return value, nil
}

func (c *versioned[T]) get(version indexer.Version, key [sha256.Size]byte) (value T, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version != version {
		return value, false
	}
	value, known = c.of[key]
	return value, known
}

func (c *versioned[T]) put(version indexer.Version, key [sha256.Size]byte, value T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version != version || c.of == nil || len(c.of) >= c.most {
		c.version, c.of = version, map[[sha256.Size]byte]T{}
	}
	c.of[key] = value
}
