package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
)

// Yank takes a tag, an image or a repository back: see indexer.Yank. It returns ErrNotFound if
// the book does not have it, and ErrConflict if that would change nothing. The actor of ctx must
// have its permit.
func (s *Store) Yank(ctx context.Context, y indexer.Yank) error {
	if err := y.Check(); err != nil {
		return err
	}
	const exists = `
		SELECT FROM repository r WHERE r.name = $1
			AND ($2 = '' OR EXISTS (SELECT FROM tag t WHERE t.repository_id = r.id AND t.name = $2))
			AND ($3 = ''::bytea OR EXISTS (SELECT FROM manifest m WHERE m.repository_id = r.id AND m.digest = $3))`
	const add = `
		INSERT INTO yank AS y (repository, tag, digest, deprecated, reason, actor) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (repository, tag, digest, deprecated) DO UPDATE SET
			reason = excluded.reason, actor = excluded.actor, created_at = now()
		WHERE y.reason <> excluded.reason`
	const count = "SELECT count(*) FROM yank WHERE repository = $1 AND (tag <> '' OR digest <> '')"
	key := yankKey(y)
	return s.yank(ctx, y, access.YankAdd, func(tx pgx.Tx) error {
		found, err := tx.Exec(ctx, exists, key[:3]...)
		if err == nil && found.RowsAffected() == 0 {
			err = indexer.ErrNotFound
		}
		if err != nil {
			return err
		}
		added, err := tx.Exec(ctx, add, append(key, y.Reason, access.ActorOf(ctx).Name)...)
		if err == nil && added.RowsAffected() == 0 {
			err = indexer.Conflict("%s is already %s", y.Target(), y.Verb())
		}
		if err != nil {
			return err
		}
		return atMost(ctx, tx, indexer.MaxYanks,
			"%d tags and images of the repository are yanked, which is the most: yank the"+
				" repository, or delete some", count, y.Repository)
	})
}

// Unyank gives back what was yanked or deprecated. It returns ErrConflict if it was not.
func (s *Store) Unyank(ctx context.Context, y indexer.Yank) error {
	const remove = "DELETE FROM yank WHERE (repository, tag, digest, deprecated) = ($1, $2, $3, $4)"
	return s.yank(ctx, y, access.YankRemove, func(tx pgx.Tx) error {
		removed, err := tx.Exec(ctx, remove, yankKey(y)...)
		if err == nil && removed.RowsAffected() == 0 {
			err = indexer.Conflict("%s is not %s", y.Target(), y.Verb())
		}
		return err
	})
}

// yankKey returns the key of the row of y.
func yankKey(y indexer.Yank) []any {
	digest := pg.DigestBytes(y.Digest)
	if digest == nil {
		digest = []byte{}
	}
	return []any{y.Repository, y.Tag, digest, y.Deprecated}
}

// yank runs f in a transaction that changes the yanks of a repository, records that, and writes
// the search rows of the repository again.
func (s *Store) yank(ctx context.Context, y indexer.Yank, event access.Event, f func(pgx.Tx) error) error {
	return s.inAccessOf(ctx, y.Target(), func(tx pgx.Tx, c cluster) error {
		const lock = "SELECT id FROM repository WHERE name = $1 FOR NO KEY UPDATE"
		ids, err := pg.Column[int32](ctx, tx, lock, y.Repository)
		if err != nil {
			return err
		}
		if err := f(tx); err != nil {
			return err
		}
		r := access.Record{Event: event, Target: y.Target(), Repository: y.Repository, Detail: y.Verb() +
			reasonDetail(y.Reason)}
		if err := record(ctx, tx, r); err != nil {
			return err
		}
		var written []int32
		if len(ids) > 0 {
			if written, err = search.Rewrite(ctx, tx, ids); err != nil {
				return err
			}
		}
		return bump(ctx, tx, c, written)
	})
}

// A yankRow is a row of yank.
type yankRow struct {
	Repository, Tag string
	Digest          []byte
	Deprecated      bool
	Reason, Actor   string
	CreatedAt       time.Time
}

const yanksQuery = "SELECT repository, tag, digest, deprecated, reason, actor, created_at FROM yank"

func yanksFrom(rows []yankRow, err error) (all []indexer.Yank, _ error) {
	for _, r := range rows {
		y := indexer.Yank{Repository: r.Repository, Tag: r.Tag, Deprecated: r.Deprecated, Reason: r.Reason, Actor: r.Actor,
			CreatedAt: r.CreatedAt}
		if len(r.Digest) > 0 {
			y.Digest = pg.DigestFrom(r.Digest)
		}
		all = append(all, y)
	}
	return all, err
}

// Yanks returns at most limit yanks of all repositories, in order of repository.
func (s *Store) Yanks(ctx context.Context, limit int) ([]indexer.Yank, error) {
	const q = yanksQuery + " ORDER BY repository, tag, digest, deprecated LIMIT $1"
	all, err := yanksFrom(pg.Collect[yankRow](ctx, s.pool, q, limit))
	return all, pg.Wrap("yanks", err)
}

// yanks returns what is yanked in a repository, and whether it is deprecated, in order of tag and
// digest.
func (v *View) yanks(ctx context.Context, repository string) ([]indexer.Yank, error) {
	const q = yanksQuery + " WHERE repository = $1 ORDER BY tag, digest, deprecated"
	all, err := yanksFrom(pg.Collect[yankRow](ctx, v.tx, q, indexer.CleanText(repository)))
	return all, pg.Wrap(fmt.Sprintf("yanks of %q", repository), err)
}
