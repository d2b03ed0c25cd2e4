package memory

import (
	"slices"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

// ImageFacets is Facets for a query with conditions on images: a value counts the
// repositories with an image that fulfils these conditions and has the value. It counts
// the repositories whose images are known, and returns their number. DecidedByImages must
// be true.
func (m *Matches) ImageFacets(n int) (facets []indexer.Facet, counted int) {
	facts := m.facts.all()
	counts := make([]uint32, len(facts)) // of any image, by number
	var known []matched
	for _, p := range m.parts {
		k := matched{p.part, m.countable(p), nil}
		m.countFacts(k, counts)
		counted += k.sure.count()
		known = append(known, k)
		defer m.scratch.release(k.sure)
	}
	var keys []uint32 // offered ones
	for number, count := range counts {
		if count == 0 {
			continue
		}
		switch facet := facts[number].facet; {
		case int(facet) == labelFacet:
			keys = append(keys, uint32(number))
		case slices.Contains(ofImages, facet):
			counts[number] = 0 // counted again
		}
	}
	offered := m.offer(keys, facts, counts)
	images := make([]fulfilling, len(known))
	for i, p := range known {
		images[i] = m.countImages(p, facts, counts, offered.terms[i])
		defer m.scratch.release(images[i].any)
	}
	values, _ := valuesOf(counts, facts, n)
	values[labelFacet] = offered.mostFrequent(n, func(key int) (count int) {
		for i, p := range known {
			if term := offered.terms[i][key]; term >= 0 && images[i].any != nil {
				count += p.withTerm.countIn(images[i].any, int(term)) - images[i].without[term]
			}
		}
		return count
	})
	return facetsOf(values), counted
}

// ofImages are the places in FacetKinds of facts that an image has, and not the repository as
// a whole.
var ofImages = []int8{
	int8(slices.Index(FacetKinds, indexer.FactOS)), int8(slices.Index(FacetKinds, indexer.FactArchitecture)),
	int8(slices.Index(FacetKinds, indexer.FactType)),
}

// aboutImages returns the clauses of the query that one image must fulfil.
func (m *Matches) aboutImages() []query.Clause {
	return slices.DeleteFunc(slices.Clone(m.question.Query.Clauses), func(c query.Clause) bool { return !c.AboutImages() })
}

// DecidedByImages reports whether what a copy reads of images decides all conditions on
// images.
func (m *Matches) DecidedByImages() bool {
	if len(m.parts) == 0 {
		return true
	}
	e := evaluation{part: m.parts[0].part, scratch: m.scratch}
	tests, all := e.tests(m.aboutImages())
	e.release(tests)
	return all
}

// countable returns the documents that match for certain, and whose images decide which
// values count. The caller must release the set.
func (m *Matches) countable(p matched) set {
	docs := m.scratch.empty(p.len())
	x := p.shelf.images()
	if x == nil {
		return docs
	}
	docs.or(p.sure)
	docs.and(x.known)
	e := evaluation{part: p.part, scratch: m.scratch}
	tests, _ := e.tests(m.aboutImages())
	for _, t := range tests.all {
		docs.andNot(t.unsure)
	}
	e.release(tests)
	return docs
}

// fulfilling are the images of a part that fulfil the conditions of a query.
type fulfilling struct {
	any     set           // documents with one; nil: there is none
	without map[int32]int // how many of them have a key, by its place in terms, but not in such an image
}

// countImages adds how many documents of p.sure have an image that fulfils the conditions
// and has each fact, by number. terms are the places in the part of the keys that matter.
func (m *Matches) countImages(p matched, facts []fact, counts []uint32, terms []int32) fulfilling {
	x := p.shelf.images()
	if x == nil || p.sure.empty() {
		return fulfilling{}
	}
	e := evaluation{part: p.part, scratch: m.scratch}
	tests, _ := e.tests(m.aboutImages())
	defer e.release(tests)
	isOffered := make([]uint64, len(p.segment.terms)/64+1) // bits of terms
	for _, term := range terms {
		if term >= 0 {
			isOffered[term/64] |= 1 << (term % 64)
		}
	}
	any := e.empty()                           // documents with a fulfilling image
	withFact := make([]set, len(p.factNumber)) // documents with one that has a fact
	for f, number := range p.factNumber {
		if slices.Contains(ofImages, facts[number].facet) {
			withFact[f] = e.empty()
		}
	}
	kinds := make([]uint8, p.len()) // number of kinds of fulfilling images of a document
	lacking := map[keyOf]uint8{}    // number of those that lack a key
	add := func(d uint16, k kind) {
		kinds[d]++
		for _, term := range k.lacks {
			if isOffered[term/64]&(1<<(term%64)) != 0 {
				lacking[keyOf{term, d}]++
			}
		}
	}
	e.eachFrequent(x, tests, p.sure, func(number uint32, docs set) {
		k := x.kinds.at(number)
		any.or(docs)
		for _, f := range k.facts {
			if withFact[f] != nil {
				withFact[f].or(docs)
			}
		}
		for d := range docs.all() {
			add(d, k)
		}
	})
	for d := range p.sure.all() {
		for _, number := range x.othersOf(d) {
			if !e.passes(d, &x.kinds, number, &tests) {
				continue
			}
			k := x.kinds.at(number)
			any.add(d)
			for _, f := range k.facts {
				if withFact[f] != nil {
					withFact[f].add(d)
				}
			}
			add(d, k)
		}
	}
	for f, docs := range withFact {
		if docs != nil {
			counts[p.factNumber[f]] += uint32(docs.count())
		}
	}
	without := map[int32]int{} // documents that have a key, but none of the fulfilling images has it
	for k, n := range lacking {
		if n == kinds[k.document] {
			without[k.term]++
		}
	}
	e.scratch.release(withFact...)
	return fulfilling{any, without}
}

// A keyOf is the place of a key in the terms of a segment and a document that has it.
type keyOf struct {
	term     int32
	document uint16
}

// Unread returns at most n of the repositories that match, or may, whose images were not
// read yet.
func (m *Matches) Unread(n int) (ids []int32) {
	for _, p := range m.parts {
		for _, docs := range []set{p.sure, p.maybe} {
			for d := range p.unread(docs).all() {
				if len(ids) == n {
					return ids
				}
				ids = append(ids, p.ids[d])
			}
		}
	}
	return ids
}
