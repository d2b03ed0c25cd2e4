package search

import (
	"strings"

	"github.com/portbook/portbook/indexer/query"
)

// tsqueryOf returns the tsquery of a clause of words.
func tsqueryOf(c query.Clause) string {
	var any []string
	for _, t := range c {
		any = append(any, tsquery(t))
	}
	return "(" + strings.Join(any, " | ") + ")"
}

// tsquery returns a tsquery for every word of a term.
func tsquery(t query.Term) string {
	lexemes := make([]string, len(t.Words))
	for i, w := range t.Words {
		lexemes[i] = lexeme(w, t.Prefix && i == len(t.Words)-1)
	}
	operator := " & "
	if t.Phrase {
		operator = " <-> "
	}
	return "(" + strings.Join(lexemes, operator) + ")"
}

// lexeme returns a tsquery for a word, or for all words that begin with it. Words are
// letters and digits only; the quotes keep them from being operators.
func lexeme(word string, prefix bool) string {
	text := "'" + word[:min(len(word), maxLexeme)] + "'"
	if prefix {
		text += ":*"
	}
	return text
}
