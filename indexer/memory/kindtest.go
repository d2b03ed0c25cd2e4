package memory

import (
	"cmp"
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer/query"
)

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

// kindTests are tests that one image must pass.
type kindTests struct {
	all []kindTest
	// byFacts has for each set of facts, by number, the tests that images with these facts
	// pass: bit i of test i. 0: not known yet.
	byFacts []uint64
}

const (
	// maxTests is the maximum number of tests: 63, the bits of a uint64 but for isKnown.
	maxTests = 63
	// isKnown is set in each known value of kindTests.byFacts.
	isKnown = 1 << maxTests
)

// tests returns the tests of those clauses that kinds decide, and whether they decide all:
// at most maxTests. The caller must release them.
func (e *evaluation) tests(clauses []query.Clause) (tests kindTests, all bool) {
	all = true
	for _, c := range clauses {
		if len(tests.all) == maxTests {
			return tests, false
		}
		if test, ok := e.test(c); ok {
			tests.all = append(tests.all, test)
		} else {
			all = false
		}
	}
	return tests, all
}

func (e *evaluation) release(tests kindTests) {
	for _, t := range tests.all {
		e.scratch.release(t.docs, t.unsure)
	}
}

// passedBy returns which tests the facts of a kind pass.
func (t *kindTests) passedBy(x *kinds, number uint32) uint64 {
	if t.byFacts == nil {
		t.byFacts = make([]uint64, len(x.sets))
	}
	passed := &t.byFacts[x.set[number]]
	if *passed == 0 {
		*passed = isKnown
		for i, test := range t.all {
			if haveCommon(x.sets[x.set[number]], test.facts) {
				*passed |= 1 << i
			}
		}
	}
	return *passed
}

// passes reports whether an image of a kind and a document passes all tests.
func (e *evaluation) passes(d uint16, x *kinds, number uint32, tests *kindTests) bool {
	byFacts := tests.passedBy(x, number)
	for i := range tests.all {
		if byFacts&(1<<i) != 0 {
			continue
		}
		t := &tests.all[i]
		if !t.docs.has(d) {
			return false
		}
		lacks := x.lackedBy(number)
		if haveCommon(lacks, t.terms) && !slices.ContainsFunc(t.terms, func(term int32) bool {
			return !haveCommon(lacks, []int32{term}) && e.withTerm.has(int(term), d)
		}) {
			return false
		}
	}
	return true
}

// eachFrequent calls f for each frequent kind that passes all tests, with those documents of
// a set that have such an image. The documents are only lent.
func (e *evaluation) eachFrequent(x *images, tests kindTests, among set, f func(number uint32, docs set)) {
	docs := e.empty()
	defer e.scratch.release(docs)
	for number, all := range x.frequent {
		copy(docs, all)
		docs.and(among)
		if e.keepFulfilling(docs, x.kinds.at(number), tests.all) {
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
