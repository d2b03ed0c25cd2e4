package memory

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

// maxDocuments is the maximum number of repositories in a segment: 65,536, so that a
// document is a number of 16 bits.
const maxDocuments = 1 << 16

// A segment holds some repositories, which are its documents. Except for the shelf, it
// never changes. The documents are in order of relevance: by most pulls, then latest change, then greatest
// id; so the best of a set are its first ones.
type segment struct {
	number int64 // different for each segment of a process

	// By document.
	ids                   []int32
	names                 texts
	basenameAt            []uint16 // where the last path component of the name begins
	pulls, updated, sizes []int64
	pulledAt              []int64  // 0: no pull was counted
	factsOf               []uint32 // the number of its set of facts
	namespaceOf           []uint32 // its namespace as a fact, in the dictionary

	// Documents in other orders.
	byID       []uint16 // ascending
	byName     []uint16
	byBasename []uint16 // those with the same one in order of relevance
	byUpdated  []uint16 // the latest first, then by greatest id
	bySize     []uint16 // the largest first, then by greatest id
	byPulls    []uint16 // the most first, then by greatest id

	words    texts // sorted
	inAll    lists // documents with each word
	inName   lists // documents with each word in their name
	inOrder  texts // the words of each document in order: see phrase.go
	pairs    []pair
	withPair lists // documents with each pair

	facts      texts    // sorted
	withFact   lists    // documents with each fact
	factNumber []uint32 // of each fact in the dictionary
	factSets   factSets
	totals     []total // of all facts, namespaces included

	terms    []int64 // hashes of keys and values of labels and annotations, sorted
	withTerm lists

	// By fact, for those that are the key of a label.
	keyTerm []int32 // its place in terms; -1: there is none
	// keyBeside is how many documents at most have the key only in other images than that of
	// the leading tag.
	keyBeside []int32

	size int // bytes, without the shelf

	shelf shelf
}

// A total is a fact by its number in the dictionary, and how many documents have it.
type total struct{ number, documents uint32 }

// factSets are the different sets of facts of the documents of a segment. Most
// repositories have the facts of many others.
type factSets struct {
	ends []uint32 // where each set ends in all
	all  []uint32 // facts by their number
}

func (f *factSets) at(i int) []uint32 {
	from := uint32(0)
	if i > 0 {
		from = f.ends[i-1]
	}
	return f.all[from:f.ends[i]]
}

var segmentNumbers atomic.Int64

// newSegment returns a segment of at most maxDocuments rows, with different ids. It adds
// their facts to a dictionary.
func newSegment(rows []Row, facts *dictionary) *segment {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Pulls, a.Pulls), cmp.Compare(b.UpdatedAt, a.UpdatedAt), cmp.Compare(b.ID, a.ID))
	})
	s := &segment{number: segmentNumbers.Add(1)}
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.Name
		s.ids = append(s.ids, r.ID)
		s.pulls = append(s.pulls, r.Pulls)
		s.pulledAt = append(s.pulledAt, r.PulledAt)
		s.updated = append(s.updated, r.UpdatedAt)
		s.sizes = append(s.sizes, r.Size)
	}
	s.names = newTexts(names)
	for _, name := range names {
		s.basenameAt = append(s.basenameAt, uint16(len(name)-len(basename(name))))
	}
	s.sort()
	s.addWords(rows)
	s.addFacts(rows, facts)
	s.addTerms(rows)
	s.addNamespaces(facts)
	s.addTotals()
	s.size = s.bytes()
	return s
}

func (s *segment) len() int { return len(s.ids) }

// sort fills the orders.
func (s *segment) sort() {
	order := func(compare func(a, b uint16) int) []uint16 {
		places := make([]uint16, s.len())
		for i := range places {
			places[i] = uint16(i)
		}
		slices.SortFunc(places, compare)
		return places
	}
	byID := func(a, b uint16) int { return cmp.Compare(s.ids[a], s.ids[b]) }
	most := func(of []int64) func(a, b uint16) int {
		return func(a, b uint16) int { return cmp.Or(cmp.Compare(of[b], of[a]), byID(b, a)) }
	}
	s.byID = order(byID)
	s.byName = order(func(a, b uint16) int { return strings.Compare(s.name(a), s.name(b)) })
	s.byBasename = order(func(a, b uint16) int {
		return cmp.Or(strings.Compare(s.basename(a), s.basename(b)), cmp.Compare(a, b))
	})
	s.byUpdated, s.bySize, s.byPulls = order(most(s.updated)), order(most(s.sizes)), order(most(s.pulls))
}

