package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

const (
	// putBackTries is how many operations put a protected tag back within putBackWindow: 5. If
	// somebody moves it as often, a program does so, and the two would fight for ever.
	putBackTries  = 5
	putBackWindow = 24 * time.Hour
)

// putBackPause returns the pause before the next operation after a number of them: none, then
// 10 s, 1 min, 6 min and 36 min.
func putBackPause(tries int) time.Duration {
	pause := time.Duration(0)
	for n := range tries {
		if pause *= 6; n == 0 {
			pause = 10 * time.Second
		}
	}
	return pause
}

// guardsQuery selects the protections that may forbid moves, by their patterns.
// It does not read what quotas are compared with, since no push may wait for a count.
const guardsQuery = `
	SELECT kind, pattern, tags, reason, actor, 0::bigint AS bytes, created_at, 0::bigint AS used, NULL::timestamptz AS counted_at
	FROM protection WHERE kind <> 'quota' AND pattern = ANY($1)`

// guard notes the protected tags among those that moved, in the transaction that stores the
// moves, and asks for operations that put them back. It also sees when they are back.
func (a *application) guard(ctx context.Context, m *moves) error {
	list, err := protectionsFrom(m.guards, nil)
	if err != nil {
		return err
	}
	all := access.NewProtections(list)
	for _, move := range m.recorded {
		p, protected := all.Frozen(move.Repository)
		if !protected {
			p, protected = all.Tag(move.Repository, move.Tag)
		}
		if err := a.guardTag(ctx, move, p, protected); err != nil {
			return err
		}
	}
	return nil
}

// A guardedRow is a row of protected_move.
type guardedRow struct {
	Keeps   []byte
	State   string
	Tries   int
	Started bool // whether tries began within putBackWindow
}

func (g guardedRow) open() bool {
	return g.State == indexer.ProtectedWaiting || g.State == indexer.ProtectedFailed
}

// guardTag notes that a tag has moved.
func (a *application) guardTag(ctx context.Context, m recordedMove, p access.Protection, protected bool) error {
	const q = `
		SELECT keeps, state, tries, first_at > now() - $3::interval AS started FROM protected_move
		WHERE (repository, tag) = ($1, $2) FOR UPDATE`
	rows, err := pg.Collect[guardedRow](ctx, a.tx, q, m.Repository, m.Tag, putBackWindow)
	if err != nil {
		return err
	}
	var g guardedRow
	if len(rows) > 0 {
		g = rows[0]
	}
	switch {
	case g.open() && pg.DigestFrom(m.ToDigest) == pg.DigestFrom(g.Keeps):
		r := access.Record{Event: access.ProtectionRestore, Target: m.Tag, Repository: m.Repository,
			Detail: "it shows " + pg.DigestFrom(g.Keeps).String() + " again"}
		return a.endGuard(ctx, m, "", r)
	case g.open() && !protected:
		return a.endGuard(ctx, m, "the tag is not protected any more", access.Record{})
	case g.open():
		const seen = "UPDATE protected_move SET shows = $3, seen_at = now() WHERE (repository, tag) = ($1, $2)"
		_, err := a.tx.Exec(ctx, seen, m.Repository, m.Tag, m.ToDigest)
		return err
	case !protected || m.FromDigest == nil:
		return nil
	}
	if !g.Started {
		g.Tries = 0
	}
	return a.breakGuard(ctx, m, p, g)
}

// endGuard ends what was noted about a tag. r is a record, if it has an Event.
func (a *application) endGuard(ctx context.Context, m recordedMove, why string, r access.Record) error {
	const q = `
		UPDATE protected_move SET state = 'done', shows = $3, ended_at = now(), problem = $4, body = NULL
		WHERE (repository, tag) = ($1, $2)`
	if _, err := a.tx.Exec(ctx, q, m.Repository, m.Tag, m.ToDigest, why); err != nil || r.Event == "" {
		return err
	}
	return record(ctx, a.tx, r)
}

// breakGuard notes that a protected tag has moved away from what it must show, with the bytes of
// that manifest while the book has them, and asks for it to be put back.
func (a *application) breakGuard(ctx context.Context, m recordedMove, p access.Protection, g guardedRow) error {
	const q = `
		INSERT INTO protected_move AS p (repository, tag, keeps, shows, media_type, body)
		SELECT $1, $2, $3, $4, COALESCE(mt.name, ''), b.body FROM (VALUES (1)) AS once
		LEFT JOIN repository r ON r.name = $1
		LEFT JOIN manifest m ON m.repository_id = r.id AND m.digest = $3
		LEFT JOIN media_type mt ON mt.id = m.media_type_id
		LEFT JOIN manifest_body b ON b.repository_id = m.repository_id AND b.manifest_id = m.id
		ON CONFLICT (repository, tag) DO UPDATE SET keeps = excluded.keeps, shows = excluded.shows,
			media_type = excluded.media_type, body = excluded.body, state = 'waiting', problem = '', ended_at = NULL, seen_at = now(),
			tries = $5, first_at = CASE WHEN $5 = 0 THEN now() ELSE p.first_at END`
	if _, err := a.tx.Exec(ctx, q, m.Repository, m.Tag, m.FromDigest, m.ToDigest, g.Tries); err != nil {
		return err
	}
	now := "was deleted"
	if m.ToDigest != nil {
		now = "was moved to " + pg.DigestFrom(m.ToDigest).String()
	}
	r := access.Record{Event: access.ProtectionBreak, Target: m.Tag, Repository: m.Repository,
		Detail: "the protected tag " + now + ", from " + pg.DigestFrom(m.FromDigest).String() + "; " + p.Name()}
	if err := record(ctx, a.tx, r); err != nil {
		return err
	}
	return askPutBack(ctx, a.tx, guardedTag{m.Repository, m.Tag, m.FromDigest, m.ToDigest, g.Tries})
}

