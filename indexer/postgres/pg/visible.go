package pg

import (
	"cmp"
	"slices"
	"strings"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
)

// Like returns the LIKE pattern of a glob: * is any run of characters, ? any one.
func Like(glob string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`, `*`, `%`, `?`, `_`).Replace(indexer.CleanText(glob))
}

// A Visible restricts statements to the repositories that an asker may see. For an
// asker who sees all of them, it changes nothing but adds conditions that are true.
//
// Two of its methods belong together. EachSpan runs a statement once for each span, a
// range of names that begin alike, and InSpan is the condition of that statement. So
// the names between the spans are not read, however many there are. A pattern that
// begins with * or ? has all names in its span.
type Visible struct {
	all         bool
	likes       []string // patterns of the visible names
	lows, highs []string // the spans: from a low, inclusive, to the high of the same place
}

// VisibleOf returns the Visible of v.
func VisibleOf(v indexer.Visibility) Visible {
	if v.All() {
		return Visible{all: true}
	}
	var visible Visible
	var spans []span
	for _, p := range v.Patterns() {
		visible.likes = append(visible.likes, Like(p))
		spans = append(spans, spanOf(p))
	}
	for _, s := range joined(spans) {
		visible.lows, visible.highs = append(visible.lows, s.beginning), append(visible.highs, s.high())
	}
	return visible
}

// Likes returns the LIKE patterns of the visible names, for a fixed statement. There are
// none for an asker who sees all of them.
func (v Visible) Likes() []string { return v.likes }

// Name returns the condition that a name is visible. The column of the name must have
// the collation "C", here and in InSpan.
func (v Visible) Name(column string) sq.Sqlizer {
	if v.all {
		return sq.Expr("true")
	}
	return sq.Expr(column+" LIKE ANY(?)", v.likes)
}

// InSpan returns the condition that a name is visible and in the span of EachSpan.
func (v Visible) InSpan(column string) sq.Sqlizer {
	if v.all {
		return sq.Expr("true")
	}
	return sq.Expr(column+" >= span.low AND "+column+" < span.high AND "+column+" LIKE ANY(?)", v.likes)
}

// EachSpan returns a statement with all rows that q selects in each span. If q has an
// order and a limit, they hold within a span.
func (v Visible) EachSpan(q sq.Sqlizer) sq.Sqlizer {
	if v.all {
		return q
	}
	return sq.Expr(`
		SELECT page.* FROM unnest(?::text[], ?::text[]) AS span (low, high) CROSS JOIN LATERAL (?) AS page`, v.lows, v.highs, q)
}

// NextSpan returns a bound for a walk from name to name: no visible name is after name
// and before the bound. It is null after the last span.
func (v Visible) NextSpan(name string) sq.Sqlizer {
	if v.all {
		return sq.Expr(name)
	}
	return sq.Expr(`(
		SELECT min(span.low COLLATE "C") FROM unnest(?::text[], ?::text[]) AS span (low, high)
		WHERE span.high COLLATE "C" > `+name+")", v.lows, v.highs)
}

// A span has all names with a beginning, or just the name that is equal to it.
type span struct {
	beginning string
	whole     bool // whether the beginning is the whole name
}

// spanOf returns the span with all names that match a glob.
func spanOf(glob string) span {
	glob = indexer.CleanText(glob)
	if end := strings.IndexAny(glob, "*?"); end >= 0 {
		return span{beginning: glob[:end]}
	}
	return span{beginning: glob, whole: true}
}

// high returns a text that is greater than all names of s, and not greater than any
// other that is greater than those: the greatest character follows the beginning, or
// the least one.
func (s span) high() string {
	if s.whole {
		return s.beginning + "\x01"
	}
	return s.beginning + "\U0010FFFF"
}

// joined returns spans in order of name, without those that are in another one.
func joined(spans []span) (apart []span) {
	slices.SortFunc(spans, func(a, b span) int { // of those with the same beginning, the larger first
		return cmp.Or(strings.Compare(a.beginning, b.beginning), strings.Compare(b.high(), a.high()))
	})
	for _, s := range spans {
		if n := len(apart); n > 0 {
			last := apart[n-1]
			if s == last || !last.whole && strings.HasPrefix(s.beginning, last.beginning) {
				continue
			}
		}
		apart = append(apart, s)
	}
	return apart
}