func (s *segment) name(d uint16) string { return s.names.at(int(d)) }

func (s *segment) basename(d uint16) string { return s.name(d)[s.basenameAt[d]:] }

// document returns the document of a repository.
func (s *segment) document(id int32) (d uint16, found bool) {
	i, found := searchSorted(len(s.byID), func(i int) int { return cmp.Compare(s.ids[s.byID[i]], id) })
	if !found {
		return 0, false
	}
	return s.byID[i], true
}

// addWords fills the dictionary of words.
func (s *segment) addWords(rows []Row) {
	numbers := newNumbering[string]()
	all, inName := make([][]uint32, len(rows)), make([][]uint32, len(rows))
	inOrder := make([][]uint32, len(rows)) // 1 + the number of a word, or 0
	for d, r := range rows {
		inName[d] = numbers.of(query.Words(r.Name))
		all[d] = slices.Clone(inName[d])
		for _, w := range r.Words {
			next := uint32(0)
			if w != "" {
				next = numbers.number(w) + 1
				all[d] = append(all[d], next-1)
			}
			inOrder[d] = append(inOrder[d], next)
		}
		all[d] = sortedUnique(all[d])
	}
	words, place := numbers.sorted(strings.Compare)
	s.words = newTexts(words)
	ordered := make([]string, len(rows))
	for d, numbers := range inOrder {
		ordered[d] = textOf(numbers, place)
	}
	s.inOrder = newTexts(ordered)
	s.inAll = listsOf(all, place)
	s.inName = listsOf(inName, place)
	s.addPairs()
}

