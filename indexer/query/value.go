package query

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// MaxNumber is the largest number in a query: 2^53. A float64, and so a number of
	// JSON, holds every integer up to it.
	MaxNumber = 1 << 53
	// minDigits is the fewest digits that find a digest: 6, which tell 16 million
	// digests apart. docker shows 12.
	minDigits = 6
	// maxStars is the most stars in a pattern: 8, more than anybody needs. Each
	// makes it slower to compare a text with the pattern.
	maxStars = 8
)

// value reads the value of a field other than label and annotation.
func (p *parser) value(t Term, value string) (Term, error) {
	if tooManyStars(value) {
		return t, p.failStars()
	}
	switch t.Field {
	case FieldSize, FieldLayers, FieldPulls:
		return p.number(t, value)
	case FieldCreated, FieldPushed:
		return p.moment(t, value)
	case FieldPulled:
		if strings.EqualFold(value, Never) {
			t.Value = Never
			return t, nil
		}
		return p.moment(t, value)
	case FieldHas, FieldIs, FieldSort:
		return p.oneOf(t, value)
	case FieldDigest:
		return p.digest(t, value)
	case FieldPlatform:
		if parts := strings.Split(value, "/"); len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
			return t, p.fail("%q is not a platform: write %s", value, t.Field.syntax().form)
		}
	}
	t.Value = value
	switch t.Field {
	case FieldOS, FieldArchitecture, FieldPlatform, FieldType, FieldRepository, FieldNamespace:
		t.Value = indexer.LowerASCII(value) // they are stored in lower case
	}
	return t, nil
}

// oneOf reads a value that must be one of the field's values.
func (p *parser) oneOf(t Term, value string) (Term, error) {
	t.Value = strings.ToLower(value)
	if allowed := t.Field.syntax().values; !slices.Contains(allowed, t.Value) {
		return t, p.fail("%q is not a value of %s: write one of %s", value, t.Field, strings.Join(allowed, ", "))
	}
	return t, nil
}

func tooManyStars(pattern string) bool { return strings.Count(pattern, "*") > maxStars }

func (p *parser) failStars() error {
	return p.fail("a pattern may have at most %d stars: remove some", maxStars)
}

// unquote removes the quotes around a value.
func (p *parser) unquote(value string) (string, error) {
	inner := value
	if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
		inner = value[1 : len(value)-1]
	}
	if strings.Contains(inner, `"`) {
		return "", p.fail(`quotes must be around a whole value: write field:"a value", or label:"a key"="a value"`)
	}
	return inner, nil
}

// pair reads a label or annotation: key or key=value, with quotes around the key,
// the value, or both together. The first "=" ends the key unless the key has quotes
// of its own.
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

// checkPair returns t, or err, or an error about the key or the patterns of t.
func (p *parser) checkPair(t Term, err error) (Term, error) {
	switch {
	case err != nil:
		return t, err
	case t.Name == "":
		return t, p.fail("%s needs a key: write %s", t.Field, t.Field.syntax().form)
	case tooManyStars(t.Name), tooManyStars(t.Value):
		return t, p.failStars()
	}
	return t, nil
}

// digestDigits are the digits of a whole digest by its algorithm.
var digestDigits = map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}

// digest reads a digest or its first digits. Without an algorithm it is a sha256.
func (p *parser) digest(t Term, value string) (Term, error) {
	algorithm, hex, named := strings.Cut(strings.ToLower(value), ":")
	if !named {
		algorithm, hex = "sha256", algorithm
	}
	isHex := strings.Trim(hex, "0123456789abcdef") == ""
	if len(hex) < minDigits || len(hex) > digestDigits[algorithm] || !isHex {
		return t, p.fail("%q is not a digest: write sha256: and at least %d hexadecimal digits", value, minDigits)
	}
	t.Value = algorithm + ":" + hex
	return t, nil
}

// comparison splits a value into its operator, "=" if there is none, and the rest.
func comparison(value string) (Comparison, string) {
	for _, c := range []Comparison{AtLeast, AtMost, Above, Below, Equal} { // ">=" before ">"
		if rest, ok := strings.CutPrefix(value, string(c)); ok {
			return c, rest
		}
	}
	return Equal, value
}

