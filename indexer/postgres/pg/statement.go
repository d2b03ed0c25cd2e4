package pg

import (
	"context"
	"encoding/json"
	"fmt"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
)

// Builder builds statements with optional clauses and $ placeholders. Statements
// nested in them must be built with plain sq.Select.
var Builder = sq.StatementBuilder.PlaceholderFormat(sq.Dollar)

// Statement replaces each ? in text by an argument, which may be a part of a
// statement, and numbers the placeholders.
func Statement(text string, args ...any) (string, []any, error) {
	sql, args, err := sq.Expr(text, args...).ToSql()
	if err != nil {
		return "", nil, err
	}
	sql, err = sq.Dollar.ReplacePlaceholders(sql)
	return sql, args, err
}

// Stated runs the result of Statement, and returns its rows like Collect.
func Stated[T any](ctx context.Context, db Querier, text string, args ...any) ([]T, error) {
	sql, args, err := Statement(text, args...)
	if err != nil {
		return nil, err
	}
	return Collect[T](ctx, db, sql, args...)
}

// Estimate returns how many rows Postgres expects a statement to return. It uses the
// statistics of ANALYZE: the hundred most common values of a column, and the
// distribution of the others.
func Estimate(ctx context.Context, db Querier, q sq.Sqlizer) (float64, error) {
	sql, args, err := Statement("EXPLAIN (FORMAT JSON) ?", q)
	if err != nil {
		return 0, err
	}
	var raw []byte
	if err := db.QueryRow(ctx, sql, args...).Scan(&raw); err != nil {
		return 0, err
	}
	var plan []struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	if err := json.Unmarshal(raw, &plan); err != nil || len(plan) == 0 {
		return 0, fmt.Errorf("EXPLAIN returned %q: %w", raw, err)
	}
	return plan[0].Plan.Rows, nil
}

// BoundedSum returns an SQL expression for a sum of sizes that is at most
// indexer.MaxSize, and 0 for null.
func BoundedSum(sum string) string {
	return fmt.Sprintf("LEAST(COALESCE(%s, 0), %d)::bigint", sum, indexer.MaxSize)
}
