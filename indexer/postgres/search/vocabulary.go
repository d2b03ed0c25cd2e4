package search

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
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
	// Two mistakes are corrected in words of at least minCorrectedTwice letters: 8. In a
	// shorter word they make a different word.
	minCorrectedTwice = 8
	// maxCheckedWords is the maximum number of words of a query that are checked: 8, of at
	// most 32. Each unknown word takes some milliseconds.
	maxCheckedWords = 8
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

// Correct returns the text of a query in which the nearest word of names replaces
// each word that no repository has. The nearest word differs by one letter that is
// added, left out or changed, or by two neighbours that are swapped; in a long word
// by two such edits. If there are several, it is the most frequent one. Correct
// returns "" if no word is replaced, or if the corrected query finds nothing. q must
// have found nothing.
func (rd *Reader) Correct(ctx context.Context, q query.Query) (string, error) {
	text, err := rd.corrected(ctx, q, 2)
	if err != nil || text == "" {
		return "", pg.Wrap("correct", err)
	}
	read, err := query.Parse(text, time.Now())
	if err != nil {
		return "", nil // a word became a field: "has:latest" for "hsa:latest"
	}
	found, err := rd.found(ctx, newSearch(read.Page(1, 0)))
	if err != nil || len(found) == 0 {
		return "", pg.Wrap("correct", err)
	}
	return text, nil
}

// Near is like Correct, but for one mistake in a word, and without checking that the
// corrected query finds something: the caller searches for it next. It takes a fifth
// of the time of Correct.
func (rd *Reader) Near(ctx context.Context, q query.Query) (string, error) {
	text, err := rd.corrected(ctx, q, 1)
	return text, pg.Wrap("near", err)
}

// corrected returns the text of q with its unknown words corrected, with at most the given
// number of mistakes in each. It returns "" if no word is unknown, or one cannot be
// corrected.
func (rd *Reader) corrected(ctx context.Context, q query.Query, mistakes int) (string, error) {
	return cached(ctx, rd, rd.caches.corrections, strconv.Itoa(mistakes)+q.Text, func() (string, error) {
		unknown, err := rd.unknownWords(ctx, q)
		if err != nil || len(unknown) == 0 {
			return "", err
		}
		corrected := q
		for _, w := range unknown {
			nearest, err := rd.nearestWord(ctx, w, mistakes)
			if err != nil || nearest == "" {
				return "", err
			}
			corrected = corrected.WithWord(w, nearest)
		}
		if corrected.Text == q.Text {
			return "", nil
		}
		return corrected.Text, nil
	})
}

// unknownWords returns the free words of q that no repository has. q must have found
// nothing.
func (rd *Reader) unknownWords(ctx context.Context, q query.Query) (unknown []string, err error) {
	words, prefix := q.FreeWords()
	if len(words) == 1 && len(q.Clauses) == 1 && len(q.Clauses[0]) == 1 && q.Clauses[0][0].Tag == "" {
		return words, nil // a known word would have found something
	}
	for _, w := range words[:min(len(words), maxCheckedWords)] {
		known, err := rd.knows(ctx, w, w == prefix)
		if err != nil {
			return nil, err
		}
		if !known {
			unknown = append(unknown, w)
		}
	}
	return unknown, nil
}

// knows reports whether any repository has a word or, if prefix is true, a word that
// begins with it. In the last tier it counts all rows instead of reading one: for
// one, Postgres would scan the table from the start, to its end if no row has the
// word.
func (rd *Reader) knows(ctx context.Context, word string, prefix bool) (bool, error) {
	const q = `
		SELECT COALESCE(
			(SELECT true FROM repository_search WHERE tier = 0 AND all_words @@ $1::text::tsquery LIMIT 1),
			(SELECT true FROM repository_search WHERE tier = 1 AND all_words @@ $1::text::tsquery LIMIT 1),
			(SELECT count(*) > 0 FROM repository_search WHERE tier = 2 AND all_words @@ $1::text::tsquery))`
	var known bool
	err := rd.db.QueryRow(ctx, q, tsquery(query.Term{Words: []string{word}, Prefix: prefix})).Scan(&known)
	return known, err
}

// nearestWord returns the word of names that was probably meant, or "" if there is
// none within the number of mistakes, 1 or 2.
func (rd *Reader) nearestWord(ctx context.Context, word string, mistakes int) (string, error) {
	if n := len(word); n < minCorrected || n > maxCorrected {
		return "", nil
	}
	nearest, err := rd.wordWithin(ctx, word, 1, shortened([]string{word}))
	if err != nil || nearest != "" || mistakes == 1 ||
		len(word) < minCorrectedTwice || strings.Trim(word, lettersOfNames) != "" {
		return nearest, err
	}
	return rd.wordWithin(ctx, word, 2, shortened(edited(word)))
}

// wordWithin returns the most frequent word that has one of the forms and differs
// from word by at most the number of edits.
func (rd *Reader) wordWithin(ctx context.Context, word string, edits int, forms []string) (string, error) {
	const q = `
		SELECT w.word FROM (
			SELECT DISTINCT m.word FROM unnest($1::text[]) AS f (form)
			JOIN search_misspelling m ON m.form = f.form COLLATE "C" OFFSET 0) AS near
		JOIN search_word w USING (word) ORDER BY w.n DESC, w.word`
	near, err := pg.Column[string](ctx, rd.db, q, forms)
	for _, w := range near {
		if indexer.EditDistance(word, w) <= edits {
			return w, err
		}
	}
	return "", err
}

// shortened returns the words, and each word with one letter left out, without
// duplicates.
func shortened(words []string) []string {
	var forms []string
	for _, w := range words {
		forms = append(forms, w)
		for i, r := range w {
			forms = append(forms, w[:i]+w[i+len(string(r)):])
		}
	}
	slices.Sort(forms)
	return slices.Compact(forms)
}

// lettersOfNames are the characters in words of names (distribution-spec, "Pulling
// manifests").
const lettersOfNames = "abcdefghijklmnopqrstuvwxyz0123456789"

// edited returns all strings that one edit makes from a word of such letters. If two
// words are two edits apart, one of these strings equals the second word, possibly
// after a letter is left out of either or both.
func edited(word string) []string {
	var all []string
	for i := range len(word) {
		all = append(all, word[:i]+word[i+1:])
		if i > 0 {
			all = append(all, word[:i-1]+word[i:i+1]+word[i-1:i]+word[i+1:])
		}
	}
	for i := range len(word) + 1 {
		for _, r := range lettersOfNames {
			all = append(all, word[:i]+string(r)+word[i:])
			if i < len(word) {
				all = append(all, word[:i]+string(r)+word[i+1:])
			}
		}
	}
	return all
}
