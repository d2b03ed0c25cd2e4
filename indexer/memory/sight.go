package memory

import (
	"context"
	"strconv"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/cache"
)

// maxSights is the most bytes of the cache of what askers may see: 16 MiB. An asker takes
// 8 KiB for each full segment, so it holds that of a hundred askers in a book of a million
// repositories.
const maxSights = 16 << 20

// sights remember which documents of a segment an asker may see. A segment never changes,
// so only new ones are looked through.
type sights struct {
	cache *cache.Versioned[set]
}

func newSights() *sights {
	return &sights{cache.New(maxSights, maxSights, func(s set) int { return 8 * len(s) })}
}

// of returns the documents of a segment that are visible, nil for all of them.
func (x *sights) of(s *segment, v indexer.Visibility) set {
	if v.All() {
		return nil
	}
	k := cache.Key{
		Version:  indexer.Version{Epoch: "segment", Number: s.number},
		Question: strconv.FormatInt(s.number, 10) + "\x00" + strings.Join(v.Patterns(), "\x00"),
	}
	seen, _ := x.cache.Get(context.Background(), k, func() (set, error) { return s.seenBy(v), nil })
	return seen
}

// seenBy returns the documents whose names match a pattern of v.
func (s *segment) seenBy(v indexer.Visibility) set {
	seen := newSet(s.len())
	for _, pattern := range v.Patterns() {
		s.addNamed(seen, pattern)
	}
	return seen
}

// addNamed adds the documents whose name matches a pattern to a set.
func (s *segment) addNamed(to set, pattern string) {
	head, low, high := pattern, 0, 0
	if i := strings.IndexAny(pattern, "*?"); i >= 0 {
		head = pattern[:i]
	}
	if head == pattern {
		if i, found := s.named(pattern); found {
			to.add(s.byName[i])
		}
		return
	}
	low, high = s.namesFrom(head)
	matches := indexer.Glob(pattern)
	if pattern == head+"*" {
		matches = func(string) bool { return true }
	}
	for _, d := range s.byName[low:high] {
		if matches(s.name(d)) {
			to.add(d)
		}
	}
}

// named returns the place of a name in byName, or that of the next one.
func (s *segment) named(name string) (place int, found bool) {
	return searchSorted(s.len(), func(i int) int { return strings.Compare(s.name(s.byName[i]), name) })
}

// namesFrom returns the range in byName of the names that begin with a prefix.
func (s *segment) namesFrom(prefix string) (low, high int) {
	low, _ = s.named(prefix)
	high, _ = s.named(prefix + afterAll)
	return low, high
}

// basenamesFrom returns the range in byBasename of the last path components that begin
// with a prefix, and where those that are longer begin in it.
func (s *segment) basenamesFrom(prefix string) (low, longer, high int) {
	low, _ = searchSorted(s.len(), func(i int) int { return strings.Compare(s.basename(s.byBasename[i]), prefix) })
	for longer = low; longer < s.len() && s.basename(s.byBasename[longer]) == prefix; longer++ {
	}
	high, _ = searchSorted(s.len(), func(i int) int { return strings.Compare(s.basename(s.byBasename[i]), prefix+afterAll) })
	return low, longer, high
}
