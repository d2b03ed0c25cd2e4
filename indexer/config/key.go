package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

// A Key is a setting with one value or a list of values.
type Key struct {
	Name    string // as in the file: "database.sslMode"
	Default string // in the form of the file; empty: none
	Secret  bool   // not printed, or printed without its password

	field reflect.StructField
	index []int // of the field in Config
}

// Keys returns all keys, in the order of Config.
func Keys() []Key {
	return keysOf(reflect.TypeFor[Config](), "", nil)
}

func keysOf(t reflect.Type, section string, index []int) []Key {
	var keys []Key
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Tag.Get("mapstructure") == "-" {
			continue
		}
		name := section + f.Tag.Get("mapstructure")
		at := append(index[:len(index):len(index)], i)
		if f.Type.Kind() == reflect.Struct {
			keys = append(keys, keysOf(f.Type, name+".", at)...)
			continue
		}
		secret := f.Tag.Get("secret") != ""
		keys = append(keys, Key{name, f.Tag.Get("default"), secret, f, at})
	}
	return keys
}

// Env returns the environment variable of k, such as "PORTBOOK_DATABASE_SSLMODE".
func (k Key) Env() string {
	return prefix + strings.ToUpper(strings.ReplaceAll(k.Name, ".", "_"))
}

// in returns the value of k in c.
func (k Key) in(c *Config) reflect.Value {
	return reflect.ValueOf(c).Elem().FieldByIndex(k.index)
}

// parse parses text as a value of k. Its error names the key, the value unless it
// is secret, and what to write.
func (k Key) parse(text string) (any, error) {
	if strings.ContainsAny(text, "\r\n\x00") {
		return nil, fmt.Errorf("%s contains a line break or NUL (value not shown): check how it was stored, for"+
			" example by echo without -n", k.Name)
	}
	if one := k.field.Tag.Get("oneof"); one != "" {
		for _, s := range strings.Fields(one) {
			if strings.EqualFold(s, text) {
				return s, nil
			}
		}
		return nil, fmt.Errorf("%s: %s is not valid: write one of %s", k.Name, shown(text), strings.ReplaceAll(one, " ", ", "))
	}
	if k.field.Type == reflect.TypeFor[time.Duration]() {
		return k.duration(text)
	}
	switch k.field.Type.Kind() {
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %s is not a boolean: write true or false", k.Name, shown(text))
		}
		return b, nil
	case reflect.Int:
		return k.integer(text)
	case reflect.Slice:
		return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }), nil
	default:
		return text, nil
	}
}

// durations is the remedy in messages about durations.
const durations = "write 30s, 5m, 1h or 90d"

func (k Key) duration(text string) (any, error) {
	d, err := ParseDuration(text)
	if _, number := strconv.ParseFloat(text, 64); err != nil && number == nil {
		return nil, fmt.Errorf("%s: %s has no unit: "+durations, k.Name, shown(text))
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %s is not a duration: "+durations, k.Name, shown(text))
	case d < 0:
		return nil, fmt.Errorf("%s: %s is negative: "+durations, k.Name, shown(text))
	case d == 0 && k.field.Tag.Get("min") != "":
		return nil, fmt.Errorf("%s must be greater than zero: "+durations, k.Name)
	}
	return d, nil
}

// ParseDuration is time.ParseDuration with days, of 24 hours, as the first unit.
func ParseDuration(text string) (time.Duration, error) {
	before, after, hasDays := strings.Cut(text, "d")
	if !hasDays {
		return time.ParseDuration(text)
	}
	days, err := strconv.ParseUint(before, 10, 16) // 179 years; a Duration holds at most 292
	if err != nil || after == "" {
		return time.Duration(days) * 24 * time.Hour, err
	}
	rest, err := time.ParseDuration(after)
	if err == nil && (rest < 0 || rest > 24*time.Hour || after == "0") {
		err = errors.New("more than a day after days")
	}
	return time.Duration(days)*24*time.Hour + rest, err
}

func (k Key) integer(text string) (any, error) {
	n, err := strconv.Atoi(text)
	least, _ := strconv.Atoi(k.field.Tag.Get("min"))
	most, limited := strconv.Atoi(k.field.Tag.Get("max"))
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return nil, fmt.Errorf("%s: %s is not a whole number: write digits only", k.Name, shown(text))
	case limited == nil && (err != nil || n < least || n > most):
		return nil, fmt.Errorf("%s: %s is out of range: write %d to %d", k.Name, shown(text), least, most)
	case n < least: // the words of the ToolHive server
		return nil, fmt.Errorf("%s must be greater than zero: not %s", k.Name, shown(text))
	case err != nil:
		return nil, fmt.Errorf("%s: %s is out of range: write a smaller number", k.Name, shown(text))
	}
	return n, nil
}

// fold returns the same text for all spellings of a key in a file: it ignores case
// and underscores.
func fold(name string) string {
	return strings.ToLower(strings.ReplaceAll(name, "_", ""))
}

// flat does the same for variables and flags: it ignores dots and hyphens too.
func flat(name string) string {
	return strings.NewReplacer(".", "", "-", "").Replace(fold(name))
}

// nearest returns ": did you mean x?" with the name that is most similar to got: one
// with the same last part, or the one with the smallest distance. If more than half
// of the letters differ, it returns a pointer to the manual.
func nearest(got string, names []string) string {
	last := func(s string) string { return flat(s[strings.LastIndexByte(s, '.')+1:]) }
	best, least := "", len(flat(got))/2+1
	for _, name := range names {
		d := indexer.EditDistance(flat(got), flat(name))
		if strings.Contains(name, ".") && last(got) == last(name) {
			d = min(d, 1)
		}
		if d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return ": doc/configuration.md lists all names"
	}
	return ": did you mean " + best + "?"
}
