package query

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/portbook/portbook/indexer"
)

// An Error says what in a query cannot be understood, and where. It is
// indexer.ErrInvalid.
type Error struct {
	Query   string // the whole of it
	Offset  int    // in bytes, where the part begins that is wrong
	Length  int    // in bytes
	Problem string // what is wrong with it, and what to write instead
}

// Error gives what is wrong, then the part of the query.
func (e *Error) Error() string {
	return fmt.Sprintf("%s, at %d: %q", e.Problem, utf8.RuneCountInString(e.Query[:e.Offset])+1, e.Query[e.Offset:e.Offset+e.Length])
}

func (e *Error) Unwrap() error { return indexer.ErrInvalid }

// Parse reads what a person typed into a search, in the language of
// doc/search.md. now is what ages ("created:<30d") are counted from: whole
// minutes of it, so that the same text asks for the same within a minute.
//
// Its error is a *Error.
func Parse(text string, now time.Time) (Query, error) {
	text = plain(text)
	p := parser{text: text, now: now.UTC().Truncate(time.Minute)}
	if len(text) > MaxLength {
		cut := MaxLength
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		return Query{}, &Error{Query: text, Offset: cut, Length: len(text) - cut,
			Problem: fmt.Sprintf("the query is longer than %d bytes: leave this out", MaxLength)}
	}
	clauses, err := p.query()
	if err != nil {
		return Query{}, err
	}
	return Query{Text: text, Clauses: clauses, Name: p.name}, nil
}