// number reads a size in bytes, or a number of layers or pulls. Only a size may have a unit
// or a fraction.
func (p *parser) number(t Term, value string) (Term, error) {
	compare, text := comparison(value)
	t.Compare = compare
	n, ok := indexer.ParseSize(text)
	if t.Field != FieldSize {
		ok = ok && strings.Trim(text, "0123456789") == ""
	}
	if !ok {
		return t, p.fail("%q is not a number for %s: write %s", value, t.Field, t.Field.syntax().form)
	}
	if n > MaxNumber {
		return t, p.fail("%q is too large for %s: write a number up to %d", value, t.Field, int64(MaxNumber))
	}
	t.Number = int64(math.Round(n))
	return t, nil
}

// moment reads a time: a date, which is a span; a time of RFC 3339, which is a
// point; or an age, which is a point too and needs an operator.
func (p *parser) moment(t Term, value string) (Term, error) {
	compare, text := comparison(value)
	t.Compare = compare
	var ok bool
	if t.From, t.To, ok = parseDate(text); ok {
		return t, nil
	}
	if t.From, t.To, ok = parseTime(text, compare == Equal); ok {
		return t, nil
	}
	age, ok := parseAge(text)
	if !ok || compare == Equal {
		return t, p.fail("%q is not a time for %s: write %s", value, t.Field, t.Field.syntax().form)
	}
	t.From = p.now.Add(-age)
	t.To, t.Age, t.Compare = t.From, true, compare.reversed()
	return t, nil
}

// dateForms are the forms of dates. Each means the whole day, month, year or minute.
var dateForms = []struct {
	layout string
	end    func(time.Time) time.Time
}{
	{"2006-01-02", func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }},
	{"2006-01", func(t time.Time) time.Time { return t.AddDate(0, 1, 0) }},
	{"2006", func(t time.Time) time.Time { return t.AddDate(1, 0, 0) }},
	{"2006-01-02T15:04Z07:00", func(t time.Time) time.Time { return t.Add(time.Minute) }},
}

// parseDate returns the span of a date in one of dateForms.
func parseDate(text string) (from, to time.Time, ok bool) {
	for _, form := range dateForms {
		if at, err := time.Parse(form.layout, strings.ToUpper(text)); err == nil {
			return at.UTC(), form.end(at.UTC()), true
		}
	}
	return time.Time{}, time.Time{}, false
}

// parseTime returns the point in time that text is in the form of RFC 3339. If span
// is set, to is the end of its second, or of its microsecond if it has a fraction.
func parseTime(text string, span bool) (from, to time.Time, ok bool) {
	at, err := time.Parse(time.RFC3339, strings.ToUpper(text))
	if err != nil {
		return time.Time{}, time.Time{}, false
	}
	from = at.UTC().Truncate(time.Microsecond) // PostgreSQL stores microseconds
	switch {
	case !span:
		return from, from, true
	case strings.Contains(text, "."):
		return from, from.Add(time.Microsecond), true
	}
	return from, from.Add(time.Second), true
}

// ageUnits are the units of ages. A month is always 30 days and a year 365, because
// nobody who writes "3mo" counts days.
var ageUnits = map[string]time.Duration{
	"m":  time.Minute,
	"h":  time.Hour,
	"d":  24 * time.Hour,
	"w":  7 * 24 * time.Hour,
	"mo": 30 * 24 * time.Hour,
	"y":  365 * 24 * time.Hour,
}

// maxAge is the largest age: 200 years. A time.Duration holds 292.
const maxAge = 200 * 365 * 24 * time.Hour

func parseAge(text string) (time.Duration, bool) {
	unit, known := ageUnits[strings.ToLower(strings.TrimLeft(text, "0123456789"))]
	n, err := strconv.Atoi(strings.TrimRight(text, "mhdwoyMHDWOY"))
	if err != nil || !known || n < 0 || n > int(maxAge/unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}
