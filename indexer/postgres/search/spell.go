package search

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// maxSpelled is the maximum number of words that replace a prefix: 32. For a prefix, an
// index collects all rows that have any word with it. For "mobile" together with the
// prefix "app", which a hundred thousand rows have, that took 60 ms; with the nine
// words that begin with "app" it took 3 ms (measured). A prefix with more words, such
// as one of one or two letters, fills its page from the first tier.
const maxSpelled = 32

// If at most fewBeside repositories fulfil the other conditions, a loose prefix is
// checked in their rows to count the total: 40,000, which takes as long as the index
// needs to collect a common prefix.
const fewBeside = 40_000

// spell replaces the prefixes in a search by the words that begin with them, if these
// are few, and separates firm words from loose ones.
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
			spelled, err := rd.wordsWithPrefix(ctx, typed)
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

// setAside decides whether the index is used without the loose words, if there are
// firm words or terms beside them.
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

// wordsWithPrefix returns the words that begin with typed, as a tsquery; "" if there are
// more than maxSpelled, or none.
func (rd *Reader) wordsWithPrefix(ctx context.Context, typed string) (string, error) {
	const whole = maxKnown - utf8.UTFMax // words of at most this length are stored whole
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
		any[i] = lexeme(w, len(w) > whole) // a longer word may have been cut off
	}
	return "(" + strings.Join(any, " | ") + ")", nil
}

// hasPrefix reports whether a query has a prefix.
func hasPrefix(q query.Query) bool {
	return slices.ContainsFunc(q.Clauses, func(c query.Clause) bool {
		return slices.ContainsFunc(c, func(t query.Term) bool { return t.Prefix })
	})
}
