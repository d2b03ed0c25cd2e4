package memory

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

// A Question asks for the repositories that a query selects.
type Question struct {
	Query   query.Query
	Visible indexer.Visibility // the repositories that the asker may see
	// Known returns the ids of all repositories that fulfil a term alone, in any order, if
	// somebody else has found them. Terms are those that Outside returns.
	Known map[string][]int32
}

// Outside returns the terms of a query that a copy cannot decide, and for which an index
// of the database finds the repositories: tags, digests, and values of labels and
// annotations if some repository has more values than its search row holds. KeyOf of a
// term is its key in Question.Known.
func (st *State) Outside(q query.Query) []query.Term {
	var terms []query.Term
	for _, c := range q.Effective().Clauses {
		for _, t := range c {
			t.Not = false
			switch {
			case t.Field == query.FieldText && t.Tag != "":
				terms = append(terms, query.TagTerm(t.Tag))
			case t.Field == query.FieldTag && !isGlob(t.Value), t.Field == query.FieldDigest, st.hasMore(t):
				terms = append(terms, t)
			}
		}
	}
	return terms
}

// hasMore reports whether t is a condition on the value of a label or an annotation, and
// some repository has more values than its search row holds.
func (st *State) hasMore(t query.Term) bool {
	if t.Field != query.FieldLabel && t.Field != query.FieldAnnotation {
		return false
	}
	term, exact := TermOf(t)
	key, _, valued := strings.Cut(term, TermSeparator)
	more := []int64{Hash(ManyKeys), ^Hash(key)}
	return exact && valued && slices.ContainsFunc(st.parts, func(p part) bool {
		return slices.ContainsFunc(more, func(hash int64) bool { return p.findTerm(hash) >= 0 })
	})
}

// KeyOf returns the key of a term in Question.Known.
func KeyOf(t query.Term) string { return string(t.Field) + "\x00" + t.Name + "\x00" + t.Value }

// Matches are the repositories of a state that a question selects. They are used by one
// goroutine, and Close must be called in the end.
type Matches struct {
	question Question
	parts    []matched
	facts    *dictionary
	scratch  *scratch
}

// A matched is what a question selects in one part.
type matched struct {
	part
	// Every document in sure fulfils the question. Documents in maybe, which are not in
	// sure, may fulfil it, and all others do not.
	sure, maybe set
}

