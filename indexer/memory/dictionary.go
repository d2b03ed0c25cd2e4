package memory

import (
	"slices"
	"strings"
	"sync"

	"github.com/portbook/portbook/indexer"
)

// A dictionary numbers the facts of all segments of a copy, so that counts of several
// segments can be added up. It only grows; a copy that is built again gets a new one. It is
// safe for concurrent use.
type dictionary struct {
	mu      sync.Mutex
	numbers map[string]uint32
	facts   []fact
	bytes   int
}

// A fact is an entry of a dictionary.
type fact struct {
	indexer.Fact
	facet int8 // its kind in FacetKinds, -1 if it is another
}

func newDictionary() *dictionary { return &dictionary{numbers: map[string]uint32{}} }

// numbersOf returns the number of each fact, a new one if it has none.
func (x *dictionary) numbersOf(facts []string) []uint32 {
	x.mu.Lock()
	defer x.mu.Unlock()
	numbers := make([]uint32, len(facts))
	for i, f := range facts {
		number, known := x.numbers[f]
		if !known {
			f = strings.Clone(f)
			number = uint32(len(x.facts))
			x.numbers[f] = number
			kind := indexer.Fact(f).Kind()
			x.facts = append(x.facts, fact{indexer.Fact(f), int8(slices.Index(FacetKinds, kind))})
			x.bytes += len(f) + perFact
		}
		numbers[i] = number
	}
	return numbers
}

// perFact is what a fact takes in a dictionary besides its text: 72 bytes, two headers of
// strings, its facet and its share of the map.
const perFact = 72

// all returns the facts by number. The caller must not change them.
func (x *dictionary) all() []fact {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Clip(x.facts)
}

func (x *dictionary) size() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.bytes
}
