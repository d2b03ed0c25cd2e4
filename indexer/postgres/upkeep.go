package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
)

// refresh updates the search rows of the changed repositories.
func (a *application) refresh(ctx context.Context) (err error) {
	ids := a.changedIDs()
	if len(ids) == 0 {
		return nil
	}
	a.written, err = search.Refresh(ctx, a.tx, search.Change{Repositories: ids, Touched: a.touched, Linked: a.linked})
	return err
}

// Reform rewrites search rows that were written in another form by another version
// of the program, and returns the number of repositories that it rewrote. Call it
// until it returns 0.
func (s *Store) Reform(ctx context.Context) (n int, err error) {
	n, _, err = s.ReformAfter(ctx, "")
	return n, err
}

// ReformAfter is Reform for repositories after the given name, in order of name;
// last is the last one that it rewrote. A caller that continues after last reads no
// row twice, which would take minutes for a million rows.
func (s *Store) ReformAfter(ctx context.Context, after string) (n int, last string, err error) {
	err = s.beginAs(ctx, beginPlanned, func(tx pgx.Tx, c cluster) error {
		var written []int32
		if n, last, written, err = search.Reform(ctx, tx, after); err != nil || n == 0 {
			return err
		}
		return bump(ctx, tx, c, written)
	})
	return n, last, pg.Wrap("reform search rows", err)
}
