package search

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

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
	found, err := rd.search(ctx, read.Page(1, 0))
	if err != nil || len(found.Items) == 0 {
		return "", pg.Wrap("correct", err)
	}
	return text, nil
}

// Near is like Correct, but for one mistake in a word, and without checking that the
// corrected query finds something: the caller searches for it next.
func (rd *Reader) Near(ctx context.Context, q query.Query) (string, error) {
	text, err := rd.corrected(ctx, q, 1)
	return text, pg.Wrap("near", err)
}

// corrected returns the text of q with its unknown words corrected, with at most the
// given number of mistakes in each.
func (rd *Reader) corrected(ctx context.Context, q query.Query, mistakes int) (string, error) {
	st, err := rd.state(ctx)
	if err != nil {
		return "", err
	}
	if st != nil {
		return rd.correctedCopy(st, q, mistakes), nil
	}
	unknown, err := rd.unknownWords(ctx, q)
	if err != nil || len(unknown) == 0 {
		return "", err
	}
	const words = `
		SELECT word, count(*)::int AS n FROM repository_search s, unnest(tsvector_to_array(s.name_words)) AS word
		WHERE ? AND ` + isShownRow + ` GROUP BY word`
	type row struct {
		Word string
		N    int
	}
	names, err := planned(ctx, rd, pgx.RowToStructByName[row], words, rd.sees("s.name"))
	return q.Corrected(unknown, mistakes, func(word string, edits int) map[string]int {
		near := map[string]int{}
		for _, w := range names {
			if indexer.EditDistance(word, w.Word) <= edits {
				near[w.Word] = w.N
			}
		}
		return near
	}), err
}

// unknownWords returns the free words of q that no repository has. q must have found
// nothing.
func (rd *Reader) unknownWords(ctx context.Context, q query.Query) (unknown []string, err error) {
	for _, t := range q.Correctable() {
		// Counted, since for one row Postgres would read the table from the start, to its
		// end if no repository has the word.
		const known = "SELECT count(*) > 0 FROM repository_search s WHERE ? AND ? AND " + isShownRow
		is, err := one(planned(ctx, rd, pgx.RowTo[bool], known, hasWords("s.all_words", tsquery(t)), rd.sees("s.name")))
		if err != nil {
			return nil, err
		}
		if !is {
			unknown = append(unknown, t.Words...)
		}
	}
	return unknown, nil
}
