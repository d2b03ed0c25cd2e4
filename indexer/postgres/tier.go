package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// How many repositories the first two tiers hold. A search goes through one
// after the other: the bitmap of a common word takes no time over 2,000 rows, a
// millisecond over 40,000 and 70 over a million (measured).
const (
	tier0 = 2000
	tier1 = 38_000
)

// retierBatch is how many search rows one transaction moves to another tier:
// 100, some 50 ms, for which pushes to the same repositories wait.
const retierBatch = 100

// Retier finds out anew which repositories are looked at first, and returns how
// many it moved. A row that a push has locked stays where it is until the next
// time. It holds the numbers of the rows to be moved, at most all.
func (s *Store) Retier(ctx context.Context) (moved int, err error) {
	const misplaced = `
		WITH best AS MATERIALIZED (
			SELECT repository_id, row_number() OVER (ORDER BY pulls DESC, updated_at DESC, repository_id DESC) AS place
			FROM repository_search ORDER BY pulls DESC, updated_at DESC, repository_id DESC LIMIT $1::int + $2::int
		), wanted AS (
			SELECT s.repository_id, s.tier AS now, CASE WHEN b.place <= $1::int THEN 0 WHEN b.place IS NOT NULL THEN 1 ELSE 2 END AS tier
			FROM repository_search s LEFT JOIN best b USING (repository_id)
		)
		SELECT repository_id, tier FROM wanted WHERE now <> tier ORDER BY tier, repository_id`
	type place struct {
		RepositoryID int32
		Tier         int16
	}
	places, err := pg.Collect[place](ctx, s.pool, misplaced, tier0, tier1)
	if err != nil {
		return 0, pg.Wrap("tiers", err)
	}
	for len(places) > 0 {
		batch := places[:min(len(places), retierBatch)]
		places = places[len(batch):]
		ids, tiers := make([]int32, len(batch)), make([]int16, len(batch))
		for i, p := range batch {
			ids[i], tiers[i] = p.RepositoryID, p.Tier
		}
		n, err := s.moveTiers(ctx, ids, tiers)
		moved += n
		if err != nil {
			return moved, pg.Wrap("tiers", err)
		}
	}
	return moved, nil
}

func (s *Store) moveTiers(ctx context.Context, ids []int32, tiers []int16) (n int, err error) {
	const move = `
		WITH free AS (
			SELECT s.repository_id, wanted.tier FROM unnest($1::int[], $2::smallint[]) AS wanted (repository_id, tier)
			JOIN repository_search s USING (repository_id) WHERE s.tier <> wanted.tier
			ORDER BY s.repository_id FOR NO KEY UPDATE OF s SKIP LOCKED
		)
		UPDATE repository_search s SET tier = free.tier FROM free WHERE s.repository_id = free.repository_id`
	err = s.begin(ctx, func(tx pgx.Tx, c cluster) error {
		result, err := tx.Exec(ctx, move, ids, tiers)
		if n = int(result.RowsAffected()); err != nil || n == 0 {
			return err
		}
		return bump(ctx, tx, c)
	})
	return n, err
}
