package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// useQuery is access.Rate.Use for the key $1, with the pause $2 and $3 at once, by the clock of
// the database, which all processes share. It gives no row if the rate does not allow one more.
// Each key has a row of its own, which is locked for one statement.
//
// It also deletes up to ten rows that are not needed any more, so that there are never many
// more than users of the last minutes; without an index on the time, because there are few.
const useQuery = `
	WITH old AS (
		DELETE FROM rate_limit WHERE key IN (
			SELECT key FROM rate_limit WHERE full_at < clock_timestamp() AND key <> $1 LIMIT 10 FOR UPDATE SKIP LOCKED)
	)
	INSERT INTO rate_limit AS l (key, full_at) VALUES ($1, clock_timestamp() + $2::interval)
	ON CONFLICT (key) DO UPDATE SET full_at = GREATEST(l.full_at, clock_timestamp()) + $2::interval
	WHERE l.full_at <= clock_timestamp() + $2::interval * ($3::int - 1)
	RETURNING full_at - clock_timestamp()`

// UseRate counts one use of what a rate limits for a key. It returns how long it takes until
// all may be used at once again (see access.Rate), and whether the use is allowed.
func (s *Store) UseRate(ctx context.Context, key string, r access.Rate) (full time.Duration, allowed bool, err error) {
	err = s.pool.QueryRow(ctx, useQuery, key, r.Pause, r.AtOnce).Scan(&full)
	if !errors.Is(err, pgx.ErrNoRows) {
		return full, err == nil, pg.Wrap("rate limit", err)
	}
	const q = `
		SELECT COALESCE((SELECT full_at - clock_timestamp() FROM rate_limit WHERE key = $1), '0'::interval)`
	err = s.pool.QueryRow(ctx, q, key).Scan(&full)
	return full, false, pg.Wrap("rate limit", err)
}
