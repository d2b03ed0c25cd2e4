package search

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A view plans each statement once for all values and reads no table from end to end
// (planOnce in package postgres). The statements of a search are planned for their
// values: a rare word needs another plan than a common one, and what no index serves
// is best read from end to end. planEach and planOnce change the settings before and
// after, in the same round trip.
const (
	planEach = `SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'on', true)`
	planOnce = `SELECT set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true)`
)

// planned runs a statement with a plan for its values, and returns its rows. text and
// args are those of pg.Statement.
func planned[T any](
	ctx context.Context, rd *Reader, scan pgx.RowToFunc[T], text string, args ...any,
) (rows []T, err error) {
	sql, args, err := pg.Statement(text, args...)
	if err != nil {
		return nil, err
	}
	batch := &pgx.Batch{}
	batch.Queue(planEach)
	batch.Queue(sql, args...).Query(func(read pgx.Rows) (err error) {
		rows, err = pgx.CollectRows(read, scan)
		return err
	})
	batch.Queue(planOnce)
	err = rd.db.SendBatch(ctx, batch).Close()
	return rows, err
}

// one returns the only row of a statement.
func one[T any](rows []T, err error) (row T, _ error) {
	if err == nil && len(rows) != 1 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return row, err
	}
	return rows[0], nil
}
