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
	a.written, err = search.Refresh(ctx, a.tx, search.Change{
		Repositories: ids, Touched: a.touched, Linked: a.linked, Tier: a.tier,
	})
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

// retierBatch is the number of search rows that one transaction moves to another
// tier: 100, about 50 ms. Pushes to the same repositories wait that long.
const retierBatch = 100

// Retier decides again which repositories are searched first, and returns how many
// it moved. It skips a row that a push has locked until the next call. It holds the
// ids of the rows to be moved in memory, at most those of all rows.
func (s *Store) Retier(ctx context.Context) (moved int, err error) {
	places, err := search.Misplaced(ctx, s.pool)
	for err == nil && len(places) > 0 {
		batch := places[:min(len(places), retierBatch)]
		places = places[len(batch):]
		var n int
		n, err = s.moveTiers(ctx, batch)
		moved += n
	}
	return moved, pg.Wrap("tiers", err)
}

func (s *Store) moveTiers(ctx context.Context, places []search.Place) (n int, err error) {
	err = s.begin(ctx, func(tx pgx.Tx, c cluster) error {
		if n, err = search.Move(ctx, tx, places); err != nil || n == 0 {
			return err
		}
		return bump(ctx, tx, c, nil)
	})
	return n, err
}

// Vocabulary collects the words of names again, which correct misspelt queries, and
// returns how many differ from the stored ones. It reads the search rows of all
// repositories once (5 s for a million) and holds no lock that others wait for.
func (s *Store) Vocabulary(ctx context.Context) (n int, err error) {
	err = s.begin(ctx, func(tx pgx.Tx, c cluster) error {
		if n, err = search.WriteVocabulary(ctx, tx); err != nil || n == 0 {
			return err
		}
		return bump(ctx, tx, c, nil)
	})
	return n, pg.Wrap("vocabulary", err)
}
