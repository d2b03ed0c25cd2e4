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
		k.countFacts(counts)
		counted += k.sure.count()
		known = append(known, k)
		defer m.scratch.release(k.sure)
	}
	var keys []uint32 // offered ones
	for number, count := range counts {
		switch facet := facts[number].facet; {
		case count > 0 && int(facet) == labelFacet:
			keys = append(keys, uint32(number))
		case slices.Contains(ofImages, facet):
			counts[number] = 0 // counted again
		}
	}
	terms := m.termsOf(keys, facts)
	keyCounts := make([]int, len(keys))
	for i, p := range known {
		m.countImages(p, facts, counts, terms[i], keyCounts)
	}
	values, _ := valuesOf(counts, facts, n)
	for slot, count := range keyCounts {
		if count > 0 {
			v := indexer.FacetValue{Value: facts[keys[slot]].Value(), Count: count}
			values[labelFacet] = addValue(values[labelFacet], v, n)
		}
	}
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
	for _, t := range tests {
		docs.andNot(t.unsure)
	}
	e.release(tests)
	return docs
}

// countImages adds how many documents of p.sure have an image that fulfils the conditions
// and has each fact, by number, and each key; terms are the places of the keys in the part.
func (m *Matches) countImages(p matched, facts []fact, counts []uint32, terms []int32, keyCounts []int) {
	x := p.shelf.images()
	if x == nil || p.sure.empty() {
		return
	}
	e := evaluation{part: p.part, scratch: m.scratch}
	tests, _ := e.tests(m.aboutImages())
	defer e.release(tests)
	isOffered := make([]bool, len(p.segment.terms))
	for _, term := range terms {
		if term >= 0 {
			isOffered[term] = true
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
			if isOffered[term] {
				lacking[keyOf{term, d}]++
			}
		}
	}
	e.eachFrequent(x, tests, p.sure, func(number uint32, docs set) {
		k := x.kinds[number]
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
			k := x.kinds[number]
			if !e.fulfils(d, k, tests) {
				continue
			}
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
	for slot, term := range terms {
		if term >= 0 {
			keyCounts[slot] += p.withTerm.countIn(any, int(term)) - without[term]
		}
	}
	e.scratch.release(append(withFact, any)...)
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
		x := p.shelf.images()
		for _, s := range []set{p.sure, p.maybe} {
			for d := range s.all() {
				if len(ids) == n {
					return ids
				}
				if x == nil || !x.read.has(d) {
					ids = append(ids, p.ids[d])
				}
			}
		}
	}
	return ids
}
