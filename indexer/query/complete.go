package query

import "strings"

// A Completion is a query that is being typed, split at its last token.
type Completion struct {
	Head  string // all before the token, as typed, with the "-" of a negated term
	Label string // the field with its colon, as typed; "" for a word
	Field Field
	Value string // the word, or the value of the field; may be ""
}

// With returns the whole query with value in place of c.Value, in quotes if it has
// white space.
func (c Completion) With(value string) string {
	if strings.ContainsFunc(value, isSpace) {
		value = `"` + value + `"`
	}
	return c.Head + c.Label + value
}

// CutLast splits a query at its last token. It reports false if there is nothing to
// complete: the query is empty or longer than MaxLength, or it ends with white
// space, a token with quotes, or a token whose colon does not follow a field.
func CutLast(text string) (c Completion, ok bool) {
	text = storable(text)
	if len(text) > MaxLength {
		return Completion{}, false
	}
	p := parser{text: text}
	start, end := 0, 0
	for p.next() {
		start, end = p.start, p.at
	}
	token := text[start:end]
	if token == "" || end < len(text) || strings.Contains(token, `"`) {
		return Completion{}, false
	}
	c.Head = text[:start]
	if value, not := strings.CutPrefix(token, "-"); not {
		c.Head, token = c.Head+"-", value
	}
	name, value, colon := strings.Cut(token, ":")
	if !colon {
		c.Value = token
		return c, token != ""
	}
	c.Label, c.Value = name+":", value
	c.Field, ok = fieldNamed(name)
	return c, ok
}
