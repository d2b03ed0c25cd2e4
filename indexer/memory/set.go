package memory

import (
	"iter"
	"math/bits"
	"sync"
)

// A set is a set of documents of one segment: document d is in it if bit d%64 of word
// d/64 is set. All sets of a segment have the same length.
//
// A segment is small enough that its sets are best held as plain bits: 8 KiB for 65,536
// documents. To combine two of them takes half a microsecond, whatever is in them, so
// the union of the thousands of words that begin with two letters costs no more than
// their entries. That is why no library of compressed bitmaps is used here.
type set []uint64

func newSet(documents int) set { return make(set, (documents+63)/64) }

func (s set) add(d uint16)      { s[d/64] |= 1 << (d % 64) }
func (s set) remove(d uint16)   { s[d/64] &^= 1 << (d % 64) }
func (s set) has(d uint16) bool { return s[d/64]&(1<<(d%64)) != 0 }

// fill adds the first n documents.
func (s set) fill(n int) {
	for i := range s {
		s[i] = ^uint64(0)
	}
	if rest := n % 64; rest > 0 {
		s[len(s)-1] = 1<<rest - 1
	}
}

func (s set) and(t set) {
	for i := range s {
		s[i] &= t[i]
	}
}

func (s set) or(t set) {
	for i := range s {
		s[i] |= t[i]
	}
}

func (s set) andNot(t set) {
	for i := range s {
		s[i] &^= t[i]
	}
}

func (s set) count() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// countAnd returns the number of documents that are in both sets.
func (s set) countAnd(t set) (n int) {
	for i, w := range s {
		n += bits.OnesCount64(w & t[i])
	}
	return n
}

func (s set) empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

// all returns the documents in ascending order.
func (s set) all() iter.Seq[uint16] {
	return func(yield func(uint16) bool) {
		for i, w := range s {
			for ; w != 0; w &= w - 1 {
				if !yield(uint16(i*64 + bits.TrailingZeros64(w))) {
					return
				}
			}
		}
	}
}

// A scratch lends sets to one question and keeps them for the next one. It is used by
// one goroutine at a time.
type scratch struct{ free []set }

var scratches = sync.Pool{New: func() any { return &scratch{} }}

// maxScratch is the maximum number of sets that a scratch keeps: 64, at most 512 KiB.
const maxScratch = 64

// empty returns an empty set for a number of documents.
func (x *scratch) empty(documents int) set {
	words := (documents + 63) / 64
	if n := len(x.free); n > 0 {
		s := x.free[n-1][:words]
		x.free = x.free[:n-1]
		clear(s)
		return s
	}
	return make(set, words, maxDocuments/64)
}

// release takes back a set that empty returned. A nil set is ignored.
func (x *scratch) release(sets ...set) {
	for _, s := range sets {
		if s != nil && len(x.free) < maxScratch {
			x.free = append(x.free, s)
		}
	}
}
