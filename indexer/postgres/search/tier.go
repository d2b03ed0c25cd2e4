package search

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// The number of repositories in the first two tiers. A search reads one tier after
// another: the bitmap of a common word takes no time over 2,000 rows, 1 ms over
// 40,000 and 70 ms over a million (measured).
const (
	tier0 = 2000
	tier1 = 38_000
)

// A Place is a repository and the tier in which its search row should be.
type Place struct {
	RepositoryID int32
	Tier         int16
}

// Misplaced returns the repositories whose search rows are in the wrong tier.
func Misplaced(ctx context.Context, db pg.Querier) ([]Place, error) {
	const q = `
		WITH best AS MATERIALIZED (
			SELECT repository_id, row_number() OVER (ORDER BY pulls DESC, updated_at DESC, repository_id DESC) AS place
			FROM repository_search ORDER BY pulls DESC, updated_at DESC, repository_id DESC LIMIT $1::int + $2::int
		), wanted AS (
			SELECT s.repository_id, s.tier AS now, CASE WHEN b.place <= $1::int THEN 0 WHEN b.place IS NOT NULL THEN 1 ELSE 2 END AS tier
			FROM repository_search s LEFT JOIN best b USING (repository_id)
		)
		SELECT repository_id, tier FROM wanted WHERE now <> tier ORDER BY tier, repository_id`
	return pg.Collect[Place](ctx, db, q, tier0, tier1)
}

// Move moves search rows to their tiers, and returns how many it moved. It skips rows
// that another transaction has locked.
func Move(ctx context.Context, tx pgx.Tx, places []Place) (int, error) {
	moved, err := tx.Exec(ctx, moveRows, pg.Arrays(places)...)
	return int(moved.RowsAffected()), err
}

var moveRows = `
	WITH free AS (
		SELECT s.repository_id, wanted.tier FROM ` + pg.Unnest[Place]("wanted", 1) + `
		JOIN repository_search s USING (repository_id) WHERE s.tier <> wanted.tier
		ORDER BY s.repository_id FOR NO KEY UPDATE OF s SKIP LOCKED
	)
	UPDATE repository_search s SET tier = free.tier FROM free WHERE s.repository_id = free.repository_id`
