package search_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/search"
)

// A prefix finds the same whether it is replaced by words or not: alone, among other
// words, if it is long, and if a long word is cut within letters of several bytes.
func TestBeginnings(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	long := strings.Repeat("abcdefgh", 10)
	umlauts := strings.Repeat("ä", 30) + "xyz"
	names := map[string]string{"a/app": "app", "a/apple": "apple pie", "a/apply": "apply", "b/long": long, "b/longer": long + "x", "c/umlauts": umlauts}
	for i := range search.MaxSpelled + 5 {
		names[fmt.Sprint("many/m", i)] = fmt.Sprint("word", i)
	}
	for name, text := range names {
		s.Find(name, "v1", made(name, "linux/amd64", 1, 1, "2026-01-01", "org.opencontainers.image.description", text))
	}
	spelled := 0
	for _, query := range []string{"app", "appl", "apple", "a ap", "pie appl", "word", "word1", "word* many", "many word", "label:org.opencontainers.image.description many w", "word4 m* wo*", "appl* OR pi", long[:20], long[:36], long[:39], long, long + "x", long + "y",
		strings.Repeat("ä", 5), strings.Repeat("ä", 19), strings.Repeat("ä", 20), umlauts[:len(umlauts)-1], "zzz", "ab"} {
		q := parsed(t, query)
		q.Limit = 100
		with, _ := s.Names(func(v *postgres.View) (indexer.Results, error) { return v.Search(t.Context(), q) })
		without, _ := s.Names(func(v *postgres.View) (indexer.Results, error) {
			if replaced, err := v.Spelled(t.Context(), q); err != nil {
				return indexer.Results{}, err
			} else if replaced {
				spelled++
			}
			return v.SearchBy(t.Context(), q, "ranked")
		})
		slices.Sort(with)
		slices.Sort(without)
		if diff := cmp.Diff(without, with); diff != "" || (len(with) == 0) != (query == "zzz" || query == long+"y") {
			t.Errorf("%q finds %d repositories (-as a prefix +as words)\n%s", query, len(with), diff)
		}
	}
	if spelled < 10 {
		t.Errorf("only %d prefixes were replaced by words: too few for a test", spelled)
	}
}
