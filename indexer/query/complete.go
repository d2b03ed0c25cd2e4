package query

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/portbook/portbook/indexer"
)

// A Completion is a query that is being typed, cut before its last token.
type Completion struct {
	Head  string // everything before the token, as typed, with "-" if it is negated
	Label string // the field as it was typed, with its colon; "" for a word
	Field Field
	Value string // what there is of the word or of the value of the field; may be ""
}

// With gives the whole query with a value in place of what was typed. Values
// that need quotes get them.
func (c Completion) With(value string) string {
	if strings.ContainsFunc(value, isSpace) {
		value = `"` + value + `"`
	}
	return c.Head + c.Label + value
}

// CutLast cuts a query that is being typed before its last token. It reports
// false if there is nothing to complete: white space at the end, a quote that is
// open or was just closed, a colon behind what is no field, or a text that is
// too long.
func CutLast(text string) (c Completion, ok bool) {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", " ")
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
	c.Field, ok = fieldNames[strings.ToLower(name)]
	return c, ok
}

// fieldsInOrder are the fields as they are offered, those that people need most
// first.
var fieldsInOrder = []string{
	"repo", "namespace", "tag", "label", "annotation", "platform", "os", "arch", "type", "has", "is", "licence", "size",
	"layers", "created", "pushed", "digest",
}

// FieldsFrom gives the fields whose names begin with a text of two letters or
// more: one letter begins too many words.
func FieldsFrom(text string) []string {
	var fields []string
	for _, f := range fieldsInOrder {
		if len(text) >= 2 && strings.HasPrefix(f, strings.ToLower(text)) {
			fields = append(fields, f)
		}
	}
	return fields
}

// FieldValues gives all values that a field takes, if those are few; of the
// type, those that no artifact brings.
func FieldValues(f Field) []string {
	if f == FieldType {
		return []string{string(indexer.KindImage), string(indexer.KindIndex), string(indexer.KindArtifact)}
	}
	return slices.Clone(fieldValues[f])
}

// FreeWords gives the words that a query asks for, each once, in order: not
// those that it forbids, nor those of fields. prefix is the one that may be the
// beginning of a longer one, "" if there is none.
func (q Query) FreeWords() (words []string, prefix string) {
	for _, c := range q.Clauses {
		for _, t := range c {
			if t.Field != FieldText || t.Not {
				continue
			}
			for _, w := range t.Words {
				if !slices.Contains(words, w) {
					words = append(words, w)
				}
			}
			if n := len(t.Words); t.Prefix && n > 0 {
				prefix = t.Words[n-1]
			}
		}
	}
	return words, prefix
}

// WithWord gives the query with another word in place of one of its free words.
func (q Query) WithWord(word, by string) Query {
	p := parser{text: q.Text}
	var text strings.Builder
	copied := 0
	for p.next() {
		token := p.token()
		name, _, colon := strings.Cut(token, ":")
		_, field := fieldNames[strings.ToLower(name)]
		if colon && field || strings.HasPrefix(token, "-") {
			continue
		}
		text.WriteString(q.Text[copied:p.start])
		text.WriteString(replaceWord(token, word, by))
		copied = p.at
	}
	text.WriteString(q.Text[copied:])
	q.Text, q.Name = text.String(), replaceWord(q.Name, word, by)
	clauses := make([]Clause, len(q.Clauses))
	for i, c := range q.Clauses {
		clauses[i] = slices.Clone(c)
		for j, t := range c {
			if k := slices.Index(t.Words, word); k >= 0 && t.Field == FieldText && !t.Not {
				words := slices.Clone(t.Words)
				words[k] = by
				clauses[i][j].Words = words
			}
		}
	}
	q.Clauses = clauses
	return q
}

// replaceWord replaces a word, however it is written, wherever it stands alone.
func replaceWord(text, word, by string) string {
	var b strings.Builder
	for text != "" {
		n := strings.IndexFunc(text, isNoWord)
		if n < 0 {
			n = len(text)
		}
		if strings.ToLower(text[:n]) == word {
			b.WriteString(by)
		} else {
			b.WriteString(text[:n])
		}
		if n < len(text) {
			_, width := utf8.DecodeRuneInString(text[n:])
			b.WriteString(text[n : n+width])
			n += width
		}
		text = text[n:]
	}
	return b.String()
}
