package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
)

// Differences computes the derived rows of a repository again from the manifests and
// tags in the book, and returns each column that differs: in the search rows of
// images and of the repository, and in the referrers. It changes nothing, reads one
// snapshot, and returns nothing for a repository that is not in the book. It leaves
// out the storage of repositories, because the leader counts that again anyway.
//
// It returns an error if a table has a column that it cannot compute.
func (s *Store) Differences(ctx context.Context, repository string) ([]search.Difference, error) {
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{
		BeginQuery: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; " + planOnce,
	})
	if err != nil {
		return nil, pg.Wrap("differences", err)
	}
	defer func() { _ = tx.Rollback(ctx) }() // nothing was written
	ids, err := pg.Column[int32](ctx, tx, "SELECT id FROM repository WHERE name = $1", repository)
	if err != nil || len(ids) == 0 {
		return nil, pg.Wrap("differences", err)
	}
	found, err := search.Differences(ctx, tx, ids)
	return found, pg.Wrap(fmt.Sprintf("differences of %q", repository), err)
}
