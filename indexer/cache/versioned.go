// Package cache caches what is computed from one state of the catalogue. It bounds the
// memory that a cache takes, and computes each value once however many callers need it
// at the same time.
package cache

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"sync"

	"github.com/portbook/portbook/indexer"
)

// entryBytes is what an entry takes besides its value: 256 bytes. With a value of 8 bytes
// it took 191 (measured with Go 1.26).
const entryBytes = 256

// ErrRunning says that another call is computing the value: see GetNow.
var ErrRunning = errors.New("another call is computing the value")

// A Key identifies a value: the answer to a question of an asker in one version of the
// catalogue. Equal versions have equal content, so equal keys have equal values.
type Key struct {
	Version  indexer.Version
	Asker    indexer.Asker
	Question string
}

// hashed returns k with the hash of its asker and question, because a question may be
// long, such as a list of 12,000 numbers.
func (k Key) hashed() key {
	return key{k.Version, sha256.Sum256([]byte(k.Asker.String() + "\x00" + k.Question))}
}

type key struct {
	version  indexer.Version
	question [sha256.Size]byte // of one asker
}

// A Versioned caches values of the catalogue. It returns a value only for the version,
// the asker and the question that it was computed for. It is safe for concurrent use.
// Callers share the values and must not change them.
//
// It holds one value for each asker and question. To make room it removes the least
// recently used values; these are those of old versions, if there are any.
type Versioned[T any] struct {
	maxTotal, maxValue int // bytes
	size               func(T) int

	mu      sync.Mutex
	entries map[[sha256.Size]byte]*list.Element // their values are *entry[T]
	used    list.List                           // the most recently used first
	total   int                                 // bytes of all entries
	running map[key]*call[T]
}

type entry[T any] struct {
	key
	value T
	bytes int
}

// A call computes a value. Its result may be read once done is closed.
type call[T any] struct {
	done  chan struct{}
	value T
	ok    bool // whether there is a value
}

// New returns an empty cache. size returns the bytes that a value takes. All entries
// together take at most maxTotal bytes; a value of more than maxValue bytes is not
// cached.
func New[T any](maxTotal, maxValue int, size func(T) int) *Versioned[T] {
	return &Versioned[T]{
		maxTotal: maxTotal, maxValue: maxValue, size: size,
		entries: map[[sha256.Size]byte]*list.Element{}, running: map[key]*call[T]{},
	}
}

// Get returns the value of k. If it is not in the cache, Get calls compute, in the
// goroutine of the caller, and stores the result unless it is an error.
//
// While one call computes a value, other calls for the same key wait for it until their
// context ends. If that call fails or panics, one of the waiting calls computes the value
// itself: the reason may be the other caller's own, such as a client that has gone.
//
// A waiting caller keeps what it holds, such as a database connection. So compute must
// need nothing that a caller of Get may hold, and must not call Get for the same cache.
func (c *Versioned[T]) Get(ctx context.Context, k Key, compute func() (T, error)) (T, error) {
	return c.GetWhile(ctx, k, func(T) bool { return true }, compute)
}

// GetWhile is like Get, but computes a stored value again if it is not good any more. Calls
// that waited for a value take it even so: it was computed for them.
func (c *Versioned[T]) GetWhile(ctx context.Context, k Key, good func(T) bool, compute func() (T, error)) (T, error) {
	hashed := k.hashed()
	for {
		value, found, other := c.begin(hashed, good)
		switch {
		case found:
			return value, nil
		case other == nil:
			return c.run(hashed, compute)
		}
		select {
		case <-other.done:
			if other.ok {
				return other.value, nil
			}
		case <-ctx.Done():
			return value, ctx.Err()
		}
	}
}

// GetNow is like Get, but returns ErrRunning instead of waiting for another call.
func (c *Versioned[T]) GetNow(k Key, compute func() (T, error)) (T, error) {
	hashed := k.hashed()
	value, found, other := c.begin(hashed, func(T) bool { return true })
	switch {
	case found:
		return value, nil
	case other == nil:
		return c.run(hashed, compute)
	}
	return value, ErrRunning
}

// begin returns the value of k if it is good, or else the call that is computing it. If it
// returns neither, the caller must call run.
func (c *Versioned[T]) begin(k key, good func(T) bool) (value T, found bool, other *call[T]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[k.question]; ok {
		if stored := e.Value.(*entry[T]); stored.version == k.version && good(stored.value) {
			c.used.MoveToFront(e)
			return stored.value, true, nil
		}
	}
	if other, ok := c.running[k]; ok {
		return value, false, other
	}
	c.running[k] = &call[T]{done: make(chan struct{})}
	return value, false, nil
}

// run computes the value of k after begin.
func (c *Versioned[T]) run(k key, compute func() (T, error)) (value T, err error) {
	ok := false
	defer func() { c.end(k, value, ok) }() // even if compute panics
	value, err = compute()
	ok = err == nil
	return value, err
}

func (c *Versioned[T]) end(k key, value T, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok {
		c.store(k, value)
	}
	mine := c.running[k]
	delete(c.running, k)
	mine.value, mine.ok = value, ok
	close(mine.done)
}

// store stores a value, unless the cache has one of a later version or the value is too
// large. A view that began long ago may still read an old version.
func (c *Versioned[T]) store(k key, value T) {
	if e, ok := c.entries[k.question]; ok {
		if before := e.Value.(*entry[T]).version; before.Epoch == k.version.Epoch && before.Number > k.version.Number {
			return
		}
		c.remove(e)
	}
	size := c.size(value)
	if size > c.maxValue || entryBytes+size > c.maxTotal {
		return
	}
	c.total += entryBytes + size
	for c.total > c.maxTotal {
		c.remove(c.used.Back())
	}
	c.entries[k.question] = c.used.PushFront(&entry[T]{k, value, entryBytes + size})
}

func (c *Versioned[T]) remove(e *list.Element) {
	removed := c.used.Remove(e).(*entry[T])
	delete(c.entries, removed.question)
	c.total -= removed.bytes
}
