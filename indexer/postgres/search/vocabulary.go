package search

import (
	"context"

	"github.com/jackc/pgx/v5"
)

const (
	// maxVocabulary is the maximum number of words that serve as corrections: 200,000,
	// those in the most names. A million repositories have about 80,000 words; further
	// ones are random strings. It limits both tables to about 150 MB.
	maxVocabulary = 200_000
	// minCorrected is the minimum length of a word that is corrected: 3 letters. Any two
	// words of two letters are similar.
	minCorrected = 3
	// maxCorrected is the maximum length of a word that is corrected: 40. A longer one is
	// a digest or the like, and each letter costs a row.
	maxCorrected = 40
)

// vocabularyQuery counts the words of all names and updates search_word and
// search_misspelling. A form is the word itself, or the word without one of its
// letters.
const vocabularyQuery = `
	WITH counted AS MATERIALIZED (
		SELECT word COLLATE "C" AS word, ndoc AS n FROM ts_stat('SELECT name_words FROM repository_search')
		WHERE length(word) BETWEEN $1 AND $2 AND word !~ '^[0-9]+$'
		ORDER BY ndoc DESC, word COLLATE "C" LIMIT $3
	), gone AS (
		DELETE FROM search_word w WHERE NOT EXISTS (SELECT FROM counted c WHERE c.word = w.word) RETURNING word
	), moved AS (
		UPDATE search_word w SET n = c.n FROM counted c WHERE c.word = w.word AND c.n <> w.n RETURNING w.word
	), new AS (
		INSERT INTO search_word (word, n)
		SELECT word, n FROM counted c WHERE NOT EXISTS (SELECT FROM search_word w WHERE w.word = c.word) RETURNING word
	), gone_forms AS (
		DELETE FROM search_misspelling m USING gone g, generate_series(0, length(g.word)) AS i
		WHERE m.word = g.word AND m.form = CASE i WHEN 0 THEN g.word ELSE overlay(g.word PLACING '' FROM i FOR 1) END
	), new_forms AS (
		INSERT INTO search_misspelling (form, word)
		SELECT CASE i WHEN 0 THEN word ELSE overlay(word PLACING '' FROM i FOR 1) END, word
		FROM new, generate_series(0, length(word)) AS i ON CONFLICT DO NOTHING
	)
	SELECT (SELECT count(*) FROM new) + (SELECT count(*) FROM gone) + (SELECT count(*) FROM moved)`

// WriteVocabulary updates the words of names, with which misspelt words are
// corrected, and returns how many words changed.
func WriteVocabulary(ctx context.Context, tx pgx.Tx) (n int, err error) {
	err = tx.QueryRow(ctx, vocabularyQuery, minCorrected, maxCorrected, maxVocabulary).Scan(&n)
	return n, err
}
