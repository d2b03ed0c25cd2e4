package postgres

import (
	"context"
	"errors"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// maxCounted is the maximum number of rows of a table that an overview counts:
// 100,000, about 10 ms. For larger tables it uses the estimate of Postgres.
const maxCounted = 100_000

// Overview returns how much is in the book, when the last event was received and how
// often scans start. For an asker who does not see every repository it counts what
// that asker sees, at most maxCounted+1 of a kind, and does not tell when the last
// event was received, which may have been about another repository.
func (v *View) Overview(ctx context.Context) (o indexer.Overview, err error) {
	if o.Repositories, err = v.CountRepositories(ctx); err != nil {
		return o, err
	}
	for table, count := range map[string]*indexer.Count{"tag": &o.Tags, "manifest": &o.Manifests} {
		if *count, err = v.rows(ctx, table); err != nil {
			return o, pg.Wrap("count of "+table, err)
		}
	}
	if v.visible.All() {
		if o.LastEvent, err = v.lastEvent(ctx); err != nil {
			return o, pg.Wrap("last event", err)
		}
	}
	o.ScansEvery, err = v.scansEvery(ctx)
	return o, pg.Wrap("time between scans", err)
}

// rows returns the number of rows of a table; table must be a constant. Above
// maxCounted it is the estimate that autovacuum updates. If autovacuum has not
// analyzed the table yet, it is the lower bound maxCounted+1.
func (v *View) rows(ctx context.Context, table string) (indexer.Count, error) {
	if !v.visible.All() {
		return v.visibleRows(ctx, table)
	}
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

// visibleRows is like rows for the rows of repositories that the asker may see. An
// estimate of them is the lower bound maxCounted+1.
func (v *View) visibleRows(ctx context.Context, table string) (n indexer.Count, err error) {
	// OFFSET 0 keeps Postgres from reading the whole table.
	all := v.names.EachSpan(sq.Expr("SELECT counted.* FROM repository r CROSS JOIN LATERAL (SELECT FROM "+table+
		" t WHERE t.repository_id = r.id OFFSET 0) AS counted WHERE ?", v.names.InSpan("r.name")))
	sql, args, err := pg.Statement("SELECT count(*) FROM (? LIMIT ?) AS capped", all, maxCounted+1)
	if err != nil {
		return n, err
	}
	err = v.tx.QueryRow(ctx, sql, args...).Scan(&n.N)
	n.About = n.N > maxCounted
	return n, err
}

// lastEvent returns when the last event was received, zero if none is stored. The
// index on that time is BRIN, which helps only with a range, so the range grows
// until it contains an event.
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

// scansEvery returns the time between scans, measured at the last scan with the
// reason "interval": from the start of the scan before it until it was requested.
// Only the leader has the interval in its configuration.
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
