package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

const (
	// keepDeleted is how long deleted candidates stay, for who asks where a blob is.
	keepDeleted = 90 * 24 * time.Hour
	// keepReturns is how long it is kept after which time blobs were needed again. A single
	// blob that is needed after months would otherwise prevent deletions for ever.
	keepReturns = 90 * 24 * time.Hour
)

// BeginLook forgets what an earlier look has reported.
func (s *Store) BeginLook(ctx context.Context) error {
	// Not TRUNCATE, which database.user may not do if another user owns the tables.
	_, err := s.pool.Exec(ctx, "WITH blobs AS (DELETE FROM storage_blob) DELETE FROM storage_manifest")
	return pg.Wrap("look at the storage", err)
}

// AddLooked stores a part of what a look reports.
func (s *Store) AddLooked(ctx context.Context, blobs []LookedBlob, manifests []LookedManifest) error {
	rows := [][]any{}
	for _, b := range blobs {
		rows = append(rows, []any{pg.DigestBytes(b.Digest), b.Size, b.Stored, b.Linked, b.Used, pg.TimeOrNull(b.Trashed)})
	}
	columns := []string{"digest", "size", "stored", "linked", "used", "trashed_at"}
	_, err := s.pool.CopyFrom(ctx, pgx.Identifier{"storage_blob"}, columns, pgx.CopyFromRows(rows))
	if err != nil {
		return pg.Wrap("look at the storage", err)
	}
	rows = rows[:0]
	for _, m := range manifests {
		rows = append(rows, []any{m.Repository, pg.DigestBytes(m.Digest)})
	}
	columns = []string{"repository", "digest"}
	_, err = s.pool.CopyFrom(ctx, pgx.Identifier{"storage_manifest"}, columns, pgx.CopyFromRows(rows))
	return pg.Wrap("look at the storage", err)
}

// OnlyStored returns at most limit manifests of a repository that the last look has seen in the
// storage, and that the book does not have. They may be deleted since.
func (s *Store) OnlyStored(ctx context.Context, repository string, limit int) ([]digest.Digest, error) {
	const q = `
		SELECT s.digest FROM storage_manifest s WHERE s.repository = $1 AND NOT EXISTS (
			SELECT FROM repository r JOIN manifest m ON m.repository_id = r.id WHERE r.name = $1 AND m.digest = s.digest)
		ORDER BY s.digest LIMIT $2`
	raw, err := pg.Column[[]byte](ctx, s.pool, q, repository, limit)
	return digestsOf(raw), pg.Wrap("manifests in the storage", err)
}

// EndLook compares what a look has reported with the candidates and with the book. every is the
// time between two looks: a longer gap does not count as observed. It reports as known what
// the sweep has counted.
func (s *Store) EndLook(ctx context.Context, known indexer.StorageLook, every time.Duration) error {
	// Without statistics Postgres plans for small tables, and reads one again for each row
	// of another. A user that does not own the tables gets a warning only.
	if _, err := s.pool.Exec(ctx, "ANALYZE storage_blob, storage_manifest, collect_candidate"); err != nil {
		return pg.Wrap("look at the storage", err)
	}
	err := s.begin(ctx, func(tx pgx.Tx, c cluster) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('work_mem', '64MB', true), set_config('jit', 'off', true)"); err != nil {
			return err
		}
		steps := []func(context.Context, pgx.Tx, time.Time) error{returned, relinked, seenUnused, seenTrash, forgetOld}
		for _, step := range steps {
			if err := step(ctx, tx, known.Begin); err != nil {
				return err
			}
		}
		if err := storeLook(ctx, tx, known, every); err != nil {
			return err
		}
		return bump(ctx, tx, c, nil)
	})
	return pg.Wrap("look at the storage", err)
}

// A vanished candidate is not reported as unused any more.
type vanished struct {
	Digest   []byte
	Size     int64
	State    string
	UnusedAt time.Time
	Used     bool // the look says so; otherwise the blob is as it should be, or gone
}

