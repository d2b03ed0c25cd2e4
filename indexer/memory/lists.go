package memory

import (
	"cmp"
	"slices"
)

// lists are lists of documents, one for each entry of a dictionary. A list of few
// documents is stored as their numbers, a longer one as a set.
type lists struct {
	ends   []uint32       // where each list ends in places; it begins where the one before ends
	places []uint16       // documents of the short lists, ascending if the pairs were
	long   map[uint32]set // the other lists, by entry; these are empty in places
	counts map[uint32]int // numbers of documents of these
}

// newLists returns the lists of pairs of an entry and a document. Pairs of one entry may
// be in any order, and may occur twice.
func newLists(entries, documents int, pairs func(yield func(entry uint32, d uint16))) lists {
	l := lists{ends: make([]uint32, entries), long: map[uint32]set{}, counts: map[uint32]int{}}
	pairs(func(e uint32, _ uint16) { l.ends[e]++ })
	longest := uint32(max(documents/16, 1)) // as numbers these take as much memory as a set
	total := uint32(0)
	for e, n := range l.ends {
		if n > longest {
			l.long[uint32(e)] = newSet(documents)
			n = 0
		}
		total += n
		l.ends[e] = total - n // the beginning, until the documents are in place
	}
	l.places = make([]uint16, total)
	pairs(func(e uint32, d uint16) {
		if s := l.long[e]; s != nil {
			s.add(d)
			return
		}
		l.places[l.ends[e]] = d
		l.ends[e]++
	})
	for e, docs := range l.long {
		l.counts[e] = docs.count()
	}
	return l
}

// addTo adds the documents of an entry to a set.
func (l *lists) addTo(s set, entry int) {
	places := l.short(entry)
	for _, d := range places {
		s.add(d)
	}
	if len(places) == 0 {
		if long := l.long[uint32(entry)]; long != nil {
			s.or(long)
		}
	}
}

// has reports whether a document is in the list of an entry, which must be ascending.
func (l *lists) has(entry int, d uint16) bool {
	if long := l.long[uint32(entry)]; long != nil {
		return long.has(d)
	}
	_, found := slices.BinarySearch(l.short(entry), d)
	return found
}

// countIn returns how many documents of an entry are in a set.
func (l *lists) countIn(s set, entry int) (n int) {
	places := l.short(entry)
	for _, d := range places {
		if s.has(d) {
			n++
		}
	}
	if len(places) == 0 {
		if long := l.long[uint32(entry)]; long != nil {
			return s.countAnd(long)
		}
	}
	return n
}

// count returns the number of documents of an entry.
func (l *lists) count(entry int) int {
	return len(l.short(entry)) + l.counts[uint32(entry)]
}

// each calls f for each document of an entry.
func (l *lists) each(entry int, f func(uint16)) {
	for _, d := range l.short(entry) {
		f(d)
	}
	if long := l.long[uint32(entry)]; long != nil {
		for d := range long.all() {
			f(d)
		}
	}
}

func (l *lists) short(entry int) []uint16 {
	from := uint32(0)
	if entry > 0 {
		from = l.ends[entry-1]
	}
	return l.places[from:l.ends[entry]]
}

// bytes returns the memory that l takes.
func (l *lists) bytes() (n int) {
	n = 4*len(l.ends) + 2*len(l.places)
	for _, s := range l.long {
		n += 8*len(s) + 96 // with the entries of the maps
	}
	return n
}

// texts are strings in one piece of memory.
type texts struct {
	all  string
	ends []uint32
}

func newTexts(of []string) texts {
	t := texts{ends: make([]uint32, len(of))}
	n := 0
	for i, s := range of {
		n += len(s)
		t.ends[i] = uint32(n)
	}
	all := make([]byte, 0, n)
	for _, s := range of {
		all = append(all, s...)
	}
	t.all = string(all)
	return t
}

func (t *texts) len() int { return len(t.ends) }

func (t *texts) at(i int) string {
	from := uint32(0)
	if i > 0 {
		from = t.ends[i-1]
	}
	return t.all[from:t.ends[i]]
}

func (t *texts) bytes() int { return len(t.all) + 4*len(t.ends) }

// search returns the first of sorted texts that is at least s, and whether it is s.
func (t *texts) search(s string) (i int, found bool) {
	return searchSorted(t.len(), func(i int) int { return cmp.Compare(t.at(i), s) })
}

// from returns the range of sorted texts that begin with a prefix.
func (t *texts) from(prefix string) (low, high int) {
	low, _ = t.search(prefix)
	high, _ = t.search(prefix + afterAll)
	return low, high
}

// afterAll, after a prefix, is greater than any text of valid UTF-8 with that prefix.
const afterAll = "\xff"

// searchSorted returns the first of n sorted things for which compare is not negative,
// and whether compare is 0 there.
func searchSorted(n int, compare func(int) int) (i int, found bool) {
	low, high := 0, n
	for low < high {
		middle := int(uint(low+high) >> 1)
		if compare(middle) < 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, low < n && compare(low) == 0
}
