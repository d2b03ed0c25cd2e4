package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A row of loose_blob says that a repository may have a blob for nothing. Nothing relies on
// that: who removes a blob looks first whether it is used. So rows are written without a look
// at the manifests of the repository, which may be many, and PruneLoose removes those of blobs
// that are used, for many repositories at once.

const (
	// maxLoose is about how many rows loose_blob may have: 1,000,000, 150 MB. Then events add
	// none, and deletions of manifests do not either, until the job runBlobGC has removed some.
	maxLoose = "1000000"
	// maxLooseOfEach is how many of them one repository may have because of events: 10,000.
	// Whoever uploads blobs and no manifests must not fill the table.
	maxLooseOfEach = "10000"
	// checkLooseAfter is how long a row waits for the manifest of its blob: a minute. Most
	// pushes take less.
	checkLooseAfter = "interval '1 minute'"
)

// looseRoom is the condition that loose_blob has room, by the estimate of the last autovacuum.
const looseRoom = "(SELECT reltuples < " + maxLoose + " FROM pg_class WHERE oid = 'loose_blob'::regclass)"

// loosened stores as loose the config and the layers of a manifest that was deleted: of the
// rows gone, with config_id and layer_ids, in the repository of the name $3. While the whole
// repository is deleted, they do not keep it in the list of its project.
const loosened = `
	INSERT INTO loose_blob (repository, digest, size, listed)
	SELECT $3, b.digest, b.size, NOT EXISTS (
		SELECT FROM operation o WHERE o.repository = $3 AND o.kind = 'delete-repository' AND o.ended_at IS NULL)
	FROM gone JOIN blob b ON b.id = ANY (gone.layer_ids || gone.config_id)
	WHERE ` + looseRoom + ` ORDER BY b.digest
	ON CONFLICT (repository, digest) DO UPDATE SET since = now(), listed = excluded.listed, checked = false`

// ReceiveBlobs stores that blobs were pushed, mounted or pulled. They are loose until a manifest
// uses them. A pull only renews a row that exists: it may be a client's look whether it has to
// push the blob.
func (s *Store) ReceiveBlobs(ctx context.Context, events []indexer.BlobEvent) error {
	const pulled = "UPDATE loose_blob SET since = now() WHERE (repository, digest) = ($1, $2) AND held_at IS NULL"
	const pushed = `
		INSERT INTO loose_blob (repository, digest, size) SELECT $1, $2, $3
		WHERE EXISTS (SELECT FROM loose_blob WHERE (repository, digest) = ($1, $2)) OR ` + looseRoom + `
			AND (SELECT count(*) FROM (SELECT FROM loose_blob WHERE repository = $1 LIMIT ` + maxLooseOfEach + `) AS first) < ` + maxLooseOfEach + `
		ON CONFLICT (repository, digest) DO UPDATE SET since = now(), checked = false`
	sorted := slices.Clone(events) // the order in which rows are locked
	slices.SortStableFunc(sorted, func(a, b indexer.BlobEvent) int {
		return bytes.Compare([]byte(a.Repository+"\x00"+a.Digest.String()), []byte(b.Repository+"\x00"+b.Digest.String()))
	})
	batch := &pgx.Batch{}
	for _, e := range sorted {
		if e.Pull {
			batch.Queue(pulled, e.Repository, pg.DigestBytes(e.Digest))
		} else {
			batch.Queue(pushed, e.Repository, pg.DigestBytes(e.Digest), max(e.Size, 0))
		}
	}
	return pg.Wrap("receive events of blobs", s.pool.SendBatch(ctx, batch).Close())
}

// looseAtOnce is how many repositories PruneLoose looks at in one statement: 100.
const looseAtOnce = 100

// PruneLoose removes the rows of blobs that a manifest of their repository uses: all of them, or
// of those repositories for which a row has come since the last time. It returns how many rows
// it has removed.
func (s *Store) PruneLoose(ctx context.Context, all bool) (removed int64, err error) {
	names := `
		SELECT DISTINCT repository FROM loose_blob
		WHERE repository > $1 AND ($2 OR NOT checked AND since < now() - ` + checkLooseAfter + `) ORDER BY repository LIMIT $3`
	const used = `
		WITH used AS MATERIALIZED (
			SELECT DISTINCT r.name, u.blob FROM repository r JOIN manifest m ON m.repository_id = r.id
			CROSS JOIN LATERAL unnest(m.layer_ids || m.config_id) AS u (blob) WHERE r.name = ANY($1)
		)
		DELETE FROM loose_blob l USING used u JOIN blob b ON b.id = u.blob
		WHERE l.repository = u.name AND l.digest = b.digest AND l.held_at IS NULL`
	const checked = `
		UPDATE loose_blob SET checked = true
		WHERE repository = ANY($1) AND NOT checked AND since < now() - ` + checkLooseAfter
	for after := ""; ; {
		some, err := pg.Column[string](ctx, s.pool, names, after, all, looseAtOnce)
		if err != nil || len(some) == 0 {
			return removed, pg.Wrap("prune loose blobs", err)
		}
		after = some[len(some)-1]
		batch := &pgx.Batch{}
		batch.Queue(used, some).Exec(func(tag pgconn.CommandTag) error {
			removed += tag.RowsAffected()
			return nil
		})
		batch.Queue(checked, some)
		if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
			return removed, pg.Wrap("prune loose blobs", err)
		}
	}
}

