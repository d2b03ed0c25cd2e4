// Package pg contains helpers for all statements of the store: scanning rows into
// structs, sending structs as rows, placeholders, classifying errors, and converting
// digests, times and maps.
// It knows no table.
package pg

import (
	"context"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Querier is a pool, a connection or a transaction.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// Collect runs a statement and scans its rows into structs by column name.
func Collect[T any](ctx context.Context, db Querier, sql string, args ...any) ([]T, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[T])
}

// Selected is Collect for a statement built with Builder.
func Selected[T any](ctx context.Context, db Querier, sel sq.SelectBuilder) ([]T, error) {
	sql, args, err := sel.ToSql()
	if err != nil {
		return nil, err
	}
	return Collect[T](ctx, db, sql, args...)
}

// Column runs a statement and returns the values of its only column.
func Column[T any](ctx context.Context, db Querier, sql string, args ...any) ([]T, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[T])
}

// Queue adds a statement to a batch. When the batch is sent, its rows are stored in
// into, as Collect returns them.
func Queue[T any](batch *pgx.Batch, into *[]T, sql string, args ...any) {
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) (err error) {
		*into, err = pgx.CollectRows(rows, pgx.RowToStructByName[T])
		return err
	})
}
