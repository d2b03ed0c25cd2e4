package search

import (
	"fmt"
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer/query"
)

const (
	// maxLexeme is the most bytes of a word in a tsvector: 2,046 (PostgreSQL 15,
	// "Text Search Limitations"). A longer one is no word that anybody types.
	maxLexeme = 2046
	// maxLexemes and maxLexemeBytes keep a tsvector below its own limit of 1 MB,
	// and a description of many megabytes from filling the search index.
	maxLexemes     = 2000
	maxLexemeBytes = 512 << 10
	// maxPlace is the last place in a tsvector: 16,383 (the same page); a word
	// behind it is found, but not as part of a phrase.
	maxPlace = 16383
	// maxPlaces is the most places of one word in a tsvector: 256.
	maxPlaces = 256
)

// tsvector gives words with their places, as a literal of that type, and each word
// once. Between two texts lies a place without a word, so that no phrase reaches
// from one into the other.
func tsvector(name []string, texts ...string) (literal string, order []string) {
	places := map[string][]int{}
	place, size := 0, 0
	add := func(words []string) {
		for _, w := range words {
			place++
			if len(w) > maxLexeme {
				continue
			}
			if _, known := places[w]; !known {
				if len(order) == maxLexemes || size+len(w) > maxLexemeBytes {
					continue
				}
				order = append(order, w)
				size += len(w)
			}
			if n := len(places[w]); n < maxPlaces {
				places[w] = append(places[w], min(place, maxPlace))
			}
		}
		place++
	}
	add(name)
	for _, text := range texts {
		add(query.WordsInOrder(text))
	}
	var b strings.Builder
	for _, w := range order { // words are letters and digits: nothing to escape
		fmt.Fprintf(&b, "'%s':", w)
		for i, p := range slices.Compact(places[w]) {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprint(&b, p)
		}
		b.WriteByte(' ')
	}
	return b.String(), order
}
