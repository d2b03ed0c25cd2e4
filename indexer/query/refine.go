package query

import (
	"strings"
	"time"
)

// FieldTerm writes a condition as it stands in a query: a field and a value,
// exactly that one; for a label or annotation the value is its key. It reports
// false if the language has no way to write it: a value that would be read as
// quotes or as a pattern.
func FieldTerm(field, value string) (term string, ok bool) {
	if value == "" || strings.ContainsAny(value, `"*?`) {
		return "", false
	}
	term = Completion{Label: field + ":"}.With(value)
	if f := fieldNames[field]; (f == FieldLabel || f == FieldAnnotation) && strings.Contains(value, "=") {
		term = field + `:"` + value + `"=*` // any value: the only way to write such a key alone
	}
	q, err := Parse(term, time.Time{})
	if err != nil || len(q.Clauses) != 1 || len(q.Clauses[0]) != 1 {
		return "", false
	}
	t := q.Clauses[0][0]
	return term, t.Field != FieldText && (t.Value == value || t.Name == value)
}

// HasTerm reports whether a term stands by itself in the text of a query.
func HasTerm(text, term string) bool {
	_, _, found := findTerm(text, term)
	return found
}

// WithTerm gives a query with a term more. It comes first: the last word may be
// the beginning of a longer one, and would be no more if something followed.
func WithTerm(text, term string) string { return strings.TrimSpace(term + " " + text) }

// WithoutTerm gives a query without a term, unchanged if it does not stand there.
func WithoutTerm(text, term string) string {
	from, to, found := findTerm(text, term)
	if !found {
		return text
	}
	return strings.TrimSpace(text[:from] + strings.TrimLeftFunc(text[to:], isSpace))
}

// findTerm gives where a term stands, in bytes. One that is joined to another by
// OR is not found: without it the other would say something else.
func findTerm(text, term string) (from, to int, found bool) {
	p := parser{text: text}
	before := "" // the token before
	for p.next() {
		if found && p.token() != "OR" {
			return from, to, true
		}
		found = p.token() == term && before != "OR"
		from, to, before = p.start, p.at, p.token()
	}
	return from, to, found
}
