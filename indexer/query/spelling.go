package query

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// FreeWords returns the words that q asks for outside of fields and negated terms,
// each once, in order. prefix is the one that also matches longer words, or "".
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

// WithWord returns q with by in place of the free word word.
func (q Query) WithWord(word, by string) Query {
	q.Text, q.Name = replaceFreeWord(q.Text, word, by), replaceWord(q.Name, word, by)
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

// replaceFreeWord replaces word in the text of a query, except in fields and
// negated terms.
func replaceFreeWord(text, word, by string) string {
	p := parser{text: text}
	var b strings.Builder
	copied := 0
	for p.next() {
		token := p.token()
		name, _, colon := strings.Cut(token, ":")
		_, known := fieldNamed(name)
		if colon && known || strings.HasPrefix(token, "-") {
			continue
		}
		b.WriteString(text[copied:p.start])
		b.WriteString(replaceWord(token, word, by))
		copied = p.at
	}
	b.WriteString(text[copied:])
	return b.String()
}

// replaceWord replaces word, in any case, where it is a whole word of text.
func replaceWord(text, word, by string) string {
	var b strings.Builder
	for text != "" {
		n := strings.IndexFunc(text, isSeparator)
		if n < 0 {
			n = len(text)
		}
		if strings.ToLower(text[:n]) == word {
			b.WriteString(by)
		} else {
			b.WriteString(text[:n])
		}
		_, width := utf8.DecodeRuneInString(text[n:])
		b.WriteString(text[n : n+width])
		text = text[n+width:]
	}
	return b.String()
}
