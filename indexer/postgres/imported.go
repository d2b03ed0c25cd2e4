package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
)

// ImportTimes keeps creation times that another system knew, and returns how many are new. Of two
// times for the same thing the earlier one counts.
func (s *Store) ImportTimes(ctx context.Context, times []indexer.ImportedTime) (fresh int, err error) {
	const q = `
		WITH given AS (
			SELECT repository, tag, digest, min(created_at) AS created_at
			FROM unnest($1::text[], $2::text[], $3::bytea[], $4::timestamptz[]) AS g (repository, tag, digest, created_at)
			GROUP BY repository, tag, digest
		), done AS (
			INSERT INTO imported_time AS i (repository, tag, digest, created_at)
			SELECT repository, tag, digest, created_at FROM given
			ON CONFLICT (repository, tag, digest) DO UPDATE
				SET created_at = LEAST(i.created_at, excluded.created_at), imported_at = now()
			RETURNING xmax = 0 AS fresh
		)
		SELECT count(*) FROM done WHERE fresh`
	var names, tags []string
	var digests [][]byte
	var at []time.Time
	for _, t := range times {
		digest := pg.DigestBytes(t.Digest)
		if digest == nil {
			digest = []byte{}
		}
		names, tags = append(names, t.Repository), append(tags, t.Tag)
		digests, at = append(digests, digest), append(at, t.CreatedAt)
	}
	err = s.pool.QueryRow(ctx, q, names, tags, digests, at).Scan(&fresh)
	return fresh, pg.Wrap("imported times", err)
}

// importedAtOnce is how many imported times are given to the book in one transaction: 1,000, which
// takes some 20 ms.
const importedAtOnce = 1000

// An importedKey is the key of a row of imported_time.
type importedKey struct {
	Repository, Tag string
	Digest          []byte
}

// GiveTimes gives what is in the book the times that were imported for it: a repository and a
// manifest those when they were created, and a tag when it came to show what it still shows. It
// never makes a time later. It returns how many rows it has changed.
func (s *Store) GiveTimes(ctx context.Context) (changed int, err error) {
	for after := (importedKey{Digest: []byte{}}); ; {
		n, last, err := s.giveTimes(ctx, after)
		if changed += n; err != nil || last == nil {
			return changed, pg.Wrap("imported times", err)
		}
		after = *last
	}
}

// importedPage selects the imported times after the key $1, $2, $3 until $4, $5, $6.
const importedPage = `WITH page AS (
	SELECT * FROM imported_time
	WHERE (repository, tag, digest) > ($1, $2, $3) AND (repository, tag, digest) <= ($4, $5, $6)) `

// lockImported locks the repositories in the order in which all lock them.
const lockImported = importedPage + `
	SELECT id FROM repository WHERE name IN (SELECT repository FROM page) ORDER BY name FOR NO KEY UPDATE`

// giveImported are the statements of giveTimes: for repositories, manifests and tags.
var giveImported = []string{
	importedPage + `
		UPDATE repository r SET created_at = p.created_at FROM page p
		WHERE r.name = p.repository AND p.tag = '' AND p.digest = '' AND r.created_at > p.created_at`,
	importedPage + `
		UPDATE manifest m SET seen_at = p.created_at FROM page p JOIN repository r ON r.name = p.repository
		WHERE m.repository_id = r.id AND m.digest = p.digest AND p.tag = '' AND m.seen_at > p.created_at`,
	importedPage + `
		UPDATE tag t SET moved_at = p.created_at,
			pushed_at = CASE WHEN t.pushed_at < p.imported_at THEN p.created_at ELSE t.pushed_at END
		FROM page p JOIN repository r ON r.name = p.repository JOIN manifest m ON m.repository_id = r.id AND m.digest = p.digest
		WHERE t.repository_id = r.id AND t.name = p.tag AND t.manifest_id = m.id AND (
			t.moved_at > p.created_at OR t.pushed_at > p.created_at AND t.pushed_at < p.imported_at)`,
}

// giveTimes is GiveTimes for the rows after a key. last is the last of them, nil if there are no
// more.
func (s *Store) giveTimes(ctx context.Context, after importedKey) (changed int, last *importedKey, err error) {
	const page = `
		SELECT repository, tag, digest FROM imported_time WHERE (repository, tag, digest) > ($1, $2, $3)
		ORDER BY repository, tag, digest LIMIT $4`
	keys, err := pg.Collect[importedKey](ctx, s.pool, page, after.Repository, after.Tag, after.Digest, importedAtOnce)
	if err != nil || len(keys) == 0 {
		return 0, nil, err
	}
	end := keys[len(keys)-1]
	err = s.begin(ctx, func(tx pgx.Tx, c cluster) error {
		changed = 0
		args := []any{after.Repository, after.Tag, after.Digest, end.Repository, end.Tag, end.Digest}
		ids, err := pg.Column[int32](ctx, tx, lockImported, args...)
		if err != nil {
			return err
		}
		for _, statement := range giveImported {
			done, err := tx.Exec(ctx, statement, args...)
			if err != nil {
				return err
			}
			changed += int(done.RowsAffected())
		}
		if changed == 0 {
			return nil
		}
		written, err := search.Rewrite(ctx, tx, ids) // the rows of images have the times of their tags
		if err != nil {
			return err
		}
		return bump(ctx, tx, c, written)
	})
	if len(keys) < importedAtOnce {
		return changed, nil, err
	}
	return changed, &end, err
}
