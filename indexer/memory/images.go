package memory

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"sync"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
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
	mu  sync.RWMutex
	now *images
}

// images tell what the images of some documents of a segment are. They never change.
type images struct {
	read     set // documents whose images were read
	known    set // those of them that do not have too many different images
	kinds    []kind
	frequent map[uint32]set // documents with an image of each frequent kind, by its number
	ends     []uint32       // where the other kinds of each document end in others
	others   []uint32       // their numbers

	kindBytes int // memory of kinds
}

// A kind of image is what some images, often of many documents, have in common. Of the
// terms it has those that its document has, with few exceptions. So most images of all
// documents are of the same few kinds.
type kind struct {
	facts []uint32 // entries of segment.facts, ascending
	lacks []int32  // terms that the document has and the image has not: places in segment.terms, ascending
}

func (x *shelf) images() *images {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.now
}

// learn adds the images of documents; a document without an entry in of has too many.
func (s *segment) learn(documents []uint16, of map[uint16][]kind) {
	s.shelf.mu.Lock()
	defer s.shelf.mu.Unlock()
	next := &images{read: newSet(s.len()), known: newSet(s.len())}
	numbers := newKindNumbers()
	var pairs []kindOf
	if before := s.shelf.now; before != nil {
		next.read.or(before.read)
		next.known.or(before.known)
		again := make([]uint32, len(before.kinds))
		for i, k := range before.kinds {
			again[i] = numbers.number(k)
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
	next.kinds, next.kindBytes = numbers.kinds, numbers.bytes
	next.fill(s.len(), pairs)
	s.shelf.now = next
}

// A kindOf is the number of a kind and a document with an image of it.
type kindOf struct {
	kind     uint32
	document uint16
}

// fill sets which documents have which kinds; each pair occurs once.
func (x *images) fill(documents int, pairs []kindOf) {
	counts := make([]int, len(x.kinds))
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

// kindNumbers give each different kind a number.
type kindNumbers struct {
	numbers map[string]uint32
	kinds   []kind
	bytes   int // memory of kinds
}

// perKind is what a kind takes besides its facts and terms: 48 bytes, two headers of
// slices.
const perKind = 48

func newKindNumbers() *kindNumbers { return &kindNumbers{numbers: map[string]uint32{}} }

func (n *kindNumbers) number(k kind) uint32 {
	text := make([]byte, 0, 4+4*len(k.facts)+4*len(k.lacks))
	text = binary.LittleEndian.AppendUint32(text, uint32(len(k.facts)))
	for _, f := range k.facts {
		text = binary.LittleEndian.AppendUint32(text, f)
	}
	for _, term := range k.lacks {
		text = binary.LittleEndian.AppendUint32(text, uint32(term))
	}
	number, known := n.numbers[string(text)]
	if !known {
		number = uint32(len(n.kinds))
		n.numbers[string(text)] = number
		n.kinds = append(n.kinds, k)
		n.bytes += perKind + 4*(len(k.facts)+len(k.lacks))
	}
	return number
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
		if numbers.number(k); len(numbers.kinds) > maxKinds {
			return nil, false
		}
	}
	return numbers.kinds, true
}

// bytes returns the memory that x takes.
func (x *images) bytes() int {
	if x == nil {
		return 0
	}
	return 8*len(x.read)*(2+len(x.frequent)) + 4*(len(x.ends)+len(x.others)) + x.kindBytes
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
		moved := make([]kind, len(x.kinds))
		for i, k := range x.kinds {
			moved[i] = s.kindFrom(p.segment, k)
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
		x := p.shelf.images()
		for d := range p.live.all() {
			if len(ids) == n {
				return ids
			}
			if x == nil || !x.read.has(d) {
				ids = append(ids, p.ids[d])
			}
		}
		if len(ids) > 0 {
			return ids
		}
	}
	return nil
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

// A kindTest is a clause about images, for the kinds of a segment: an image fulfils it if it
// has one of the facts or of the terms.
type kindTest struct {
	facts []uint32 // entries of segment.facts, ascending
	terms []int32  // places in segment.terms, ascending
	docs  set      // documents with one of the terms in any image
	// unsure are documents whose search row leaves out the values of a key: their images may
	// fulfil the clause in any case.
	unsure set
}

// test returns the test for a clause. It reports false if kinds do not decide the clause,
// such as one about a tag.
func (e *evaluation) test(c query.Clause) (test kindTest, ok bool) {
	test = kindTest{docs: e.empty(), unsure: e.empty()}
	for _, t := range c {
		kind, isFact := factFields[t.Field]
		switch {
		case isFact:
			e.eachFact(kind, t.Value, func(entry int) { test.facts = append(test.facts, uint32(entry)) })
			continue
		case t.Field != query.FieldLabel && t.Field != query.FieldAnnotation:
			e.scratch.release(test.docs, test.unsure)
			return kindTest{}, false
		}
		term, exact := TermOf(t)
		if !exact {
			e.scratch.release(test.docs, test.unsure)
			return kindTest{}, false
		}
		if place := e.findTerm(Hash(term)); place >= 0 {
			test.terms = append(test.terms, place)
			e.withTerm.addTo(test.docs, int(place))
		}
		if key, _, valued := strings.Cut(term, TermSeparator); valued {
			e.addTerm(test.unsure, ^Hash(key))
		}
	}
	test.facts, test.terms = sortedUnique(test.facts), sortedUnique(test.terms)
	return test, true
}

// tests returns the tests of those clauses that kinds decide, and whether they decide all.
// The caller must release them.
func (e *evaluation) tests(clauses []query.Clause) (tests []kindTest, all bool) {
	all = true
	for _, c := range clauses {
		if test, ok := e.test(c); ok {
			tests = append(tests, test)
		} else {
			all = false
		}
	}
	return tests, all
}

func (e *evaluation) release(tests []kindTest) {
	for _, t := range tests {
		e.scratch.release(t.docs, t.unsure)
	}
}

// eachFrequent calls f for each frequent kind that passes all tests, with those documents of
// a set that have such an image. The documents are only lent.
func (e *evaluation) eachFrequent(x *images, tests []kindTest, among set, f func(number uint32, docs set)) {
	docs := e.empty()
	defer e.scratch.release(docs)
	for number, all := range x.frequent {
		copy(docs, all)
		docs.and(among)
		if e.keepFulfilling(docs, x.kinds[number], tests) {
			f(number, docs)
		}
	}
}

// keepFulfilling removes the documents whose images of a kind do not pass all tests. It
// reports whether any may be left.
func (e *evaluation) keepFulfilling(docs set, k kind, tests []kindTest) bool {
	for _, t := range tests {
		switch {
		case haveCommon(k.facts, t.facts):
		case len(t.terms) == 0:
			return false
		case !haveCommon(k.lacks, t.terms):
			docs.and(t.docs)
		default:
			with := e.empty()
			for _, term := range t.terms {
				if !haveCommon(k.lacks, []int32{term}) {
					e.withTerm.addTo(with, int(term))
				}
			}
			docs.and(with)
			e.scratch.release(with)
		}
	}
	return true
}

// fulfils reports whether an image of a kind and a document passes all tests.
func (e *evaluation) fulfils(d uint16, k kind, tests []kindTest) bool {
	for _, t := range tests {
		switch {
		case haveCommon(k.facts, t.facts):
		case !t.docs.has(d):
			return false
		case haveCommon(k.lacks, t.terms):
			if !slices.ContainsFunc(t.terms, func(term int32) bool {
				return !haveCommon(k.lacks, []int32{term}) && e.withTerm.has(int(term), d)
			}) {
				return false
			}
		}
	}
	return true
}

// haveCommon reports whether two sorted slices have a common value.
func haveCommon[T cmp.Ordered](a, b []T) bool {
	for len(a) > 0 && len(b) > 0 {
		switch c := cmp.Compare(a[0], b[0]); {
		case c == 0:
			return true
		case c < 0:
			a = a[1:]
		default:
			b = b[1:]
		}
	}
	return false
}
