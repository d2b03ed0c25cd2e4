package query

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/portbook/portbook/indexer"
)

const (
	// MaxLength is the most bytes in a query: 1,024, enough for a dozen conditions
	// and a few digests. It limits the work of the parser and the size of logs.
	MaxLength = 1024
	// MaxTerms is the most terms in a query: 32. Each term costs database time.
	MaxTerms = 32
)

// Parse parses a query as doc/search.md describes it. Ages such as "created:<30d"
// are counted back from now, rounded down to the minute, so that a text asks for the
// same throughout a minute.
//
// Its error is a *Error.
func Parse(text string, now time.Time) (Query, error) {
	text = strings.TrimSpace(storable(text))
	if len(text) > MaxLength {
		return Query{}, tooLong(text)
	}
	p := parser{text: text, now: now.UTC().Truncate(time.Minute)}
	clauses, err := p.clauses()
	if err != nil {
		return Query{}, err
	}
	return Query{Text: text, Clauses: clauses, Name: p.name, Sort: p.sort}, nil
}

// tooLong returns the error for a text longer than MaxLength.
func tooLong(text string) error {
	from := MaxLength
	for !utf8.RuneStart(text[from]) {
		from--
	}
	return &Error{Query: text, Offset: from, Length: len(text) - from,
		Problem: fmt.Sprintf("the query is longer than %d bytes: remove this part", MaxLength)}
}

// Plain returns a query for the words of text, without reading it as the language.
// It cannot fail: it drops what exceeds MaxLength or MaxTerms. Clients that cannot
// show an error need it.
func Plain(text string) Query {
	text = strings.TrimSpace(storable(text))
	if len(text) > MaxLength {
		text = strings.ToValidUTF8(text[:MaxLength], "")
	}
	words := Words(text)
	q := Query{Text: text, Name: joinName("", text)}
	for i, w := range words[:min(len(words), MaxTerms)] {
		q.Clauses = append(q.Clauses, Clause{{Words: []string{w}, Prefix: i == len(words)-1}})
	}
	return q
}

// storable removes what PostgreSQL does not accept in text: invalid UTF-8 and NUL.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", " ")
}

// A parser reads the tokens of a query one after the other. A token is a term or an
// OR between two terms.
type parser struct {
	text  string
	now   time.Time
	start int // of the current token, in bytes
	at    int // the end of the current token
	terms int
	name  string // the free words so far as a repository name
	sort  Sort   // that a term asks for
}

// fail returns an error about the current token.
func (p *parser) fail(format string, args ...any) error {
	return &Error{Query: p.text, Offset: p.start, Length: p.at - p.start, Problem: fmt.Sprintf(format, args...)}
}

// clauses reads all tokens.
func (p *parser) clauses() ([]Clause, error) {
	var clauses []Clause
	joined := false // the previous token is OR
	sorted := false // the previous token is an order
	for p.next() {
		if p.token() == "OR" {
			if len(clauses) == 0 || joined || sorted || strings.TrimLeftFunc(p.text[p.at:], isSpace) == "" {
				return nil, p.fail(`OR must be between two terms: write "a OR b", or "or" for the word`)
			}
			joined = true
			continue
		}
		t, err := p.term()
		if err != nil {
			return nil, err
		}
		if p.terms++; p.terms > MaxTerms {
			return nil, p.fail("the query has more than %d terms: remove this one", MaxTerms)
		}
		if sorted = t.Field == FieldSort; sorted {
			if err := p.order(t, joined); err != nil {
				return nil, err
			}
			continue
		}
		if last := len(clauses) - 1; joined {
			clauses[last] = append(clauses[last], t)
		} else {
			clauses = append(clauses, Clause{t})
		}
		joined = false
	}
	return withoutEmpty(clauses), nil
}

// order reads the order of the results, which is no condition. joined reports whether OR is
// before it.
func (p *parser) order(t Term, joined bool) error {
	if t.Not || joined || p.sort != "" {
		return p.fail("%s is the order of the results: write it once, without - and OR", t.Field)
	}
	p.sort = Sort(t.Value)
	return nil
}

