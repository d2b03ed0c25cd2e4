package search

import (
	"fmt"
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer/query"
)

const (
	// maxLexeme is the maximum number of bytes of a word in a tsvector: 2,046 (PostgreSQL
	// 15, "Text Search Limitations"). Nobody types a longer one.
	maxLexeme = 2046
	// maxLexemes and maxLexemeBytes keep a tsvector below its limit of 1 MB, and keep
	// a description of many megabytes from filling the search index.
	maxLexemes     = 2000
	maxLexemeBytes = 512 << 10
	// maxPlace is the last position in a tsvector: 16,383 (same page). Words that come later
	// have it too, and the one before is left empty. So they are found, but not as part of a
	// phrase.
	maxPlace = 16383
	// maxPlaces is the maximum number of positions of one word in a tsvector: 256.
	maxPlaces = 256
)

// tsvector returns words with their positions as a literal of type tsvector. Between two
// texts one position is left empty, so that no phrase spans both.
func tsvector(name []string, texts ...string) (literal string) {
	var order []string // each word once
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
				if place == maxPlace-1 {
					place++
				}
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
	for _, w := range order { // words are letters and digits, so nothing must be escaped
		fmt.Fprintf(&b, "'%s':", w)
		for i, p := range slices.Compact(places[w]) {
			if i > 0 {
				b.WriteByte(',')
			}
			fmt.Fprint(&b, p)
		}
		b.WriteByte(' ')
	}
	return b.String()
}
