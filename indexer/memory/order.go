package memory

import (
	"cmp"
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer/query"
)

// A Hit is a repository among Matches.
type Hit struct {
	ID    int32
	Maybe bool // whether it is not certain that it matches
	at    shownKey
}

// How well a repository matches: see query.SortRelevance. The first is best.
const (
	sameName = iota
	sameBasename
	longerBasename
	wordsInName
	wordsAnywhere
)

// A place is a document among the best of a part.
type place struct {
	document uint16
	class    uint8
}

// Top returns the first n matches in the order of the query, those that are not certain
// included.
func (m *Matches) Top(n int) []Hit {
	rankings := make([][]place, len(m.parts))
	for i, p := range m.parts {
		rankings[i] = m.best(p, n)
	}
	before := m.order()
	var hits []Hit
	for len(hits) < n {
		best := -1
		for i, r := range rankings {
			if len(r) > 0 && (best < 0 || before(i, r[0], best, rankings[best][0])) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		p, d := m.parts[best], rankings[best][0].document
		hits = append(hits, Hit{p.ids[d], !p.sure.has(d), shownKey{p.number, d}})
		rankings[best] = rankings[best][1:]
	}
	return hits
}

// order returns a function that reports whether a document of one part comes before a
// document of another.
func (m *Matches) order() func(i int, a place, j int, b place) bool {
	var keys func(p part, q part, a, b uint16) int
	byID := func(p, q part, a, b uint16) int { return cmp.Compare(q.ids[b], p.ids[a]) }
	updated := func(p, q part, a, b uint16) int { return cmp.Compare(q.updated[b], p.updated[a]) }
	switch m.sort() {
	case query.SortName:
		keys = func(p, q part, a, b uint16) int { return strings.Compare(p.name(a), q.name(b)) }
	case query.SortUpdated:
		keys = func(p, q part, a, b uint16) int { return cmp.Or(updated(p, q, a, b), byID(p, q, a, b)) }
	case query.SortSize:
		keys = func(p, q part, a, b uint16) int { return cmp.Or(cmp.Compare(q.sizes[b], p.sizes[a]), byID(p, q, a, b)) }
	case query.SortPulls:
		keys = func(p, q part, a, b uint16) int { return cmp.Or(cmp.Compare(q.pulls[b], p.pulls[a]), byID(p, q, a, b)) }
	default:
		keys = func(p, q part, a, b uint16) int {
			return cmp.Or(cmp.Compare(q.pulls[b], p.pulls[a]), updated(p, q, a, b), byID(p, q, a, b))
		}
	}
	return func(i int, a place, j int, b place) bool {
		return cmp.Or(cmp.Compare(a.class, b.class), keys(m.parts[i].part, m.parts[j].part, a.document, b.document)) < 0
	}
}

// sort returns the order of the results. Without a word, everything is equally relevant,
// and what changed last comes first.
func (m *Matches) sort() query.Sort {
	q := m.question.Query
	switch q.Sort {
	case query.SortName, query.SortUpdated, query.SortSize, query.SortPulls:
		return q.Sort
	}
	if !slices.ContainsFunc(q.Clauses, query.Clause.OnlyWords) {
		return query.SortUpdated
	}
	return query.SortRelevance
}

// best returns the first n matches in a part.
func (m *Matches) best(p matched, n int) []place {
	all := m.scratch.empty(p.len())
	defer m.scratch.release(all)
	all.or(p.sure)
	all.or(p.maybe)
	switch m.sort() {
	case query.SortName:
		return p.firstOf(all, n, p.byName)
	case query.SortUpdated:
		return p.firstOf(all, n, p.byUpdated)
	case query.SortSize:
		return p.firstOf(all, n, p.bySize)
	case query.SortPulls:
		return p.firstOf(all, n, p.byPulls)
	}
	return m.mostRelevant(p, all, n)
}

// firstOf returns the first n documents of a set in an order.
func (p *matched) firstOf(of set, n int, order []uint16) []place {
	var first []place
	left := min(n, of.count())
	for _, d := range order {
		if left == 0 {
			break
		}
		if of.has(d) {
			first = append(first, place{document: d})
			left--
		}
	}
	return first
}

// mostRelevant returns the first n documents of a set by relevance, and removes them from
// the set. Documents are numbered in the order of equally good ones.
func (m *Matches) mostRelevant(p matched, of set, n int) (first []place) {
	take := func(d uint16, class uint8) {
		if len(first) < n && of.has(d) {
			of.remove(d)
			first = append(first, place{d, class})
		}
	}
	takeAll := func(docs set, class uint8) {
		docs.and(of)
		for d := range docs.all() {
			if len(first) == n {
				break
			}
			take(d, class)
		}
	}
	docs := m.scratch.empty(p.len())
	defer m.scratch.release(docs)
	if name := m.question.Query.Name; name != "" {
		if i, found := p.named(name); found {
			take(p.byName[i], sameName)
		}
		low, longer, high := p.basenamesFrom(name)
		for _, d := range p.byBasename[low:longer] {
			if len(first) == n {
				break
			}
			take(d, sameBasename)
		}
		if longer < high && len(first) < n {
			for _, d := range p.byBasename[longer:high] {
				docs.add(d)
			}
			takeAll(docs, longerBasename)
		}
	}
	if len(first) < n {
		m.addInName(p, docs)
		takeAll(docs, wordsInName)
	}
	if len(first) < n {
		copy(docs, of)
		takeAll(docs, wordsAnywhere)
	}
	return first
}

// addInName makes a set that of the documents with all words of the query in the name.
func (m *Matches) addInName(p matched, to set) {
	e := evaluation{part: p.part, scratch: m.scratch}
	to.fill(p.len())
	for _, c := range m.question.Query.Clauses {
		if !c.OnlyWords() {
			continue
		}
		any := m.scratch.empty(p.len())
		for _, t := range c {
			with := e.wordsIn(&p.inName, t)
			if t.Phrase && len(t.Words) > 1 {
				e.keepPhrase(with, t, true)
			}
			any.or(with)
			m.scratch.release(with)
		}
		to.and(any)
		m.scratch.release(any)
	}
}

// Count returns how many repositories match for certain, and how many more may match.
func (m *Matches) Count() (sure, maybe int) {
	for _, p := range m.parts {
		sure += p.sure.count()
		maybe += p.maybe.count()
	}
	return sure, maybe
}

// Maybes returns the first n repositories that may match, in the order of the query.
func (m *Matches) Maybes(n int) []int32 {
	certain := make([]set, len(m.parts))
	for i := range m.parts {
		p := &m.parts[i]
		certain[i], p.sure = p.sure, m.scratch.empty(p.len())
	}
	hits := m.Top(n)
	for i := range m.parts {
		m.scratch.release(m.parts[i].sure)
		m.parts[i].sure = certain[i]
	}
	ids := make([]int32, len(hits))
	for i, h := range hits {
		ids[i] = h.ID
	}
	return ids
}

// Decide settles repositories that may match: of those in asked, the ones in confirmed
// match and the others do not.
func (m *Matches) Decide(asked, confirmed []int32) {
	for i := range m.parts {
		p := &m.parts[i]
		for _, id := range asked {
			if d, found := p.document(id); found {
				p.maybe.remove(d)
			}
		}
		for _, id := range confirmed {
			if d, found := p.document(id); found && p.live.has(d) {
				p.sure.add(d)
			}
		}
	}
}
