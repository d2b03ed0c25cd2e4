package memory

import (
	"cmp"
	"slices"
)

// A Vector identifies a state of the book: the life of the database and the numbers of
// the shards of its catalogue version. Each commit adds one to one number.
type Vector struct {
	Epoch  string
	Shards []int64
}

// Equal reports whether two vectors identify the same state.
func (v Vector) Equal(w Vector) bool { return v.Epoch == w.Epoch && slices.Equal(v.Shards, w.Shards) }

// After returns how many commits v has and w has not. It reports false if w has one that v
// has not, or belongs to another life.
func (v Vector) After(w Vector) (commits int64, ok bool) {
	if v.Epoch != w.Epoch || len(v.Shards) != len(w.Shards) {
		return 0, false
	}
	for i, n := range v.Shards {
		if n < w.Shards[i] {
			return 0, false
		}
		commits += n - w.Shards[i]
	}
	return commits, true
}

// A State holds the repositories of one state of the book. It never changes and is safe
// for concurrent use.
type State struct {
	vector Vector
	parts  []part
	facts  *dictionary
	sights *sights
	shown  *shown
}

// A part is a segment and those of its documents that are in a state. The others were
// changed since: they are in another part, or nowhere.
type part struct {
	*segment
	live set
	n    int // documents in live
}

// Vector returns the vector of st.
func (st *State) Vector() Vector { return st.vector }

// Len returns the number of repositories.
func (st *State) Len() (n int) {
	for _, p := range st.parts {
		n += p.n
	}
	return n
}

// Bytes returns the memory that the repositories take.
func (st *State) Bytes() (n int) {
	for _, p := range st.parts {
		n += p.size + 8*len(p.live) + p.shelf.images().bytes()
	}
	return n + st.facts.size()
}

// Segments returns the number of segments.
func (st *State) Segments() int { return len(st.parts) }

func newPart(s *segment) part {
	live := newSet(s.len())
	live.fill(s.len())
	return part{segment: s, live: live, n: s.len()}
}

// find returns the part and the document of a repository.
func (st *State) find(id int32) (part int, d uint16, found bool) {
	for i, p := range st.parts {
		if d, found := p.document(id); found && p.live.has(d) {
			return i, d, true
		}
	}
	return 0, 0, false
}

// with returns the state of a later vector: the changed repositories are gone, and those
// of rows are there.
func (st *State) with(v Vector, changed []int32, rows []Row) *State {
	next := &State{vector: v, parts: slices.Clone(st.parts), facts: st.facts, sights: st.sights, shown: st.shown}
	copied := map[int]bool{}
	for _, id := range changed {
		i, d, found := next.find(id)
		if !found {
			continue
		}
		p := &next.parts[i]
		if !copied[i] {
			p.live, copied[i] = slices.Clone(p.live), true
		}
		p.live.remove(d)
		p.n--
	}
	next.parts = slices.DeleteFunc(next.parts, func(p part) bool { return p.n == 0 })
	for chunk := range slices.Chunk(rows, maxDocuments) {
		next.parts = append(next.parts, newPart(newSegment(chunk, st.facts)))
	}
	return next
}

// mergeFactor is the number of segments of about the same size that are merged into one:
// 8. Each repository is so copied at most five times before its segment is full, and
// a question asks at most some forty segments besides the full ones.
const mergeFactor = 8

// due returns the segments to merge next, nil if there are none: the smallest mergeFactor
// segments of about the same size, or one whose documents are mostly gone.
func (st *State) due() []part {
	bySize := slices.Clone(st.parts)
	slices.SortStableFunc(bySize, func(a, b part) int { return cmp.Compare(a.n, b.n) })
	for i := 0; i+mergeFactor <= len(bySize); i++ {
		group := bySize[i : i+mergeFactor]
		smallest, largest, total := group[0].n, group[mergeFactor-1].n, 0
		for _, p := range group {
			total += p.n
		}
		if largest <= smallest*mergeFactor && total <= maxDocuments {
			return group
		}
	}
	for i, p := range bySize {
		if p.n < p.len()/2 {
			return bySize[i : i+1]
		}
	}
	return nil
}

// smallMerge is the maximum number of repositories that a request merges into one segment:
// 64, half a millisecond. Larger segments are merged in the background.
const smallMerge = 64

// mergeSmall returns st with its smallest segments merged, so that the changes of many
// pushes make few segments.
func (st *State) mergeSmall() *State {
	for {
		parts := st.due()
		n := 0
		for _, p := range parts {
			n += p.n
		}
		if parts == nil || n > smallMerge {
			return st
		}
		st = st.replace(parts, st.merged(parts))
	}
}

// merged returns one segment with the documents of parts.
func (st *State) merged(parts []part) *segment {
	var rows []Row
	for _, p := range parts {
		rows = append(rows, p.rows(p.live)...)
	}
	s := newSegment(rows, st.facts)
	s.imagesFrom(parts)
	return s
}

// replace returns the state in which a segment made by merged replaces parts of an
// earlier state. Documents that are gone since then are gone in it too.
func (st *State) replace(parts []part, by *segment) *State {
	p := newPart(by)
	next := &State{vector: st.vector, facts: st.facts, sights: st.sights, shown: st.shown}
	next.parts = slices.DeleteFunc(slices.Clone(st.parts), func(now part) bool { return hasSegment(parts, now.segment) })
	for _, before := range parts {
		gone := slices.Clone(before.live)
		if i := slices.IndexFunc(st.parts, func(now part) bool { return now.segment == before.segment }); i >= 0 {
			gone.andNot(st.parts[i].live)
		}
		for d := range gone.all() {
			if there, ok := by.document(before.ids[d]); ok {
				p.live.remove(there)
				p.n--
			}
		}
	}
	if p.n > 0 {
		next.parts = append(next.parts, p)
	}
	return next
}

func hasSegment(parts []part, s *segment) bool {
	return slices.ContainsFunc(parts, func(p part) bool { return p.segment == s })
}
