package memory

import (
	"cmp"
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// seen returns the documents of a part that an asker may see, without those that are unlisted.
// The caller releases them.
func (st *State) seen(p part, v indexer.Visibility, x *scratch) set {
	seen := x.empty(p.len())
	copy(seen, p.live)
	if visible := st.sights.of(p.segment, v); visible != nil {
		seen.and(visible)
	}
	if i, found := p.facts.search(string(indexer.IsUnlisted)); found {
		unlisted := x.empty(p.len())
		p.withFact.addTo(unlisted, i)
		seen.andNot(unlisted)
		x.release(unlisted)
	}
	return seen
}

// eachPart calls f for each part and the documents in it that seen returns.
func (st *State) eachPart(v indexer.Visibility, f func(p part, seen set)) {
	x := scratches.Get().(*scratch)
	defer scratches.Put(x)
	for _, p := range st.parts {
		seen := st.seen(p, v, x)
		f(p, seen)
		x.release(seen)
	}
}

// Count returns the number of repositories that an asker may see, without those that are
// unlisted.
func (st *State) Count(v indexer.Visibility) (n int) {
	st.eachPart(v, func(_ part, seen set) { n += seen.count() })
	return n
}

// A named is a repository among suggestions. Equally good ones are sorted by most pulls,
// latest change, greatest id.
type named struct {
	name           string
	class          int
	pulls, updated int64
	id             int32
}

// Names returns the n best names for a text that is being typed: the name that is the
// text, then those whose last path component is it, then those whose last path component
// begins with it, then other names that begin with it.
func (st *State) Names(v indexer.Visibility, typed string, n int) []string {
	const (
		sameName = iota
		sameBasename
		longerBasename
		longerName
	)
	var best []named
	st.eachPart(v, func(p part, seen set) {
		found := func(of []uint16, class func(d uint16) int) {
			for _, d := range p.firstSeen(of, seen, n) {
				best = append(best, named{p.name(d), class(d), p.pulls[d], p.updated[d], p.ids[d]})
			}
		}
		if at, there := p.named(typed); there { // the lists below are cut off without regard to it
			found(p.byName[at:at+1], func(uint16) int { return sameName })
		}
		low, longer, high := p.basenamesFrom(typed)
		found(p.byBasename[low:longer], func(uint16) int { return sameBasename })
		found(p.byBasename[longer:high], func(uint16) int { return longerBasename })
		first, last := p.namesFrom(typed)
		found(p.byName[first:last], func(d uint16) int {
			if strings.HasPrefix(p.basename(d), typed) {
				return longerBasename // it is among these already, and is removed below
			}
			return longerName
		})
	})
	slices.SortFunc(best, func(a, b named) int {
		return cmp.Or(cmp.Compare(a.class, b.class),
			cmp.Compare(b.pulls, a.pulls), cmp.Compare(b.updated, a.updated), cmp.Compare(b.id, a.id))
	})
	var names []string
	for _, b := range best {
		if len(names) < n && !slices.Contains(names, b.name) {
			names = append(names, b.name)
		}
	}
	return names
}

// firstSeen returns the first n documents of a list, in order of relevance, that are in a
// set.
func (s *segment) firstSeen(of []uint16, seen set, n int) []uint16 {
	var first []uint16 // sorted
	for _, d := range of {
		if !seen.has(d) || len(first) == n && d > first[n-1] {
			continue
		}
		at, _ := slices.BinarySearch(first, d)
		first = slices.Insert(first, at, d)
		first = first[:min(len(first), n)]
	}
	return first
}

// Namespaces returns the first n namespaces that begin with a text, up to the next slash
// after it, sorted, in which the asker may see a repository.
func (st *State) Namespaces(v indexer.Visibility, typed string, n int) []string {
	var names []string
	st.eachPart(v, func(p part, seen set) {
		low, high := p.namesFrom(typed)
		for found := 0; low < high && found < n; {
			name := p.name(p.byName[low])
			slash := strings.IndexByte(name[len(typed):], '/')
			if slash < 0 || len(typed)+slash == 0 {
				low++
				continue
			}
			name = name[:len(typed)+slash]
			next, _ := p.named(name + afterSlash)
			if slices.ContainsFunc(p.byName[low:next], seen.has) {
				names = append(names, name)
				found++
			}
			low = next
		}
	})
	slices.Sort(names)
	names = slices.Compact(names)
	return names[:min(len(names), n)]
}

// afterSlash follows the slash in the order of bytes: "a0" is the first name after those in
// the namespace "a/".
const afterSlash = "0"

// Values returns the first n values of the facts of a kind that begin with a text and that
// a repository has, those of most repositories first.
func (st *State) Values(v indexer.Visibility, kind indexer.FactKind, typed string, n int) []string {
	counts := map[string]int{}
	st.eachPart(v, func(p part, seen set) {
		low, high := p.facts.from(string(kind.Fact(typed)))
		for i := low; i < high; i++ {
			if count := p.withFact.countIn(seen, i); count > 0 {
				counts[indexer.Fact(p.facts.at(i)).Value()] += count
			}
		}
	})
	var first []indexer.FacetValue
	for value, count := range counts {
		first = addValue(first, indexer.FacetValue{Value: value, Count: count}, n)
	}
	var values []string
	for _, v := range first {
		values = append(values, v.Value)
	}
	return values
}
