package memory_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/query"
)

// A segment with as many repositories as it may have counts all of them, whether nearly all
// match, some, or few.
func TestFacetsOfFullSegment(t *testing.T) {
	t.Parallel()
	b := newBook(1)
	for id := int32(1); id <= memory.MaxRows; id++ {
		r := memory.Row{ID: id, Name: fmt.Sprintf("team/n%d", id), Words: []string{"team", fmt.Sprint("n", id)}}
		for name, every := range map[string]int32{"all": 1, "half": 2, "tenth": 10} {
			if id%every == 0 {
				r.Words = append(r.Words, "", name)
			}
		}
		r.Facts = []indexer.Fact{"arch:amd64"}
		if id%3 == 0 {
			r.Facts = append(r.Facts, "arch:arm64")
		}
		b.rows[id] = r
	}
	c := memory.New(1 << 30)
	b.fill(t, c, memory.MaxRows)
	if n := c.Newest().Segments(); n != 1 {
		t.Fatalf("%d segments, want 1", n)
	}
	for text, every := range map[string]int{"": 1, "all": 1, "half": 2, "-tenth": 0, "tenth": 10} {
		want := map[string]int{}
		for id := 1; id <= memory.MaxRows; id++ {
			if every > 0 && id%every != 0 || every == 0 && id%10 == 0 {
				continue
			}
			want["team"]++
			want["amd64"]++
			if id%3 == 0 {
				want["arm64"]++
			}
		}
		q, err := query.Parse(text, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		m, err := c.Newest().Match(t.Context(), memory.Question{Query: q, Visible: indexer.AllVisible})
		if err != nil {
			t.Fatal(err)
		}
		facets, err := m.Facets(5, nil)
		m.Close()
		if err != nil || len(facets) != 2 {
			t.Fatalf("%q: got %v, %v, want two facets", text, facets, err)
		}
		for _, f := range facets {
			for _, v := range f.Values {
				if v.Count != want[v.Value] {
					t.Errorf("%q: got %d with %s, want %d", text, v.Count, v.Value, want[v.Value])
				}
			}
		}
	}
}
