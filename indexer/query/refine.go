package query

import (
	"strings"
	"time"
)

// FieldTerm returns the term that asks for exactly this value of a field; for a
// label or annotation value is its key. It reports false if no term does, because
// value would be read as quotes or as a pattern.
func FieldTerm(field, value string) (term string, ok bool) {
	if value == "" || strings.ContainsAny(value, `"*?`) {
		return "", false
	}
	term = Completion{Label: field + ":"}.With(value)
	f, _ := fieldNamed(field)
	if (f == FieldLabel || f == FieldAnnotation) && strings.Contains(value, "=") {
		term = field + `:"` + value + `"=*` // a key with "=" cannot be written without a value
	}
	q, err := Parse(term, time.Time{})
	if err != nil || len(q.Clauses) != 1 || len(q.Clauses[0]) != 1 {
		return "", false
	}
	t := q.Clauses[0][0]
	return term, t.Field != FieldText && (t.Value == value || t.Name == value)
}

// HasTerm reports whether term is a token of text that no OR joins to another.
func HasTerm(text, term string) bool {
	_, _, found := findTerm(text, term)
	return found
}

// WithTerm returns text with term added. term comes first, because the last word of
// a query matches longer words too and must stay the last.
func WithTerm(text, term string) string { return strings.TrimSpace(term + " " + text) }

// WithoutTerm returns text without term, or text itself if HasTerm is false.
func WithoutTerm(text, term string) string {
	from, to, found := findTerm(text, term)
	if !found {
		return text
	}
	return strings.TrimSpace(text[:from] + strings.TrimLeftFunc(text[to:], isSpace))
}

// findTerm returns the bytes that term takes in text. It skips a term that OR joins
// to another, because removing it would change the meaning of the other.
func findTerm(text, term string) (from, to int, found bool) {
	p := parser{text: text}
	before := "" // the previous token
	for p.next() {
		if found && p.token() != "OR" {
			return from, to, true
		}
		found = p.token() == term && before != "OR"
		from, to, before = p.start, p.at, p.token()
	}
	return from, to, found
}
