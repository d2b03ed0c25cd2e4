package search

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// maxSpelled is up to how many words a beginning is spelled out as: 32. An index
// looks for a beginning by gathering all rows that have any such word: with "mobile"
// beside "app", the beginning of a hundred thousand, that took 60 ms, and with the
// nine words that begin so 3 (measured). Of more words, as of one or two letters,
// a search goes no further than the first tier.
const maxSpelled = 32

// fewBeside is up to how many repositories a loose beginning is looked at in the
// rows that have all else, when they are counted: 40,000, as long as it takes the
// index to gather a common one.
const fewBeside = 40_000

// spell replaces the beginnings of words in a search by the words that begin so,
// if those are few, and tells the firm words from the loose ones.
func (rd *Reader) spell(ctx context.Context, s *search) error {
	var firm, loose []string
	for _, c := range s.Clauses {
		if !onlyWords(c) {
			continue
		}
		text, all := tsqueryOf(c), true
		for _, t := range c {
			if !t.Prefix || len(t.Words) == 0 {
				continue
			}
			typed := t.Words[len(t.Words)-1]
			spelled, err := rd.beginningsOf(ctx, typed)
			if err != nil {
				return err
			}
			if all = all && spelled != ""; spelled != "" {
				text = strings.Replace(text, lexeme(typed, true), spelled, 1)
			}
		}
		if all {
			firm = append(firm, text)
		} else {
			loose = append(loose, text)
		}
	}
	s.words = strings.Join(append(slices.Clone(firm), loose...), " & ")
	s.firm, s.loose = strings.Join(firm, " & "), strings.Join(loose, " & ")
	return nil
}

// setAside decides, where loose words stand beside firm ones or terms, whether the
// index is asked for those alone.
func (rd *Reader) setAside(ctx context.Context, s *search) error {
	if s.loose == "" || s.firm == "" && len(s.index) == 0 {
		return nil
	}
	others := *s
	others.aside = true
	n, err := rd.expected(ctx, others.served(), fewBeside)
	s.aside, s.asideInTotal = n <= fewRows, n <= fewBeside
	return err
}

// beginningsOf gives the words that begin so, as a tsquery; "" if they are too
// many, or none is known.
func (rd *Reader) beginningsOf(ctx context.Context, typed string) (string, error) {
	const whole = maxKnown - utf8.UTFMax // up to here nothing was cut off
	if len(typed) > whole {
		return "", nil
	}
	const q = `SELECT word FROM search_lexeme WHERE word >= $1 AND word < $2 ORDER BY word LIMIT $3`
	words, err := pg.Column[string](ctx, rd.db, q, typed, typed+"\U0010FFFF", maxSpelled+1)
	if err != nil || len(words) == 0 || len(words) > maxSpelled {
		return "", err
	}
	any := make([]string, len(words))
	for i, w := range words {
		any[i] = lexeme(w, len(w) > whole) // of those perhaps only the beginning is known
	}
	return "(" + strings.Join(any, " | ") + ")", nil
}

// beginning reports whether a search has the beginning of a word in it.
func beginning(q query.Query) bool {
	return slices.ContainsFunc(q.Clauses, func(c query.Clause) bool {
		return slices.ContainsFunc(c, func(t query.Term) bool { return t.Prefix })
	})
}
