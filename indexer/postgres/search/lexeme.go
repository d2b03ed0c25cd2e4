package search

import (
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// maxKnown is how many bytes of a word stand in search_lexeme: 40. Longer ones are
// digests and the like, of which nobody types more.
const maxKnown = 40

// knownOf is what stands of a word in search_lexeme.
func knownOf(word string) string {
	for len(word) > maxKnown {
		_, n := utf8.DecodeLastRuneInString(word)
		word = word[:len(word)-n]
	}
	return word
}

// queueLexemes writes the words that were not known yet, before the rows that have
// them: whoever sees a row knows its words.
func (c *searchColumns) queueLexemes(batch *pgx.Batch) {
	const q = `
		INSERT INTO search_lexeme (word) SELECT word FROM unnest($1::text[]) AS used (word)
		WHERE NOT EXISTS (SELECT FROM search_lexeme l WHERE l.word = used.word COLLATE "C") ORDER BY word COLLATE "C" ON CONFLICT DO NOTHING`
	batch.Queue(q, slices.Collect(maps.Keys(c.lexemes)))
}
