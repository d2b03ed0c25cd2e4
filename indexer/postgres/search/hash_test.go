package search_test

import (
	"math/rand/v2"
	"testing"

	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/schema/schematest"
)

// The copy in memory hashes terms as PostgreSQL does.
func TestHash(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	texts := []string{"", memory.ManyKeys, "label:team" + memory.TermSeparator + "\u00e9dge"}
	for n := range 200 {
		text := make([]rune, n)
		for i := range text {
			text[i] = rune(1 + r.IntN(0x2000))
		}
		texts = append(texts, string(text))
	}
	const q = "SELECT hashtextextended(text, 0) FROM unnest($1::text[]) WITH ORDINALITY AS given (text, place) ORDER BY place"
	hashes, err := pg.Column[int64](t.Context(), schematest.New(t), q, texts)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range texts {
		if got := memory.Hash(text); got != hashes[i] {
			t.Errorf("Hash(%q) is %d, want %d", text, got, hashes[i])
		}
	}
}
