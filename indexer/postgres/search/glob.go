package search

import (
	"fmt"
	"strings"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

func isGlob(s string) bool { return strings.ContainsAny(s, "*?") }

// glob compares an expression with a value, which may be a pattern of * and ?.
func glob(expression, value string) sq.Sqlizer {
	if isGlob(value) {
		return sq.Expr(expression+" LIKE ?", pg.Like(value))
	}
	return sq.Expr(expression+" = ?", indexer.CleanText(value))
}

// globBeginning compares the first memory.MaxTerm characters of an expression, whose
// parameters are args, with a value, which may be a pattern.
func globBeginning(expression, value string, args ...any) sq.Sqlizer {
	if isGlob(value) {
		return sq.Expr(beginningOf(expression)+" LIKE ?", append(args, pg.Like(value))...)
	}
	return sq.Expr(beginningOf(expression)+" = ?", append(args, memory.TermText(value))...)
}

// beginningOf returns the first memory.MaxTerm characters of an expression.
func beginningOf(expression string) string {
	return fmt.Sprintf("left(%s, %d)", expression, memory.MaxTerm)
}
