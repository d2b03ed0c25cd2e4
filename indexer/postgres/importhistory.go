package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// maxImported is the greatest number that an imported move may have: 100 million. Numbers are reserved
// at a million a second.
const maxImported = 100_000_000

// ImportMoves fills the history, which must be empty, with moves of another book, which next returns,
// the latest first, until it returns none. Either all of them are in the history afterwards, or none.
// They get new numbers in the order of their old ones.
func (s *Store) ImportMoves(ctx context.Context, next func() ([]indexer.Move, error)) (imported int, err error) {
	err = s.begin(ctx, func(tx pgx.Tx, c cluster) error {
		imported = 0
		// Workers that add moves wait.
		if _, err := tx.Exec(ctx, "LOCK TABLE tag_history IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
		begun, err := pg.Column[bool](ctx, tx, "SELECT EXISTS (SELECT FROM tag_history)")
		if err != nil {
			return err
		}
		if begun[0] {
			return indexer.Conflict("the history of this book has begun: import into a new database, before its first scan")
		}
		x := importedMoves{tx: tx, oldest: time.Now()}
		for {
			moves, err := next()
			if err != nil {
				return err
			}
			if len(moves) == 0 {
				return bump(ctx, tx, c, nil)
			}
			if err := x.add(ctx, moves); err != nil {
				return err
			}
			imported += len(moves)
		}
	})
	return imported, pg.Wrap("import of the history", err)
}

// importedMoves are the moves of an import.
type importedMoves struct {
	tx     pgx.Tx
	most   int64     // the greatest old number; 0: not known yet
	before int64     // what is added to an old number
	oldest time.Time // there are partitions since then
}

func (x *importedMoves) add(ctx context.Context, moves []indexer.Move) error {
	if x.most == 0 {
		if err := x.reserve(ctx, moves[0].ID); err != nil {
			return err
		}
	}
	const partitions = "SELECT create_history_partitions($1)"
	for _, m := range moves {
		switch {
		case m.ID < 1 || m.ID > x.most:
			return indexer.Invalid("the move %d is not in its place: a dump has the latest first", m.ID)
		case m.SeenAt.Before(x.oldest):
			x.oldest = m.SeenAt
		}
	}
	if _, err := pg.Column[string](ctx, x.tx, partitions, x.oldest); err != nil {
		return err
	}
	return x.insert(ctx, moves)
}

// reserve reserves numbers for moves with old numbers until most.
func (x *importedMoves) reserve(ctx context.Context, most int64) error {
	if most < 1 || most > maxImported {
		return indexer.Invalid("the latest move has the number %d: at most %d can be imported", most, maxImported)
	}
	const q = "SELECT min(nextval(pg_get_serial_sequence('tag_history', 'id'))) FROM generate_series(1, $1)"
	first, err := pg.Column[int64](ctx, x.tx, q, most)
	if err == nil {
		x.most, x.before = most, first[0]-1
	}
	return err
}

func (x *importedMoves) insert(ctx context.Context, moves []indexer.Move) error {
	const q = `
		INSERT INTO tag_history (id, repository, tag, from_digest, to_digest, seen_at, seen_by) OVERRIDING SYSTEM VALUE
		SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::timestamptz[], $7::text[])`
	var ids []int64
	var names, tags, by []string
	var from, to [][]byte
	var at []time.Time
	for _, m := range moves {
		ids, names, tags = append(ids, x.before+m.ID), append(names, m.Repository), append(tags, m.Tag)
		from, to = append(from, pg.DigestBytes(m.From)), append(to, pg.DigestBytes(m.To))
		at, by = append(at, m.SeenAt), append(by, string(m.SeenBy))
	}
	_, err := x.tx.Exec(ctx, q, ids, names, tags, from, to, at, by)
	return err
}