// Match finds the repositories that a question selects. It returns the error of ctx if
// that ends before: patterns are compared with each name, which takes a second for a
// million names and a pattern of many stars.
func (st *State) Match(ctx context.Context, q Question) (*Matches, error) {
	q.Query = q.Query.Effective()
	m := &Matches{question: q, facts: st.facts, scratch: scratches.Get().(*scratch)}
	order := cheapestFirst(q.Query.Clauses)
	for _, p := range st.parts {
		sure, maybe := m.in(ctx, p, st.sights.of(p.segment, q.Visible), order)
		if sure.empty() && maybe.empty() {
			m.scratch.release(sure, maybe)
			continue
		}
		m.parts = append(m.parts, matched{p, sure, maybe})
	}
	if err := ctx.Err(); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Close gives back the memory of m, which must not be used any more.
func (m *Matches) Close() {
	for _, p := range m.parts {
		m.scratch.release(p.sure, p.maybe)
	}
	m.parts = nil
	scratches.Put(m.scratch)
}

// in evaluates the question in a part. seen are the visible documents, nil for all.
func (m *Matches) in(ctx context.Context, p part, seen set, order []query.Clause) (sure, maybe set) {
	e := evaluation{part: p, known: m.question.Known, scratch: m.scratch}
	all := answer{e.empty(), e.empty()}
	copy(all.sure, p.live)
	if seen != nil {
		all.sure.and(seen)
	}
	if after := m.question.Query.After; after != "" {
		e.keep(&all, e.namesAfter(after))
	}
	var aboutImages []query.Clause
	var ofImages []answer
	for _, c := range order {
		if all.sure.empty() && all.maybe.empty() || ctx.Err() != nil {
			break
		}
		a := e.clause(c)
		if c.AboutImages() {
			aboutImages, ofImages = append(aboutImages, c), append(ofImages, a)
			continue
		}
		e.keep(&all, a)
	}
	if len(ofImages) > 0 {
		e.keep(&all, e.sameImage(aboutImages, ofImages))
	}
	return all.sure, all.maybe
}

// An answer is what is known about the documents that fulfil a condition: those in sure
// do, those in maybe may, and others do not. No document is in both.
type answer struct{ sure, maybe set }

// An evaluation evaluates a question in one part.
type evaluation struct {
	part
	known   map[string][]int32
	scratch *scratch
}

func (e *evaluation) empty() set { return e.scratch.empty(e.len()) }

// nothing returns an answer that nothing fulfils; everything, one that all fulfil;
// anything, one that all may fulfil.
func (e *evaluation) nothing() answer { return answer{e.empty(), e.empty()} }

func (e *evaluation) everything() answer {
	a := e.nothing()
	a.sure.fill(e.len())
	return a
}

func (e *evaluation) anything() answer {
	a := e.nothing()
	a.maybe.fill(e.len())
	return a
}

// keep makes a the answer to a and b, and releases b.
func (e *evaluation) keep(a *answer, b answer) {
	either := e.empty() // of a
	either.or(a.sure)
	either.or(a.maybe)
	a.sure.and(b.sure)
	b.maybe.or(b.sure)
	either.and(b.maybe)
	either.andNot(a.sure)
	copy(a.maybe, either)
	e.scratch.release(either, b.sure, b.maybe)
}

// or makes a the answer to a or b, and releases b.
func (e *evaluation) or(a *answer, b answer) {
	a.sure.or(b.sure)
	a.maybe.or(b.maybe)
	a.maybe.andNot(a.sure)
	e.scratch.release(b.sure, b.maybe)
}

// not returns the answer to not a, and releases a.
func (e *evaluation) not(a answer) answer {
	b := e.everything()
	b.sure.andNot(a.sure)
	b.sure.andNot(a.maybe)
	copy(b.maybe, a.maybe)
	e.scratch.release(a.sure, a.maybe)
	return b
}

// sameImage returns the answer to several clauses that one image must fulfil, from the
// answer to each: whether any image fulfils it. What kinds of images there are tells
// whether the same image does, where it is known.
func (e *evaluation) sameImage(clauses []query.Clause, of []answer) answer {
	a := of[0]
	for _, b := range of[1:] {
		e.keep(&a, b)
	}
	if len(of) == 1 {
		return a
	}
	a.maybe.or(a.sure)
	clear(a.sure)
	x := e.shelf.images()
	if x == nil {
		return a
	}
	tests, all := e.tests(clauses)
	defer e.release(tests)
	with, without := e.empty(), e.empty()
	e.eachFrequent(x, tests, a.maybe, func(_ uint32, docs set) { with.or(docs) })
	without.or(x.known)
	without.and(a.maybe)
	without.andNot(with)
	for d := range without.all() {
		if slices.ContainsFunc(x.othersOf(d), func(number uint32) bool { return e.passes(d, &x.kinds, number, &tests) }) {
			with.add(d)
		}
	}
	without.andNot(with)
	for _, t := range tests.all {
		without.andNot(t.unsure)
	}
	a.maybe.andNot(without)
	if all {
		a.sure.or(with)
		a.maybe.andNot(with)
	}
	e.scratch.release(with, without)
	return a
}

func (e *evaluation) clause(c query.Clause) answer {
	a := e.term(c[0])
	for _, t := range c[1:] {
		e.or(&a, e.term(t))
	}
	return a
}

// term returns the answer to a term, which may be negated.
func (e *evaluation) term(t query.Term) answer {
	if t.Not {
		t.Not = false
		return e.not(e.term(t))
	}
	switch t.Field {
	case query.FieldText:
		return e.text(t)
	case query.FieldRepository:
		return e.named(t.Value)
	case query.FieldNamespace:
		return e.named(strings.TrimSuffix(t.Value, "/") + "/*")
	case query.FieldIs:
		if t.Value == "tagged" {
			return e.everything()
		}
		return e.fact(indexer.FactIs, t.Value)
	case query.FieldLicence:
		return e.fact(indexer.FactLicence, t.Value)
	case query.FieldLabel, query.FieldAnnotation:
		return e.label(t)
	case query.FieldTag, query.FieldDigest:
		return e.outside(t)
	case query.FieldPulls:
		return e.where(func(d uint16) bool { return t.Holds(e.pulls[d]) })
	case query.FieldPulled:
		return e.where(func(d uint16) bool { return pulledIn(t, e.pulledAt[d]) })
	}
	if kind, ok := factFields[t.Field]; ok {
		return e.fact(kind, t.Value)
	}
	return e.anything()
}

// where returns the answer to a condition on each document.
func (e *evaluation) where(holds func(d uint16) bool) answer {
	a := e.nothing()
	for d := range e.len() {
		if holds(uint16(d)) {
			a.sure.add(uint16(d))
		}
	}
	return a
}

// pulledIn reports whether the time of the last pull, in microseconds, fulfils a term; 0 if no
// pull was counted.
func pulledIn(t query.Term, at int64) bool {
	if t.Value == query.Never || at == 0 {
		return t.Value == query.Never && at == 0
	}
	return t.HoldsAt(time.UnixMicro(at))
}

// factFields are the fields of the query language that facts of images decide.
var factFields = map[query.Field]indexer.FactKind{
	query.FieldOS: indexer.FactOS, query.FieldArchitecture: indexer.FactArchitecture,
	query.FieldPlatform: indexer.FactPlatform, query.FieldType: indexer.FactType, query.FieldHas: indexer.FactHas,
}

// outside returns the answer to a term that somebody else has decided, if it is known.
func (e *evaluation) outside(t query.Term) answer {
	ids, known := e.known[KeyOf(t)]
	if !known {
		return e.anything()
	}
	a := e.nothing()
	for _, id := range ids {
		if d, found := e.document(id); found {
			a.sure.add(d)
		}
	}
	return a
}

// text returns the answer to free words.
func (e *evaluation) text(t query.Term) answer {
	a := answer{e.wordsIn(&e.inAll, t), e.empty()}
	if t.Phrase && len(t.Words) > 1 {
		e.keepPhrase(a.sure, t, false)
	}
	if t.Tag != "" {
		e.keep(&a, e.outside(query.TagTerm(t.Tag)))
	}
	return a
}

// wordsIn returns the documents that have all words of a term, by the lists of either
// text.
func (e *evaluation) wordsIn(in *lists, t query.Term) set {
	var all set
	for i := range t.Words {
		low, high := e.wordRange(t, i)
		with := e.empty()
		for entry := low; entry < high; entry++ {
			in.addTo(with, entry)
		}
		if all == nil {
			all = with
			continue
		}
		all.and(with)
		e.scratch.release(with)
	}
	if all == nil {
		all = e.empty()
		all.fill(e.len())
	}
	return all
}

// wordRange returns the range in words of those that may be word i of a term.
func (s *segment) wordRange(t query.Term, i int) (low, high int) {
	word := cutWord(t.Words[i])
	if t.Prefix && i == len(t.Words)-1 {
		return s.words.from(word)
	}
	low, found := s.words.search(word)
	if !found {
		return low, low
	}
	return low, low + 1
}

// maxWord is the maximum number of bytes of a word in a search row: 2,046, the limit of
// PostgreSQL's tsvector. A longer word in a query means its beginning.
const maxWord = 2046

func cutWord(word string) string { return word[:min(len(word), maxWord)] }

func (e *evaluation) named(pattern string) answer {
	a := e.nothing()
	e.addNamed(a.sure, indexer.CleanText(pattern))
	return a
}

// namesAfter returns the documents whose name comes after a name.
func (e *evaluation) namesAfter(name string) answer {
	a := e.nothing()
	i, found := e.segment.named(name)
	if found {
		i++
	}
	for _, d := range e.byName[i:] {
		a.sure.add(d)
	}
	return a
}

// fact returns the answer to a fact; its value may be a pattern.
func (e *evaluation) fact(kind indexer.FactKind, value string) answer {
	a := e.nothing()
	e.eachFact(kind, value, func(entry int) { e.withFact.addTo(a.sure, entry) })
	return a
}

// eachFact calls f with the entry of each fact of a kind; its value may be a pattern.
func (e *evaluation) eachFact(kind indexer.FactKind, value string, f func(entry int)) {
	fact := string(kind.Fact(indexer.CleanText(value)))
	if !isGlob(value) {
		if i, found := e.facts.search(fact); found {
			f(i)
		}
		return
	}
	matches := indexer.Glob(fact)
	low, high := e.facts.from(string(kind.Fact("")))
	for i := low; i < high; i++ {
		if matches(e.facts.at(i)) {
			f(i)
		}
	}
}

// label returns the answer to a condition on a label or an annotation. The search row of
// a repository has the keys of all its images and, unless these are too many, their
// values.
func (e *evaluation) label(t query.Term) answer {
	if _, known := e.known[KeyOf(t)]; known {
		return e.outside(t)
	}
	term, exact := TermOf(t)
	if term == "" {
		return e.anything()
	}
	key, _, valued := strings.Cut(term, TermSeparator)
	a := e.nothing()
	e.addTerm(a.maybe, Hash(ManyKeys))
	switch {
	case valued:
		e.addTerm(a.maybe, ^Hash(key))
		e.addTerm(a.sure, Hash(term))
	case exact:
		e.addTerm(a.sure, Hash(key))
	default:
		e.addTerm(a.maybe, Hash(key))
	}
	a.maybe.andNot(a.sure)
	return a
}

func (e *evaluation) addTerm(to set, term int64) {
	if i := e.findTerm(term); i >= 0 {
		e.withTerm.addTo(to, int(i))
	}
}

// cheapestFirst returns clauses in an order in which the costly ones, those with a prefix
// or a pattern, come last: they are not evaluated in a part that has no match by then.
func cheapestFirst(clauses []query.Clause) []query.Clause {
	costly := func(c query.Clause) int {
		if slices.ContainsFunc(c, func(t query.Term) bool { return t.Prefix || isGlob(t.Value) }) {
			return 1
		}
		return 0
	}
	order := slices.Clone(clauses)
	slices.SortStableFunc(order, func(a, b query.Clause) int { return costly(a) - costly(b) })
	return order
}
