package memory

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
)

// near finds the same words as a comparison with each.
func TestNear(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	random := func() string {
		word := make([]byte, 1+r.IntN(7))
		for i := range word {
			word[i] = "abcd"[r.IntN(4)]
		}
		return string(word)
	}
	var words []string
	for range 3000 {
		words = append(words, random())
	}
	slices.Sort(words)
	words = slices.Compact(words)
	sorted := newTexts(words)
	for range 300 {
		word, edits := random(), r.IntN(3)
		var got, want []string
		sorted.near(word, edits, func(i int) { got = append(got, sorted.at(i)) })
		for _, w := range words {
			if indexer.EditDistance(word, w) <= edits {
				want = append(want, w)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("within %d edits of %q (-want +got)\n%s", edits, word, diff)
		}
	}
}

// A list has the documents that were put into it, whether it is short or long.
func TestLists(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for _, documents := range []int{1, 5, 64, 1000, maxDocuments} {
		const entries = 20
		want := make([]set, entries)
		for e := range want {
			want[e] = newSet(documents)
			for range r.IntN(documents + 1) {
				want[e].add(uint16(r.IntN(documents)))
			}
		}
		l := newLists(entries, documents, func(yield func(uint32, uint16)) {
			for e, s := range want {
				for d := range s.all() {
					yield(uint32(e), d)
				}
			}
		})
		some := newSet(documents)
		for range documents / 2 {
			some.add(uint16(r.IntN(documents)))
		}
		for e := range want {
			got, each := newSet(documents), newSet(documents)
			l.addTo(got, e)
			l.each(e, each.add)
			if !slices.Equal(got, want[e]) || !slices.Equal(each, want[e]) || l.count(e) != want[e].count() || l.countIn(some, e) != want[e].countAnd(some) {
				t.Errorf("of %d documents: entry %d has other documents than were put into it", documents, e)
			}
		}
	}
}