type looseRow struct {
	Repository string
	Digest     []byte
	Size       int64
	Since      time.Time
}

func looseOf(rows []looseRow) (all []indexer.LooseBlob) {
	for _, r := range rows {
		all = append(all, indexer.LooseBlob{
			Repository: r.Repository, Digest: pg.DigestFrom(r.Digest), Size: r.Size, Since: r.Since,
		})
	}
	return all
}

// OldLoose returns at most limit loose blobs that nothing has touched for an age, ordered by
// repository and digest, after the given one.
func (s *Store) OldLoose(
	ctx context.Context, age time.Duration, after indexer.LooseBlob, limit int,
) ([]indexer.LooseBlob, error) {
	const q = `
		SELECT repository, digest, size, since FROM loose_blob
		WHERE since < now() - $1 * interval '1 second' AND held_at IS NULL AND (repository, digest) > ($2, $3)
		ORDER BY repository, digest LIMIT $4`
	rows, err := pg.Collect[looseRow](ctx, s.pool, q, age.Seconds(), after.Repository, bytesOrEmpty(after.Digest), limit)
	return looseOf(rows), pg.Wrap("old loose blobs", err)
}

func bytesOrEmpty(d digest.Digest) []byte {
	return append([]byte{}, pg.DigestBytes(d)...)
}

// HoldLoose runs remove, which takes the blob out of its repository, unless something has
// touched the blob since it was read: then it returns ErrStale. Until remove has returned, an
// event that touches the blob waits.
//
// Before that it marks the row as held, in a transaction of its own: if the process dies, or the
// database does not answer, ReleaseLoose still finds what may have been removed.
func (s *Store) HoldLoose(ctx context.Context, b indexer.LooseBlob, remove func() error) error {
	const mark = `
		UPDATE loose_blob SET held_at = now() WHERE (repository, digest) = ($1, $2) AND since = $3 AND held_at IS NULL`
	const lock = `
		SELECT FROM loose_blob WHERE (repository, digest) = ($1, $2) AND since = $3 AND held_at IS NOT NULL FOR UPDATE`
	what := fmt.Sprintf("loose blob %s@%s", b.Repository, b.Digest)
	marked, err := s.pool.Exec(ctx, mark, b.Repository, pg.DigestBytes(b.Digest), b.Since)
	if err == nil && marked.RowsAffected() == 0 {
		return ErrStale
	}
	if err != nil {
		return pg.Wrap(what, err)
	}
	err = s.begin(ctx, func(tx pgx.Tx, _ cluster) error {
		locked, err := tx.Exec(ctx, lock, b.Repository, pg.DigestBytes(b.Digest), b.Since)
		if err == nil && locked.RowsAffected() == 0 {
			return ErrStale
		}
		if err == nil {
			err = remove()
		}
		return err
	})
	if errors.Is(err, ErrStale) {
		return errors.Join(err, s.UnholdLoose(ctx, b)) // touched in between, and nothing was removed
	}
	return pg.Wrap(what, err)
}

// UnholdLoose says that a repository has a loose blob again that was held.
func (s *Store) UnholdLoose(ctx context.Context, b indexer.LooseBlob) error {
	const q = "UPDATE loose_blob SET held_at = NULL WHERE (repository, digest) = ($1, $2)"
	_, err := s.pool.Exec(ctx, q, b.Repository, pg.DigestBytes(b.Digest))
	return pg.Wrap("loose blob", err)
}

// HeldLoose returns the blobs that HoldLoose has taken out, or may have, at least an age ago.
func (s *Store) HeldLoose(ctx context.Context, age time.Duration) ([]indexer.LooseBlob, error) {
	const q = `
		SELECT repository, digest, size, since, held_at FROM loose_blob WHERE held_at <= now() - $1 * interval '1 second'
		ORDER BY repository, digest`
	type row struct {
		Repository string
		Digest     []byte
		Size       int64
		Since      time.Time
		HeldAt     time.Time
	}
	rows, err := pg.Collect[row](ctx, s.pool, q, age.Seconds())
	var all []indexer.LooseBlob
	for _, r := range rows {
		all = append(all, indexer.LooseBlob{
			Repository: r.Repository, Digest: pg.DigestFrom(r.Digest), Size: r.Size, Since: r.Since, HeldAt: r.HeldAt,
		})
	}
	return all, pg.Wrap("held blobs", err)
}

