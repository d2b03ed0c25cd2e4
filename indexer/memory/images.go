package memory

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/portbook/portbook/indexer"
)

// An Image is what a copy needs to know of an image of a repository: its facts, and the
// hashes of the keys and of the values of its labels and annotations.
type Image struct {
	Facts []indexer.Fact
	Terms []int64
}

const (
	// maxKinds is the maximum number of kinds of images of a repository that a copy holds: 64.
	// Most repositories have one for each platform.
	maxKinds = 64
	// maxImageTerms is the maximum number of different terms of the images of a repository:
	// 4,096. With more, their kinds are not held.
	maxImageTerms = 4096
)

// A shelf holds what the images of the documents of a segment are, which is read after
// their search rows. It is safe for concurrent use.
type shelf struct {
	learning sync.Mutex
	now      atomic.Pointer[images]
}

// images tell what the images of some documents of a segment are. They never change.
type images struct {
	read     set // documents whose images were read
	known    set // those of them that do not have too many different images
	kinds    kinds
	frequent map[uint32]set // documents with an image of each frequent kind, by its number
	ends     []uint32       // where the other kinds of each document end in others
	others   []uint32       // their numbers
}

func (x *shelf) images() *images { return x.now.Load() }

// learn adds the images of documents; a document without an entry in of has too many. It
// makes all of the shelf again, and questions do not wait for it.
func (s *segment) learn(documents []uint16, of map[uint16][]kind) {
	s.shelf.learning.Lock()
	defer s.shelf.learning.Unlock()
	next := &images{read: newSet(s.len()), known: newSet(s.len())}
	numbers := newKindNumbers()
	var pairs []kindOf
	if before := s.shelf.now.Load(); before != nil {
		next.read.or(before.read)
		next.known.or(before.known)
		again := make([]uint32, before.kinds.len())
		for i := range again {
			again[i] = numbers.number(before.kinds.at(uint32(i)))
		}
		before.each(func(number uint32, d uint16) { pairs = append(pairs, kindOf{again[number], d}) })
	}
	for _, d := range documents {
		if next.read.has(d) {
			continue
		}
		next.read.add(d)
		kinds, few := of[d]
		if !few {
			continue
		}
		next.known.add(d)
		for _, k := range kinds {
			pairs = append(pairs, kindOf{numbers.number(k), d})
		}
	}
	next.kinds = numbers.kinds
	next.fill(s.len(), pairs)
	s.shelf.now.Store(next)
}

// A kindOf is the number of a kind and a document with an image of it.
type kindOf struct {
	kind     uint32
	document uint16
}

// fill sets which documents have which kinds; each pair occurs once.
func (x *images) fill(documents int, pairs []kindOf) {
	counts := make([]int, x.kinds.len())
	for _, p := range pairs {
		counts[p.kind]++
	}
	x.frequent = map[uint32]set{}
	for number, n := range counts {
		if n > max(documents/32, 8) { // as numbers these take as much memory as a set
			x.frequent[uint32(number)] = newSet(documents)
		}
	}
	x.ends = make([]uint32, documents)
	for _, p := range pairs {
		if docs := x.frequent[p.kind]; docs != nil {
			docs.add(p.document)
		} else {
			x.ends[p.document]++
		}
	}
	total := uint32(0)
	for d, n := range x.ends {
		x.ends[d] = total // the beginning, until the numbers are in place
		total += n
	}
	x.others = make([]uint32, total)
	for _, p := range pairs {
		if x.frequent[p.kind] == nil {
			x.others[x.ends[p.document]] = p.kind
			x.ends[p.document]++
		}
	}
}

// othersOf returns the numbers of the kinds of a document that are not frequent.
func (x *images) othersOf(d uint16) []uint32 {
	from := uint32(0)
	if d > 0 {
		from = x.ends[d-1]
	}
	return x.others[from:x.ends[d]]
}

// each calls f for each kind of each document.
func (x *images) each(f func(number uint32, d uint16)) {
	for number, docs := range x.frequent {
		for d := range docs.all() {
			f(number, d)
		}
	}
	for d := range x.ends {
		for _, number := range x.othersOf(uint16(d)) {
			f(number, uint16(d))
		}
	}
}