// addFacts fills the dictionary of facts and the sets of facts.
func (s *segment) addFacts(rows []Row, dictionary *dictionary) {
	numbers := newNumbering[string]()
	of := make([][]uint32, len(rows))
	for d, r := range rows {
		for _, f := range r.Facts {
			of[d] = append(of[d], numbers.number(string(f)))
		}
	}
	facts, place := numbers.sorted(strings.Compare)
	s.facts = newTexts(facts)
	s.factNumber = dictionary.numbersOf(facts)
	s.withFact = listsOf(of, place)
	sets := newNumbering[string]()
	for _, numbers := range of {
		for i, n := range numbers {
			numbers[i] = place[n]
		}
		slices.Sort(numbers)
		key := make([]byte, 0, 4*len(numbers))
		for _, n := range numbers {
			key = append(key, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
		}
		known := len(sets.values)
		number := sets.number(string(key))
		s.factsOf = append(s.factsOf, number)
		if len(sets.values) > known {
			s.factSets.all = append(s.factSets.all, numbers...)
			s.factSets.ends = append(s.factSets.ends, uint32(len(s.factSets.all)))
		}
	}
}

// addTerms fills the dictionary of terms. It leaves out the hashes of facts, which have
// their own, but not those of labels: any image may have the key of a label, while a fact
// is about the image of the leading tag.
func (s *segment) addTerms(rows []Row) {
	isFact := map[int64]bool{}
	for i := range s.facts.len() {
		if f := indexer.Fact(s.facts.at(i)); f.Kind() != indexer.FactLabel {
			isFact[Hash(string(f))] = true
		}
	}
	numbers := newNumbering[int64]()
	of := make([][]uint32, len(rows))
	for d, r := range rows {
		for _, term := range r.Terms {
			if !isFact[term] {
				of[d] = append(of[d], numbers.number(term))
			}
		}
		of[d] = sortedUnique(of[d])
	}
	terms, place := numbers.sorted(cmp.Compare[int64])
	s.terms = terms
	s.withTerm = listsOf(of, place)
	s.addKeys()
}

// addKeys fills what is known of facts that are the key of a label.
func (s *segment) addKeys() {
	manyKeys := 0 // documents whose terms lack their keys
	if list := s.findTerm(Hash(ManyKeys)); list >= 0 {
		manyKeys = s.withTerm.count(int(list))
	}
	s.keyTerm, s.keyBeside = make([]int32, s.facts.len()), make([]int32, s.facts.len())
	for f := range s.keyTerm {
		s.keyTerm[f] = -1
		fact := indexer.Fact(s.facts.at(f))
		if fact.Kind() != indexer.FactLabel {
			continue
		}
		s.keyTerm[f] = s.findTerm(Hash(string(fact)))
		if term := s.keyTerm[f]; term >= 0 {
			s.keyBeside[f] = int32(max(0, s.withTerm.count(int(term))-s.withFact.count(f)+manyKeys))
		}
	}
}

// findTerm returns the place of a hash in terms, -1 if no document has it.
func (s *segment) findTerm(hash int64) int32 {
	i, found := slices.BinarySearch(s.terms, hash)
	if !found {
		return -1
	}
	return int32(i)
}

// addNamespaces fills the namespaces. A repository without one has the empty namespace.
func (s *segment) addNamespaces(dictionary *dictionary) {
	names := make([]string, s.len())
	for d := range names {
		names[d] = string(indexer.FactNamespace.Fact(namespace(s.names.at(d))))
	}
	s.namespaceOf = dictionary.numbersOf(names)
}

// addTotals fills the totals.
func (s *segment) addTotals() {
	for f, number := range s.factNumber {
		s.totals = append(s.totals, total{number, uint32(s.withFact.count(f))})
	}
	of := map[uint32]uint32{}
	for _, number := range s.namespaceOf {
		of[number]++
	}
	for number, documents := range of {
		s.totals = append(s.totals, total{number, documents})
	}
}

// rows returns the rows of the documents in a set, from which newSegment makes the same
// documents again.
func (s *segment) rows(of set) []Row {
	rows := make([]Row, s.len())
	for d := range of.all() {
		rows[d] = Row{
			ID: s.ids[d], Name: s.name(d), Pulls: s.pulls[d], PulledAt: s.pulledAt[d], UpdatedAt: s.updated[d], Size: s.sizes[d],
			Words: s.wordsOf(d),
		}
	}
	for i := range s.facts.len() {
		fact := indexer.Fact(s.facts.at(i))
		s.withFact.each(i, func(d uint16) { rows[d].Facts = append(rows[d].Facts, fact) })
	}
	for i, term := range s.terms {
		s.withTerm.each(i, func(d uint16) { rows[d].Terms = append(rows[d].Terms, term) })
	}
	kept := rows[:0]
	for d, r := range rows {
		if of.has(uint16(d)) {
			kept = append(kept, r)
		}
	}
	return kept
}

// bytes returns the memory that s takes.
func (s *segment) bytes() int {
	const perDocument = 4 + 4*8 + 2*4 + 7*2
	n := perDocument*s.len() + 12*len(s.factNumber) + 8*(len(s.terms)+len(s.pairs)+len(s.totals)) + 4*(len(s.factSets.ends)+len(s.factSets.all))
	for _, t := range []*texts{&s.names, &s.words, &s.inOrder, &s.facts} {
		n += t.bytes()
	}
	for _, l := range []*lists{&s.inAll, &s.inName, &s.withPair, &s.withFact, &s.withTerm} {
		n += l.bytes()
	}
	return n
}

// A numbering gives each different value a number, in order of appearance.
type numbering[T comparable] struct {
	numbers map[T]uint32
	values  []T
}

func newNumbering[T comparable]() *numbering[T] { return &numbering[T]{numbers: map[T]uint32{}} }

func (n *numbering[T]) number(value T) uint32 {
	number, known := n.numbers[value]
	if !known {
		number = uint32(len(n.values))
		n.numbers[value] = number
		n.values = append(n.values, value)
	}
	return number
}

// of returns the numbers of values, sorted, each once.
func (n *numbering[T]) of(values []T) []uint32 {
	numbers := make([]uint32, len(values))
	for i, v := range values {
		numbers[i] = n.number(v)
	}
	return sortedUnique(numbers)
}

// sorted returns the values in order, and the place in that order of each number.
func (n *numbering[T]) sorted(compare func(a, b T) int) (values []T, place []uint32) {
	order := make([]uint32, len(n.values))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return compare(n.values[a], n.values[b]) })
	values, place = make([]T, len(order)), make([]uint32, len(order))
	for i, number := range order {
		values[i], place[number] = n.values[number], uint32(i)
	}
	return values, place
}

func sortedUnique[T cmp.Ordered](numbers []T) []T {
	slices.Sort(numbers)
	return slices.Compact(numbers)
}

// listsOf returns the lists of the documents that have each number; place maps numbers to
// entries.
func listsOf(numbers [][]uint32, place []uint32) lists {
	return newLists(len(place), len(numbers), func(yield func(uint32, uint16)) {
		for d, of := range numbers {
			for _, n := range of {
				yield(place[n], uint16(d))
			}
		}
	})
}