// withoutEmpty removes the clauses that always hold, because they have a term without
// words ("***").
func withoutEmpty(clauses []Clause) []Clause {
	var kept []Clause
	for _, c := range clauses {
		if !slices.ContainsFunc(c, func(t Term) bool { return t.Field == FieldText && len(t.Words) == 0 }) {
			kept = append(kept, c)
		}
	}
	return kept
}

// next moves to the next token and reports whether there is one. A token ends at
// white space outside quotes.
func (p *parser) next() bool {
	p.start = p.find(p.at, func(r rune) bool { return !isSpace(r) })
	quoted := false
	p.at = p.find(p.start, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return isSpace(r) && !quoted
	})
	return p.start < p.at
}

// find returns the offset of the first character from an offset on for which f is
// true, or the length of the text.
func (p *parser) find(from int, f func(rune) bool) int {
	if i := strings.IndexFunc(p.text[from:], f); i >= 0 {
		return from + i
	}
	return len(p.text)
}

func isSpace(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

func (p *parser) token() string { return p.text[p.start:p.at] }

// term reads the current token: [-]word, [-]"phrase", [-]field:value.
func (p *parser) term() (Term, error) {
	text, not := strings.CutPrefix(p.token(), "-")
	if strings.Count(text, `"`)%2 == 1 {
		return Term{}, p.fail(`a quote is not closed: add " at its end`)
	}
	name, value, colon := strings.Cut(text, ":")
	if !colon || strings.Contains(name, `"`) {
		return p.words(text, not), nil
	}
	field, known := fieldNamed(name)
	if !known {
		return p.reference(text, not)
	}
	if value == "" || value == `""` {
		return Term{}, p.fail("%s needs a value: write %s", name, field.syntax().form)
	}
	t := Term{Not: not, Field: field}
	if field == FieldLabel || field == FieldAnnotation {
		return p.pair(t, value)
	}
	value, err := p.unquote(value)
	if err != nil {
		return Term{}, err
	}
	return p.value(t, value)
}

// words reads free words. All words of a token ("my-app") must be there; in quotes
// they must follow each other. The last word of the query, and a word before a star,
// also match longer words that begin with them.
func (p *parser) words(text string, not bool) Term {
	t := Term{Not: not, Words: Words(text), Phrase: strings.Contains(text, `"`)}
	if t.Phrase {
		t.Words = WordsInOrder(text)
	}
	if !not {
		p.name = joinName(p.name, text)
	}
	last := strings.TrimSpace(p.text[p.at:]) == "" && !t.Phrase && !not
	t.Prefix = (last || strings.HasSuffix(text, "*")) && len(t.Words) > 0
	return t
}

// joinName appends free words to a name, because people write "reverse proxy" for
// "reverse-proxy".
func joinName(name, text string) string {
	text = strings.Join(strings.Fields(strings.ToLower(strings.Trim(text, `"*`))), "-")
	if len(Words(text)) == 0 {
		return name
	}
	if name != "" {
		return name + "-" + text
	}
	return text
}

// reference reads a token with a colon that does not follow a field. People paste
// references of images: "nginx:1.25" is the word nginx and the tag 1.25, and
// "host:5000/team/app" is words.
func (p *parser) reference(text string, not bool) (Term, error) {
	name, value, _ := strings.Cut(text, ":")
	if near := nearestField(name); near != "" {
		return Term{}, p.fail("there is no field %s: did you mean %s? If it is a word, put it in quotes", name, near)
	}
	if strings.EqualFold(name, "sha256") || strings.EqualFold(name, "sha512") {
		return p.value(Term{Not: not, Field: FieldDigest}, text)
	}
	if strings.ContainsAny(text, `"`) || value == "" || not {
		return p.words(text, not), nil
	}
	path, digest, pinned := strings.Cut(text, "@")
	if pinned {
		return p.value(Term{Field: FieldDigest}, digest)
	}
	i := strings.LastIndexByte(path, ':')
	if strings.Contains(path[i:], "/") || !indexer.IsTag(path[i+1:]) {
		return p.words(text, not), nil
	}
	p.name = joinName(p.name, path[:i])
	return Term{Words: Words(path[:i]), Tag: path[i+1:]}, nil
}
