package search

import (
	"fmt"
	"strings"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
)

func isGlob(s string) bool { return strings.ContainsAny(s, "*?") }

// glob compares an expression with a value that may hold stars.
func glob(expression, value string) sq.Sqlizer {
	if isGlob(value) {
		return sq.Expr(expression+" LIKE ?", like(value))
	}
	return sq.Expr(expression+" = ?", indexer.CleanText(value))
}

// globBeginning compares the beginning of an expression, of which args are the
// parameters, with a value that may hold stars.
func globBeginning(expression, value string, args ...any) sq.Sqlizer {
	if isGlob(value) {
		return sq.Expr(beginningOf(expression)+" LIKE ?", append(args, like(value))...)
	}
	return sq.Expr(beginningOf(expression)+" = ?", append(args, termText(value))...)
}

// beginningOf returns the first maxTerm characters of an expression.
func beginningOf(expression string) string { return fmt.Sprintf("left(%s, %d)", expression, maxTerm) }

// like turns a glob, in which * is any run of characters and ? any one, into a
// pattern of LIKE.
func like(glob string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`, `*`, `%`, `?`, `_`).Replace(indexer.CleanText(glob))
}

// nameRange gives the names that a pattern allows, and others, as a range, from
// included and to not; from is "" if it begins with a star. '~' is above every
// character of a name.
func nameRange(pattern string) (from, to string) {
	head := pattern
	if i := strings.IndexAny(pattern, "*?"); i >= 0 {
		head = pattern[:i]
	}
	if head == "" {
		return "", ""
	}
	return head, head + "~"
}
