package memory_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/query"
)

// A phrase is found where its words follow each other, and nowhere else. There are words
// enough that their numbers take one, two and three bytes.
func TestPhrase(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	word := func() string {
		return fmt.Sprintf("w%05d", []int{r.IntN(3), 1000 + r.IntN(3), 19_000 + r.IntN(3), r.IntN(20_000)}[r.IntN(4)])
	}
	var rows []memory.Row
	texts := map[int32]string{} // words with a space on both sides
	for id := int32(1); id <= 5000; id++ {
		words := []string{fmt.Sprint("n", id)}
		for range r.IntN(12) {
			words = append(words, []string{word(), word(), word(), ""}[r.IntN(4)])
		}
		rows = append(rows, memory.Row{ID: id, Name: words[0], Words: words})
		texts[id] = " " + strings.Join(words, " ") + " "
	}
	c := memory.New(1 << 30)
	builder, v := c.Builder(), memory.Vector{Epoch: "a", Shards: []int64{0}}
	if err := builder.Add(rows); err != nil {
		t.Fatal(err)
	}
	b := newBook(1)
	b.vector = v
	if err := builder.Replace(t.Context(), v, v, b); err != nil {
		t.Fatal(err)
	}
	found := 0
	for range 3000 {
		term := query.Term{Field: query.FieldText, Phrase: true, Prefix: r.IntN(3) == 0}
		for range 2 + r.IntN(2) {
			term.Words = append(term.Words, word())
		}
		end := " "
		if term.Prefix {
			last := &term.Words[len(term.Words)-1]
			*last, end = (*last)[:2+r.IntN(4)], ""
		}
		want := []int32{}
		for id, text := range texts {
			if strings.Contains(text, " "+strings.Join(term.Words, " ")+end) {
				want = append(want, id)
			}
		}
		m, err := c.Newest().Match(context.Background(), memory.Question{
			Query: query.Query{Clauses: []query.Clause{{term}}}, Visible: indexer.AllVisible,
		})
		if err != nil {
			t.Fatal(err)
		}
		got := []int32{}
		for _, h := range m.Top(len(rows)) {
			if h.Maybe {
				t.Errorf("%v: repository %d may match", term, h.ID)
			}
			got = append(got, h.ID)
		}
		m.Close()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("%v: got %v, want %v", term, got, want)
		}
		found += len(want)
	}
	if found < 1000 {
		t.Errorf("the phrases are in %d texts: too few to test much", found)
	}
}
