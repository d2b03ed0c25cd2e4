package search

import (
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// maxKnown is the maximum number of bytes of a word in search_lexeme: 40. Longer words
// are digests and the like, which nobody types in full.
const maxKnown = 40

// knownOf returns a word as search_lexeme stores it, at most maxKnown bytes.
func knownOf(word string) string {
	for len(word) > maxKnown {
		_, n := utf8.DecodeLastRuneInString(word)
		word = word[:len(word)-n]
	}
	return word
}

// queueLexemes queues the insertion of new words. It comes before the rows that have
// them, so that a reader who sees a row also sees its words.
func queueLexemes(batch *pgx.Batch, words map[string]bool) {
	const q = `
		INSERT INTO search_lexeme (word) SELECT word FROM unnest($1::text[]) AS used (word)
		WHERE NOT EXISTS (SELECT FROM search_lexeme l WHERE l.word = used.word COLLATE "C") ORDER BY word COLLATE "C" ON CONFLICT DO NOTHING`
	batch.Queue(q, slices.Collect(maps.Keys(words)))
}