// returned removes the candidates that a manifest uses again, and counts after which time; and
// those that are gone.
func returned(ctx context.Context, tx pgx.Tx, begin time.Time) error {
	const q = `
		DELETE FROM collect_candidate c WHERE c.state <> 'deleted' AND (
			c.state = 'waiting' AND EXISTS (SELECT FROM storage_blob b WHERE b.digest = c.digest AND b.used)
			OR NOT EXISTS (SELECT FROM storage_blob b WHERE b.digest = c.digest AND (b.stored OR b.trashed_at IS NOT NULL)))
		RETURNING digest, size, state, unused_at,
			EXISTS (SELECT FROM storage_blob b WHERE b.digest = c.digest AND b.used) AS used`
	all, err := pg.Collect[vanished](ctx, tx, q)
	if err != nil {
		return err
	}
	const atOnce = 1000 // so that a statement has no more than 32 kB of digests
	for len(all) > 0 {
		n := min(atOnce, len(all))
		if err := countVanished(ctx, tx, begin, all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// A firstUse says when the book first saw a manifest that uses a blob.
type firstUse struct {
	Digest []byte
	First  *time.Time // not before the blob was seen unused; null: all were seen before
}

// countVanished counts candidates that vanished: as used again if the look or the book says so.
// The time of a use is that at which the book read the manifest, if it did.
func countVanished(ctx context.Context, tx pgx.Tx, begin time.Time, all []vanished) error {
	const q = `
		SELECT w.digest, min(m.seen_at) FILTER (WHERE m.seen_at >= w.since) AS first
		FROM unnest($1::bytea[], $2::timestamptz[]) AS w (digest, since) CROSS JOIN LATERAL (
			SELECT m.seen_at FROM manifest m WHERE m.digest = w.digest
			UNION ALL SELECT m.seen_at FROM blob b JOIN manifest m ON m.config_id = b.id WHERE b.digest = w.digest
			UNION ALL SELECT m.seen_at FROM blob b JOIN manifest m ON m.layer_ids @> ARRAY[b.id] WHERE b.digest = w.digest
		) AS m GROUP BY w.digest`
	var digests [][]byte
	var since []time.Time
	for _, v := range all {
		digests, since = append(digests, v.Digest), append(since, v.UnusedAt)
	}
	uses, err := pg.Collect[firstUse](ctx, tx, q, digests, since)
	if err != nil {
		return err
	}
	first := map[string]*time.Time{}
	for _, u := range uses {
		first[string(u.Digest)] = u.First
	}
	return countReturnedAndGone(ctx, tx, begin, all, first)
}

func countReturnedAndGone(
	ctx context.Context, tx pgx.Tx, begin time.Time, all []vanished, first map[string]*time.Time,
) error {
	var seconds []float64
	blobs, bytes := 0, int64(0)
	for _, v := range all {
		at, inBook := first[string(v.Digest)]
		switch {
		case at != nil && at.Before(begin):
			seconds = append(seconds, at.Sub(v.UnusedAt).Seconds())
		case inBook || v.Used:
			seconds = append(seconds, begin.Sub(v.UnusedAt).Seconds())
		case v.State == "trashed": // deleted, and the end of the order was not stored
			blobs, bytes = blobs+1, bytes+v.Size
		}
	}
	const q = "UPDATE collect_state SET deleted = deleted + $1, deleted_bytes = deleted_bytes + $2"
	if _, err := tx.Exec(ctx, q, blobs, bytes); err != nil {
		return err
	}
	return countReturns(ctx, tx, "used", seconds)
}

// countReturns adds blobs that were needed again after times in seconds.
func countReturns(ctx context.Context, tx pgx.Tx, kind string, seconds []float64) error {
	const q = `
		INSERT INTO collect_return AS r (day, kind, bucket, blobs, longest) VALUES (current_date, $1, $2, 1, $3)
		ON CONFLICT (day, kind, bucket) DO UPDATE SET blobs = r.blobs + 1, longest = greatest(r.longest, excluded.longest)`
	batch := &pgx.Batch{}
	for _, s := range seconds {
		batch.Queue(q, kind, bucketOf(max(inSeconds(s), 0)), max(s, 0))
	}
	return tx.SendBatch(ctx, batch).Close()
}

// bucketOf returns the bound of the bucket of a time in seconds, 0 for the last one.
func bucketOf(d time.Duration) int {
	for _, upTo := range indexer.ReturnBuckets {
		if d <= upTo {
			return int(upTo / time.Second)
		}
	}
	return 0
}

// relinked notes which unlinked candidates a repository links again.
func relinked(ctx context.Context, tx pgx.Tx, begin time.Time) error {
	const q = `
		UPDATE collect_candidate c SET unlinked_at = NULL FROM storage_blob b, collect_candidate was
		WHERE b.digest = c.digest AND b.linked AND c.state = 'waiting' AND c.unlinked_at IS NOT NULL AND was.digest = c.digest
		RETURNING EXTRACT(EPOCH FROM $1::timestamptz - was.unlinked_at)::float8`
	seconds, err := pg.Column[float64](ctx, tx, q, begin)
	if err != nil {
		return err
	}
	return countReturns(ctx, tx, "linked", seconds)
}

// seenUnused adds and renews candidates. One that was marked as trashed and is in its place,
// and not in the trash, waits again.
func seenUnused(ctx context.Context, tx pgx.Tx, begin time.Time) error {
	const q = `
		INSERT INTO collect_candidate AS c (digest, size, state, unused_at, unlinked_at, looked_at)
		SELECT digest, size, 'waiting', $1, CASE WHEN NOT linked THEN $1::timestamptz END, $1 FROM storage_blob
		WHERE stored AND NOT used AND trashed_at IS NULL
		ON CONFLICT (digest) DO UPDATE SET size = excluded.size, looked_at = excluded.looked_at, state = 'waiting', needed = false,
			unused_at = CASE WHEN c.state = 'deleted' THEN excluded.unused_at ELSE c.unused_at END,
			unlinked_at = CASE WHEN c.state = 'deleted' OR excluded.unlinked_at IS NULL THEN excluded.unlinked_at
				ELSE COALESCE(c.unlinked_at, excluded.unlinked_at) END,
			changed_at = CASE WHEN c.state = 'waiting' THEN c.changed_at ELSE now() END`
	_, err := tx.Exec(ctx, q, begin)
	return err
}

// seenTrash adds and renews what is in the trash.
func seenTrash(ctx context.Context, tx pgx.Tx, begin time.Time) error {
	const q = `
		INSERT INTO collect_candidate (digest, size, state, unused_at, unlinked_at, looked_at, changed_at, needed)
		SELECT digest, size, 'trashed', trashed_at, trashed_at, $1, trashed_at, linked OR used FROM storage_blob
		WHERE trashed_at IS NOT NULL
		ON CONFLICT (digest) DO UPDATE SET state = 'trashed', looked_at = excluded.looked_at, needed = excluded.needed`
	_, err := tx.Exec(ctx, q, begin)
	return err
}

func forgetOld(ctx context.Context, tx pgx.Tx, begin time.Time) error {
	const deleted = "DELETE FROM collect_candidate WHERE state = 'deleted' AND changed_at < $1"
	const returns = "DELETE FROM collect_return WHERE day < $1::date"
	_, err := tx.Exec(ctx, deleted, begin.Add(-keepDeleted))
	_, errReturns := tx.Exec(ctx, returns, begin.Add(-keepReturns))
	return errors.Join(err, errReturns)
}

// lookRow is what a look that was compared with the book has counted.
type lookRow struct {
	Unused, UnusedBytes, Unlinked, UnlinkedBytes, Trashed, TrashedBytes, Missing, Cut int64
	BookManifests, BookBytes, OnlyBook, OnlyStorage                                   int64
	Examples                                                                          []string
}

// exampleCount is how many differences of each kind are listed: 10.
const exampleCount = "10"

const lookCounted = `
	WITH only_book AS (
		SELECT r.name, m.digest FROM manifest m JOIN repository r ON r.id = m.repository_id
		WHERE m.seen_at < $1 AND NOT EXISTS (
			SELECT FROM storage_manifest s WHERE s.repository = r.name AND s.digest = m.digest)
	), only_storage AS (
		SELECT s.repository AS name, s.digest FROM storage_manifest s WHERE NOT EXISTS (
			SELECT FROM manifest m JOIN repository r ON r.id = m.repository_id WHERE r.name = s.repository AND m.digest = s.digest)
	), blobs AS (
		SELECT count(*) FILTER (WHERE stored AND NOT used) AS unused,
			COALESCE(sum(size) FILTER (WHERE stored AND NOT used), 0)::bigint AS unused_bytes,
			count(*) FILTER (WHERE stored AND NOT used AND NOT linked) AS unlinked,
			COALESCE(sum(size) FILTER (WHERE stored AND NOT used AND NOT linked), 0)::bigint AS unlinked_bytes,
			count(*) FILTER (WHERE trashed_at IS NOT NULL) AS trashed,
			COALESCE(sum(size) FILTER (WHERE trashed_at IS NOT NULL), 0)::bigint AS trashed_bytes,
			count(*) FILTER (WHERE used AND NOT stored AND trashed_at IS NULL) AS missing,
			count(*) FILTER (WHERE used AND stored AND NOT linked) AS cut
		FROM storage_blob
	), examples AS (
		(SELECT 1 AS kind, format('only in the book: %s@sha256:%s', name, encode(digest, 'hex')) AS text FROM only_book LIMIT ` + exampleCount + `)
		UNION ALL
		(SELECT 2, format('only in the storage: %s@sha256:%s', name, encode(digest, 'hex')) FROM only_storage LIMIT ` + exampleCount + `)
		UNION ALL
		(SELECT 3, format('needed and missing: sha256:%s', encode(digest, 'hex')) FROM storage_blob
			WHERE used AND NOT stored AND trashed_at IS NULL LIMIT ` + exampleCount + `)
		UNION ALL
		(SELECT 4, format('needed and not linked: sha256:%s', encode(digest, 'hex')) FROM storage_blob
			WHERE used AND stored AND NOT linked LIMIT ` + exampleCount + `)
	)
	SELECT b.*, (SELECT count(*) FROM manifest) AS book_manifests,
		COALESCE((SELECT size FROM storage_total), 0)
			+ COALESCE((SELECT sum(size)::bigint FROM (SELECT DISTINCT digest, size FROM manifest) AS m), 0) AS book_bytes,
		(SELECT count(*) FROM only_book) AS only_book, (SELECT count(*) FROM only_storage) AS only_storage,
		COALESCE((SELECT array_agg(text ORDER BY kind, text) FROM examples), '{}') AS examples
	FROM blobs b`

// storeLook stores what a look has seen, and that it was made.
func storeLook(ctx context.Context, tx pgx.Tx, l indexer.StorageLook, every time.Duration) error {
	const state = `
		UPDATE collect_state SET looks = looks + 1, first_look = COALESCE(first_look, $1), last_look = $1,
			observed = observed + CASE WHEN last_look IS NULL THEN 0 -- least ignores a null
				ELSE greatest(least(EXTRACT(EPOCH FROM $1::timestamptz - last_look), 2 * $2::float8), 0) END`
	const forget = "DELETE FROM storage_look"
	const add = `
		INSERT INTO storage_look (begin_at, seconds, blobs, bytes, links, manifests, abandoned_uploads, abandoned_bytes,
			active_uploads, unreadable, blind, problems, unused, unused_bytes, unlinked, unlinked_bytes, trashed, trashed_bytes,
			missing, cut, book_manifests, book_bytes, only_book, only_storage, examples)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)`
	rows, err := pg.Collect[lookRow](ctx, tx, lookCounted, l.Begin)
	if err != nil {
		return err
	}
	c := rows[0]
	batch := &pgx.Batch{}
	batch.Queue(state, l.Begin, every.Seconds())
	batch.Queue(forget)
	batch.Queue(add, l.Begin, l.Seconds, l.Blobs, l.Bytes, l.Links, l.Manifests, l.AbandonedUploads, l.AbandonedBytes,
		l.ActiveUploads, l.Unreadable, l.Blind, append([]string{}, l.Problems...), c.Unused, c.UnusedBytes, c.Unlinked,
		c.UnlinkedBytes, c.Trashed, c.TrashedBytes, c.Missing, c.Cut, c.BookManifests, c.BookBytes, c.OnlyBook,
		c.OnlyStorage, c.Examples)
	return tx.SendBatch(ctx, batch).Close()
}

// storageLook returns the last look at the storage; its Begin is zero if there is none.
func storageLook(ctx context.Context, db pg.Querier) (l indexer.StorageLook, err error) {
	const q = `
		SELECT begin_at AS begin, seconds, blobs, bytes, links, manifests, abandoned_uploads, abandoned_bytes, active_uploads,
			unreadable, blind, problems, unused, unused_bytes, unlinked, unlinked_bytes, trashed, trashed_bytes, missing, cut,
			book_manifests, book_bytes, only_book, only_storage, examples
		FROM storage_look`
	rows, err := pg.Collect[indexer.StorageLook](ctx, db, q)
	if err != nil || len(rows) == 0 {
		return l, pg.Wrap("last look at the storage", err)
	}
	return rows[0], nil
}

// StorageLook returns the last look at the storage of the registry; its Begin is zero if there
// is none, and for an asker who does not see every repository.
func (v *View) StorageLook(ctx context.Context) (l indexer.StorageLook, err error) {
	if !v.visible.All() {
		return l, nil
	}
	return storageLook(ctx, v.tx)
}