// A guardedTag is a protected tag that is to be put back.
type guardedTag struct {
	Repository, Tag string
	Keeps, Shows    []byte
	Tries           int
}

// askPutBack adds the operation that puts a tag back, or gives up.
func askPutBack(ctx context.Context, tx pgx.Tx, g guardedTag) error {
	if g.Tries >= putBackTries {
		moved := fmt.Sprintf("somebody moved it again and again, and %d operations within a day put it back", g.Tries)
		const failed = `
			UPDATE protected_move p SET state = 'failed', ended_at = now(), problem = 'it is not put back any more: ' || COALESCE((
				SELECT NULLIF(o.error, '') FROM operation o WHERE o.id = p.operation), $3)
			WHERE (repository, tag) = ($1, $2)`
		_, err := tx.Exec(ctx, failed, g.Repository, g.Tag, moved)
		return err
	}
	options, err := json.Marshal(indexer.OperationOptions{Shows: pg.DigestFrom(g.Shows)})
	if err != nil {
		return err
	}
	const add = `
		WITH added AS (
			INSERT INTO operation (kind, repository, tag, digest, options, actor, run_after)
			VALUES ($3, $1, $2, $4, $5, $6, now() + $7::interval) RETURNING id
		)
		UPDATE protected_move SET operation = added.id, tries = tries + 1 FROM added WHERE (repository, tag) = ($1, $2)`
	_, err = tx.Exec(ctx, add, g.Repository, g.Tag, string(indexer.PutBack), g.Keeps, options, access.Ourselves,
		putBackPause(g.Tries))
	return err
}

// PutBackAgain asks once more for protected tags to be put back that do not show what they must
// though the operation has ended: somebody moved them before the book had seen that they were
// back, or it failed. It returns how many there are.
func (s *Store) PutBackAgain(ctx context.Context) (n int, err error) {
	const q = `
		SELECT p.repository, p.tag, p.keeps, p.shows, p.tries FROM protected_move p LEFT JOIN operation o ON o.id = p.operation
		WHERE p.state = 'waiting' AND (o.id IS NULL OR o.ended_at < now() - interval '10 seconds')
		ORDER BY p.repository, p.tag LIMIT 100 FOR UPDATE OF p SKIP LOCKED`
	err = s.begin(ctx, func(tx pgx.Tx, _ cluster) error {
		due, err := pg.Collect[guardedTag](ctx, tx, q)
		for _, g := range due {
			if err == nil {
				err = askPutBack(ctx, tx, g)
			}
		}
		n = len(due)
		return err
	})
	return n, pg.Wrap("protected tags to put back", err)
}

// ProtectedBody returns the media type and the bytes of the manifest that a protected tag must
// show, or ErrNotFound if they were not kept.
func (s *Store) ProtectedBody(
	ctx context.Context, repository string, d digest.Digest,
) (mediaType string, body []byte, err error) {
	const q = `
		SELECT media_type, body FROM protected_move WHERE repository = $1 AND keeps = $2 AND body IS NOT NULL LIMIT 1`
	type row struct {
		MediaType string
		Body      []byte
	}
	r, err := one[row](ctx, s.pool, fmt.Sprintf("bytes of %s@%s", repository, d), q, repository, pg.DigestBytes(d))
	return r.MediaType, r.Body, err
}

// movesQuery selects protected_move AS p with the error of its operation.
const movesQuery = `
	SELECT p.repository, p.tag, p.keeps, p.shows, p.state, p.tries, p.seen_at, p.ended_at, COALESCE(p.operation, 0) AS operation,
		COALESCE(NULLIF(p.problem, ''), o.error, '') AS problem
	FROM protected_move p LEFT JOIN operation o ON o.id = p.operation`

type protectedMoveRow struct {
	Repository, Tag string
	Keeps, Shows    []byte
	State           string
	Tries           int
	SeenAt          time.Time
	EndedAt         *time.Time
	Operation       int64
	Problem         string
}

// protectedMoves returns the protected tags of a repository that were moved or deleted all the
// same, the latest 100 first.
func (v *View) protectedMoves(ctx context.Context, repository string) (all []indexer.ProtectedMove, err error) {
	const q = movesQuery + " WHERE p.repository = $1 ORDER BY p.seen_at DESC, p.tag LIMIT 100"
	rows, err := pg.Collect[protectedMoveRow](ctx, v.tx, q, indexer.CleanText(repository))
	return protectedMovesFrom(rows), pg.Wrap(fmt.Sprintf("protected tags of %q", repository), err)
}

func protectedMovesFrom(rows []protectedMoveRow) (all []indexer.ProtectedMove) {
	for _, r := range rows {
		all = append(all, indexer.ProtectedMove{
			Repository: r.Repository, Tag: r.Tag, Keeps: pg.DigestFrom(r.Keeps), Shows: pg.DigestFrom(r.Shows), State: r.State,
			Tries: r.Tries, SeenAt: r.SeenAt, EndedAt: pg.TimeOrZero(r.EndedAt), Operation: r.Operation, Problem: r.Problem,
		})
	}
	return all
}
