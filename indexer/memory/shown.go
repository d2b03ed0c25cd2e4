package memory

import (
	"sync"

	"github.com/portbook/portbook/indexer"
)

// maxShown is the most bytes of what is remembered of results: 32 MiB, some 40,000
// repositories. The results of most searches are among these.
const maxShown = 32 << 20

// shown remembers what results show of repositories, which is not in their rows. A document
// never changes, so what was read for it once stays right. The less recently used half is
// forgotten at a time. It is safe for concurrent use.
type shown struct {
	mu         sync.Mutex
	young, old map[shownKey]indexer.Result
	bytes      int // of young
}

// A shownKey is a document of a segment.
type shownKey struct {
	segment  int64
	document uint16
}

func newShown() *shown { return &shown{young: map[shownKey]indexer.Result{}} }

func (x *shown) get(k shownKey) (r indexer.Result, found bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if r, found = x.young[k]; found {
		return r, true
	}
	if r, found = x.old[k]; found {
		x.put(k, r)
	}
	return r, found
}

func (x *shown) set(k shownKey, r indexer.Result) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.put(k, r)
}

func (x *shown) put(k shownKey, r indexer.Result) {
	if _, found := x.young[k]; found {
		return
	}
	n := shownBytes(r)
	if n > maxShown/1024 {
		return
	}
	if x.bytes+n > maxShown/2 {
		x.old, x.young, x.bytes = x.young, map[shownKey]indexer.Result{}, 0
	}
	x.young[k] = r
	x.bytes += n
}

// shownBytes returns the memory that a result takes, with its entry in a map.
func shownBytes(r indexer.Result) int {
	n := 512 + len(r.Name) + len(r.Title) + len(r.Description) + len(r.Leading)
	for _, f := range r.Facts {
		n += 16 + len(f)
	}
	return n
}

// Shown returns what was remembered of a hit of st, in the state of st.
func (st *State) Shown(h Hit) (r indexer.Result, found bool) { return st.shown.get(h.at) }

// Remember remembers what results show of a hit, read in the state of st. The caller must
// not change it afterwards.
func (st *State) Remember(h Hit, r indexer.Result) { st.shown.set(h.at, r) }