// DropLoose removes the row of a blob that was held.
func (s *Store) DropLoose(ctx context.Context, b indexer.LooseBlob) error {
	const q = "DELETE FROM loose_blob WHERE (repository, digest) = ($1, $2) AND held_at IS NOT NULL"
	_, err := s.pool.Exec(ctx, q, b.Repository, pg.DigestBytes(b.Digest))
	return pg.Wrap("forget a loose blob", err)
}

// ForgetLoose removes the row of a loose blob that is used, unless something has touched it.
func (s *Store) ForgetLoose(ctx context.Context, b indexer.LooseBlob) error {
	const q = "DELETE FROM loose_blob WHERE (repository, digest, since) = ($1, $2, $3)"
	_, err := s.pool.Exec(ctx, q, b.Repository, pg.DigestBytes(b.Digest), b.Since)
	return pg.Wrap("forget a loose blob", err)
}

// A BlobUse is what uses a blob in a repository.
type BlobUse int

const (
	Unused  BlobUse = iota
	InTrash         // a manifest of the trash, which may be restored
	InUse           // a manifest
)

// Used returns what uses some blobs in a repository, in the book or in the bytes of manifests.
// unsure says why the book may not know all manifests of the repository, "" if it does as far as
// it can tell.
func (s *Store) Used(
	ctx context.Context, repository string, blobs []digest.Digest,
) (used map[digest.Digest]BlobUse, unsure string, err error) {
	raw := bytesOf(blobs)
	const q = `
		WITH used AS MATERIALIZED (
			SELECT DISTINCT u.blob FROM repository r JOIN manifest m ON m.repository_id = r.id
			CROSS JOIN LATERAL unnest(m.layer_ids || m.config_id) AS u (blob) WHERE r.name = $1
		)
		SELECT b.digest FROM blob b JOIN used u ON u.blob = b.id WHERE b.digest = ANY ($2)`
	found, err := pg.Column[[]byte](ctx, s.pool, q, repository, raw)
	used = map[digest.Digest]BlobUse{}
	for _, b := range found {
		used[pg.DigestFrom(b)] = InUse
	}
	if err == nil {
		err = s.namedIn(ctx, repository, blobs, used)
	}
	if err != nil {
		return used, "", pg.Wrap("use of loose blobs", err)
	}
	unsure, err = s.unsure(ctx, repository)
	return used, unsure, err
}

// namedIn adds to used which of some blobs the bytes of a manifest of a repository name: of one
// that it has, because the book leaves out some layers of a manifest that has very many, or of
// one in the trash, which may be restored.
func (s *Store) namedIn(
	ctx context.Context, repository string, blobs []digest.Digest, used map[digest.Digest]BlobUse,
) error {
	const q = `
		SELECT o.body, false AS trash FROM repository r JOIN manifest_body o ON o.repository_id = r.id WHERE r.name = $1
		UNION ALL SELECT body, true FROM trash WHERE repository = $1 AND restored_at IS NULL`
	rows, err := s.pool.Query(ctx, q, repository)
	if err != nil {
		return err
	}
	wanted := map[string]digest.Digest{}
	for _, d := range blobs {
		wanted[d.Encoded()] = d
	}
	var body []byte
	var trash bool
	_, err = pgx.ForEachRow(rows, []any{&body, &trash}, func() error {
		use := InUse
		if trash {
			use = InTrash
		}
		for _, hex := range hexadecimals.FindAll(body, -1) {
			if d, found := wanted[string(hex)]; found {
				used[d] = max(used[d], use)
			}
		}
		return nil
	})
	return err
}

// hexadecimals matches what may be the hexadecimal digits of a digest.
var hexadecimals = regexp.MustCompile(`[0-9a-f]{64,128}`)

// unsure says why the book may not know all manifests of a repository.
func (s *Store) unsure(ctx context.Context, repository string) (why string, err error) {
	// A second look at a tag, which each push causes, is no reason.
	const q = `
		SELECT CASE
			WHEN EXISTS (SELECT FROM task WHERE repository = $1 AND (priority < $2 OR error IS NOT NULL)) THEN 'references of it wait to be read'
			WHEN EXISTS (SELECT FROM repository r JOIN tag t ON t.repository_id = r.id WHERE r.name = $1 AND t.problem IS NOT NULL)
				THEN 'a tag of it could not be read'
			WHEN EXISTS (SELECT FROM repository r JOIN manifest m ON m.repository_id = r.id WHERE r.name = $1
				AND NOT EXISTS (SELECT FROM manifest_body o WHERE o.repository_id = r.id AND o.manifest_id = m.id))
				THEN 'a manifest of it could not be read'
			ELSE '' END`
	err = s.pool.QueryRow(ctx, q, repository, int16(indexer.PriorityConfirm)).Scan(&why)
	return why, pg.Wrap("state of a repository", err)
}

// UnlistLoose takes a repository that was deleted out of its project, although it still has
// loose blobs.
func (s *Store) UnlistLoose(ctx context.Context, repository string) error {
	_, err := s.pool.Exec(ctx, "UPDATE loose_blob SET listed = false WHERE repository = $1 AND listed", repository)
	return pg.Wrap("unlist a repository", err)
}