// kindsOf returns the different kinds of the images of a document. It reports false if there
// are too many, or the search row has not all of their keys.
func (s *segment) kindsOf(d uint16, of []Image) (kinds []kind, ok bool) {
	if many := s.findTerm(Hash(ManyKeys)); many >= 0 && s.withTerm.has(int(many), d) {
		return nil, false
	}
	number := map[int64]int{} // of each different term
	var places []int32        // of the terms, by number; -1: the search row leaves it out
	for _, image := range of {
		for _, hash := range image.Terms {
			if _, known := number[hash]; known {
				continue
			}
			number[hash] = len(places)
			place := s.findTerm(hash)
			if place >= 0 && !s.withTerm.has(int(place), d) {
				place = -1
			}
			places = append(places, place)
		}
		if len(places) > maxImageTerms {
			return nil, false
		}
	}
	numbers := newKindNumbers()
	has := make([]bool, len(places))
	for _, image := range of {
		var k kind
		for _, f := range image.Facts {
			entry, found := s.facts.search(string(f))
			if !found {
				return nil, false
			}
			k.facts = append(k.facts, uint32(entry))
		}
		clear(has)
		for _, hash := range image.Terms {
			has[number[hash]] = true
		}
		for i, place := range places {
			if place >= 0 && !has[i] {
				k.lacks = append(k.lacks, place)
			}
		}
		k.facts, k.lacks = sortedUnique(k.facts), sortedUnique(k.lacks)
		if int(numbers.number(k)) == len(kinds) {
			kinds = append(kinds, k)
		}
		if len(kinds) > maxKinds {
			return nil, false
		}
	}
	return kinds, true
}

// bytes returns the memory that x takes.
func (x *images) bytes() int {
	if x == nil {
		return 0
	}
	return 8*len(x.read)*(2+len(x.frequent)) + 4*(len(x.ends)+len(x.others)) + x.kinds.bytes()
}

// imagesFrom takes over what the segments of parts know of the images of documents that
// are in s.
func (s *segment) imagesFrom(parts []part) {
	var documents []uint16
	of := map[uint16][]kind{}
	for _, p := range parts {
		x := p.shelf.images()
		if x == nil {
			continue
		}
		for d := range x.read.all() {
			if there, found := s.document(p.ids[d]); found && p.live.has(d) {
				documents = append(documents, there)
				if x.known.has(d) {
					of[there] = nil
				}
			}
		}
		moved := make([]kind, x.kinds.len())
		for i := range moved {
			moved[i] = s.kindFrom(p.segment, x.kinds.at(uint32(i)))
		}
		x.each(func(number uint32, d uint16) {
			if there, found := s.document(p.ids[d]); found && p.live.has(d) {
				of[there] = append(of[there], moved[number])
			}
		})
	}
	if len(documents) > 0 {
		s.learn(documents, of)
	}
}

// kindFrom returns a kind of another segment as one of s, whose facts and terms include
// those of the other.
func (s *segment) kindFrom(other *segment, k kind) kind {
	var moved kind
	for _, f := range k.facts {
		if entry, found := s.facts.search(other.facts.at(int(f))); found {
			moved.facts = append(moved.facts, uint32(entry))
		}
	}
	for _, term := range k.lacks {
		if place := s.findTerm(other.terms[term]); place >= 0 {
			moved.lacks = append(moved.lacks, place)
		}
	}
	return moved
}

// Unread returns at most n repositories whose images were not read yet, all in one
// segment.
func (st *State) Unread(n int) (ids []int32) {
	for _, p := range st.parts {
		for d := range p.unread(p.live).all() {
			if len(ids) == n {
				break
			}
			ids = append(ids, p.ids[d])
		}
		if len(ids) > 0 {
			return ids
		}
	}
	return nil
}

// unread returns those of some documents whose images were not read yet.
func (s *segment) unread(docs set) set {
	unread := slices.Clone(docs)
	if x := s.shelf.images(); x != nil {
		unread.andNot(x.read)
	}
	return unread
}

// Learn adds the images of repositories to st and to all states that hold the same rows.
// They must be those in the state of st. A repository without an entry in of has too many
// images to be held.
func (st *State) Learn(ids []int32, of map[int32][]Image) {
	documents := make([][]uint16, len(st.parts))
	kinds := make([]map[uint16][]kind, len(st.parts))
	for _, id := range ids {
		i, d, found := st.find(id)
		if !found {
			continue
		}
		documents[i] = append(documents[i], d)
		if kinds[i] == nil {
			kinds[i] = map[uint16][]kind{}
		}
		if images, few := of[id]; few {
			if k, few := st.parts[i].kindsOf(d, images); few {
				kinds[i][d] = k
			}
		}
	}
	for i, p := range st.parts {
		if len(documents[i]) > 0 {
			p.learn(documents[i], kinds[i])
		}
	}
}
