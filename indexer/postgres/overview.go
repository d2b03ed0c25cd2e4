package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// maxCounted is up to how many rows of a table are counted for an overview:
// 100,000, some 10 ms. Of more, the database's own estimate is given.
const maxCounted = 100_000

// Overview says what is in the book, and when it is looked after.
func (v *View) Overview(ctx context.Context) (o indexer.Overview, err error) {
	if o.Repositories, err = v.CountRepositories(ctx); err != nil {
		return o, err
	}
	for table, count := range map[string]*indexer.Count{"tag": &o.Tags, "manifest": &o.Manifests} {
		if *count, err = v.rows(ctx, table); err != nil {
			return o, pg.Wrap("count of "+table, err)
		}
	}
	if o.LastEvent, err = v.lastEvent(ctx); err != nil {
		return o, pg.Wrap("last event", err)
	}
	o.ScansEvery, err = v.scansEvery(ctx)
	return o, pg.Wrap("time between scans", err)
}

// rows counts those of a table, which is one of ours. The estimate is made anew as
// rows change, by autovacuum; of a table that it has not come to yet, more is not
// known than that there are many.
func (v *View) rows(ctx context.Context, table string) (indexer.Count, error) {
	q := `SELECT (SELECT count(*) FROM (SELECT FROM ` + table + ` LIMIT $2) AS capped), (SELECT reltuples::bigint FROM pg_class WHERE oid = $1::text::regclass)`
	var counted, estimate int
	if err := v.tx.QueryRow(ctx, q, table, maxCounted+1).Scan(&counted, &estimate); err != nil {
		return indexer.Count{}, err
	}
	if counted <= maxCounted {
		return indexer.Count{N: counted}, nil
	}
	return indexer.Count{N: max(counted, estimate), About: true}, nil
}

// lastEvent gives when the last event came, zero if none is kept. What events are
// found by is a summary of blocks, which helps with a span only: so the span grows
// until it holds one.
func (v *View) lastEvent(ctx context.Context) (time.Time, error) {
	const q = `
		SELECT COALESCE(
			(SELECT max(received_at) FROM event WHERE received_at > now() - interval '1 minute'),
			(SELECT max(received_at) FROM event WHERE received_at > now() - interval '10 minutes'),
			(SELECT max(received_at) FROM event WHERE received_at > now() - interval '2 hours'),
			(SELECT max(received_at) FROM event WHERE received_at > now() - interval '1 day'),
			(SELECT max(received_at) FROM event WHERE received_at > now() - interval '10 days'),
			(SELECT max(received_at) FROM event))`
	var at *time.Time
	err := v.tx.QueryRow(ctx, q).Scan(&at)
	return pg.TimeOrZero(at), err
}

// scansEvery gives the time between scans as the last one tells that began by
// itself: it was asked for when that time had gone by since the one before began.
// Only the indexer that leads is told by its configuration.
func (v *View) scansEvery(ctx context.Context) (time.Duration, error) {
	const q = `
		SELECT COALESCE(extract(epoch FROM asked_at - (
			SELECT max(started_at) FROM scan p WHERE p.finished_at <= s.asked_at AND p.error IS NULL)), 0)::float8
		FROM scan s WHERE reason = 'interval' ORDER BY id DESC LIMIT 1`
	var seconds float64
	err := v.tx.QueryRow(ctx, q).Scan(&seconds)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second), err
}