// Plain asks for the words of text and for nothing else, whatever it looks
// like. It is for clients that cannot show an error.
func Plain(text string) Query {
	text = plain(text)
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

// plain leaves out what no database takes, and white space around.
func plain(text string) string {
	return strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", " "))
}

// A parser walks through the tokens of a query: terms, and ORs between them.
type parser struct {
	text  string
	now   time.Time
	at    int // where the next token begins
	start int // where the current one began
	terms int
	name  string // what the free words so far would be as a name
}

func (p *parser) fail(format string, args ...any) error {
	return &Error{Query: p.text, Offset: p.start, Length: p.at - p.start, Problem: fmt.Sprintf(format, args...)}
}

func (p *parser) query() ([]Clause, error) {
	var clauses []Clause
	or := false // the last token was one
	where := 0  // it stood
	for p.next() {
		if p.token() == "OR" {
			if len(clauses) == 0 || or {
				return nil, p.fail(`OR stands between two terms: write "a OR b", or "or" for the word`)
			}
			or, where = true, p.start
			continue
		}
		t, err := p.term()
		if err != nil {
			return nil, err
		}
		if p.terms++; p.terms > MaxTerms {
			return nil, p.fail("the query has more than %d terms: leave this out", MaxTerms)
		}
		if or {
			last := &clauses[len(clauses)-1]
			*last = append(*last, t)
		} else {
			clauses = append(clauses, Clause{t})
		}
		or = false
	}
	if or {
		p.start, p.at = where, where+len("OR")
		return nil, p.fail(`OR stands between two terms: write "a OR b", or "or" for the word`)
	}
	return whole(clauses), nil
}

// whole leaves out clauses that hold for everything: those with a term of no
// words ("***").
func whole(clauses []Clause) []Clause {
	var kept []Clause
	for _, c := range clauses {
		if !slices.ContainsFunc(c, func(t Term) bool { return t.Field == FieldText && len(t.Words) == 0 }) {
			kept = append(kept, c)
		}
	}
	return kept
}

// next moves to the next token, which ends at white space outside quotes.
func (p *parser) next() bool {
	for p.at < len(p.text) {
		r, n := utf8.DecodeRuneInString(p.text[p.at:])
		if !isSpace(r) {
			break
		}
		p.at += n
	}
	p.start = p.at
	quoted := false
	for p.at < len(p.text) {
		r, n := utf8.DecodeRuneInString(p.text[p.at:])
		if r == '"' {
			quoted = !quoted
		} else if isSpace(r) && !quoted {
			break
		}
		p.at += n
	}
	return p.start < p.at
}

func isSpace(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

func (p *parser) token() string { return p.text[p.start:p.at] }

// term reads the current token: [-]word, [-]"phrase", [-]field:value.
func (p *parser) term() (Term, error) {
	text, not := strings.CutPrefix(p.token(), "-")
	if strings.Count(text, `"`)%2 == 1 {
		return Term{}, p.fail(`a quote is never closed: add " at its end`)
	}
	name, value, colon := strings.Cut(text, ":")
	if !colon || strings.Contains(name, `"`) {
		return p.words(text, not), nil
	}
	field, known := fieldNames[strings.ToLower(name)]
	if !known {
		return p.reference(text, not)
	}
	t := Term{Not: not, Field: field}
	if value == "" || value == `""` {
		return Term{}, p.fail("%s needs a value: write %s", name, fieldForms[field])
	}
	if field == FieldLabel || field == FieldAnnotation {
		return p.pair(t, value)
	}
	value, err := p.unquote(value)
	if err != nil {
		return Term{}, err
	}
	return p.value(t, value)
}

// unquote takes off the quotes around a whole value.
func (p *parser) unquote(value string) (string, error) {
	inner := value
	if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
		inner = value[1 : len(value)-1]
	}
	if strings.Contains(inner, `"`) {
		return "", p.fail(`quotes stand around a whole value: write field:"a value", or label:"a key"="a value"`)
	}
	return inner, nil
}

// pair reads a label or annotation: key, key=value, either part in quotes, or
// both together in quotes. Only a key in quotes of its own may contain "=".
func (p *parser) pair(t Term, text string) (Term, error) {
	var err error
	if quoted, isQuoted := strings.CutPrefix(text, `"`); isQuoted {
		key, rest, _ := strings.Cut(quoted, `"`)
		if value, valued := strings.CutPrefix(rest, "="); valued {
			t.Name, t.Valued = key, true
			t.Value, err = p.unquote(value)
			return p.checkPair(t, err)
		}
		if text, err = p.unquote(text); err != nil {
			return t, err
		}
		t.Name, t.Value, t.Valued = strings.Cut(text, "=")
		return p.checkPair(t, nil)
	}
	key, value, valued := strings.Cut(text, "=")
	t.Valued = valued
	if t.Name, err = p.unquote(key); err == nil {
		t.Value, err = p.unquote(value)
	}
	return p.checkPair(t, err)
}

func (p *parser) checkPair(t Term, err error) (Term, error) {
	switch {
	case err != nil:
		return t, err
	case t.Name == "":
		return t, p.fail("%s needs a key: write %s", t.Field, fieldForms[t.Field])
	case tooManyStars(t.Name), tooManyStars(t.Value):
		return t, p.stars()
	}
	return t, nil
}

func tooManyStars(glob string) bool { return strings.Count(glob, "*") > MaxStars }

func (p *parser) stars() error {
	return p.fail("a pattern may have %d stars: leave some out", MaxStars)
}

// words reads free words. Those that stand together ("my-app") must all be
// there; in quotes they must follow each other. The last word of a query, and
// one with a star behind it, is also the beginning of a longer one.
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

// joinName adds free words to a name: people write "reverse proxy" for
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

// reference reads what has a colon and no field before it. People paste
// references of images: "nginx:1.25" is the word nginx and the tag 1.25,
// "host:5000/team/app" is words.
func (p *parser) reference(text string, not bool) (Term, error) {
	name, value, _ := strings.Cut(text, ":")
	if near := nearestField(name); near != "" {
		return Term{}, p.fail("there is no field %s: did you mean %s? Put words with a colon in quotes", name, near)
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

// value reads what stands behind a field other than label and annotation.
func (p *parser) value(t Term, value string) (Term, error) {
	if tooManyStars(value) {
		return t, p.stars()
	}
	switch t.Field {
	case FieldSize, FieldLayers:
		return p.number(t, value)
	case FieldCreated, FieldPushed:
		return p.moment(t, value)
	case FieldHas, FieldIs:
		t.Value = strings.ToLower(value)
		if allowed := fieldValues[t.Field]; !slices.Contains(allowed, t.Value) {
			return t, p.fail("%s: has no such value: write one of %s", t.Field, strings.Join(allowed, ", "))
		}
		return t, nil
	case FieldDigest:
		return p.digest(t, value)
	case FieldPlatform:
		if parts := strings.Split(value, "/"); len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
			return t, p.fail("%q is no platform: write %s", value, fieldForms[t.Field])
		}
	}
	t.Value = value
	switch t.Field {
	case FieldOS, FieldArchitecture, FieldPlatform, FieldType, FieldRepository, FieldNamespace:
		t.Value = indexer.LowerASCII(value) // as the specifications have them, and as facts are stored
	}
	return t, nil
}

// digest takes a whole digest or the first digits of one, with or without the
// algorithm before it.
func (p *parser) digest(t Term, value string) (Term, error) {
	t.Value = strings.ToLower(value)
	algorithm, hex, named := strings.Cut(t.Value, ":")
	if !named {
		algorithm, hex = "sha256", t.Value
	}
	most := map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}[algorithm]
	if most == 0 || len(hex) < MinDigits || len(hex) > most || strings.Trim(hex, "0123456789abcdef") != "" {
		return t, p.fail("%q is no digest: write sha256: and at least %d hexadecimal digits", value, MinDigits)
	}
	t.Value = algorithm + ":" + hex
	return t, nil
}

// comparison cuts an operator off the front of a value; without one it is "=".
func comparison(value string) (Comparison, string) {
	for _, c := range []Comparison{AtLeast, AtMost, Above, Below, Equal} { // longer ones first
		if rest, ok := strings.CutPrefix(value, string(c)); ok {
			return c, rest
		}
	}
	return Equal, value
}

// byteUnits are the units of sizes: powers of 1000, and of 1024 with an "i"
// (IEC 80000-13).
var byteUnits = map[string]float64{
	"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "t": 1e12, "tb": 1e12,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}

func (p *parser) number(t Term, value string) (Term, error) {
	compare, text := comparison(value)
	t.Compare = compare
	unit := strings.TrimLeft(text, "0123456789.")
	factor, known := byteUnits[strings.ToLower(unit)]
	if t.Field != FieldSize {
		factor, known = 1, unit == "" && !strings.Contains(text, ".")
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(text, unit), 64)
	if !known || err != nil && !errors.Is(err, strconv.ErrRange) {
		return t, p.fail("%q is no number for %s: write %s", value, t.Field, fieldForms[t.Field])
	}
	if n*factor > MaxNumber {
		return t, p.fail("%q is too large for %s: write a number up to %d", value, t.Field, int64(MaxNumber))
	}
	t.Number = int64(math.Round(n * factor))
	return t, nil
}

// dateForms are how spans of time are written. Each stands for all of the day,
// month, year or minute that it names.
var dateForms = []struct {
	layout string
	end    func(time.Time) time.Time
}{
	{"2006-01-02", func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }},
	{"2006-01", func(t time.Time) time.Time { return t.AddDate(0, 1, 0) }},
	{"2006", func(t time.Time) time.Time { return t.AddDate(1, 0, 0) }},
	{"2006-01-02T15:04Z07:00", func(t time.Time) time.Time { return t.Add(time.Minute) }},
}

// moment reads a time: a date, which is the span that it names, a moment of RFC
// 3339, or an age, which is a moment too: what is younger than 30 days was made
// after it.
func (p *parser) moment(t Term, value string) (Term, error) {
	compare, text := comparison(value)
	t.Compare = compare
	for _, form := range dateForms {
		if at, err := time.Parse(form.layout, strings.ToUpper(text)); err == nil {
			t.From, t.To = at.UTC(), form.end(at.UTC())
			return t, nil
		}
	}
	if at, err := time.Parse(time.RFC3339, strings.ToUpper(text)); err == nil {
		t.From = at.UTC().Truncate(time.Microsecond) // as the database holds times
		t.To = t.From
		switch {
		case compare == Equal && strings.Contains(text, "."):
			t.To = t.From.Add(time.Microsecond)
		case compare == Equal:
			t.To = t.From.Add(time.Second)
		}
		return t, nil
	}
	age, ok := parseAge(text)
	if !ok || compare == Equal {
		return t, p.fail("%q is no time for %s: write %s", value, t.Field, fieldForms[t.Field])
	}
	t.From = p.now.Add(-age)
	t.To, t.Age = t.From, true
	t.Compare = map[Comparison]Comparison{Below: Above, AtMost: AtLeast, Above: Below, AtLeast: AtMost}[compare]
	return t, nil
}

// ageUnits are those of ages. A month is 30 days and a year 365: nobody who
// writes "3mo" counts days.
var ageUnits = map[string]time.Duration{
	"m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "mo": 30 * 24 * time.Hour, "y": 365 * 24 * time.Hour,
}

// maxAge keeps an age within what a Duration holds: 200 years.
const maxAge = 200 * 365 * 24 * time.Hour

func parseAge(text string) (time.Duration, bool) {
	unit, known := ageUnits[strings.ToLower(strings.TrimLeft(text, "0123456789"))]
	n, err := strconv.Atoi(strings.TrimRight(text, "mhdwoyMHDWOY"))
	if err != nil || !known || n < 0 || n > int(maxAge/unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}

// nearestField gives the field that was probably meant by a name that is none:
// one letter more, less, or other.
func nearestField(name string) string {
	name = strings.ToLower(name)
	if len(name) < 3 {
		return ""
	}
	best := ""
	for known := range fieldNames {
		if len(known) > 3 && EditDistance(name, known) == 1 && (best == "" || known < best) {
			best = known
		}
	}
	return best
}
