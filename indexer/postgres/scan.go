package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// RequestScan requests a scan. If a scan is waiting already, that one is enough.
func (s *Store) RequestScan(ctx context.Context, reason string) error {
	return pg.Wrap("request scan", requestScan(ctx, s.pool, reason))
}

// byInstance is the reason of a scan requested because of a new registry instance.
const byInstance = "instance"

// instancePause is the minimum time between the starts of two scans for new
// instances if anybody can make up an instance: a minute. What a real instance lost
// is found at most that much later. A registry hardly notices one scan a minute: 2 s
// of one of its cores for 5,000 tags.
const instancePause = time.Minute

// requestScan keeps a scan that is waiting. But if that scan may have to wait for
// instancePause and the new reason is another, it takes the new reason and does not
// have to wait.
func requestScan(ctx context.Context, db pg.Querier, reason string) error {
	const q = `
		INSERT INTO scan (reason) VALUES ($1)
		ON CONFLICT ((true)) WHERE started_at IS NULL DO UPDATE SET reason = excluded.reason
			WHERE scan.reason = $2 AND excluded.reason <> $2`
	_, err := db.Exec(ctx, q, reason, byInstance)
	return err
}

// NextScan returns the scan to run now: a scan that was started and not finished,
// with the repository that it had reached and its counts there; otherwise a waiting
// scan, which it starts. It returns ErrNotFound if there is none. Only the leader
// may call it.
func (s *Store) NextScan(ctx context.Context) (scan indexer.Scan, cursor string, err error) {
	const q = `
		UPDATE scan SET started_at = COALESCE(started_at, now())
		WHERE id = (SELECT id FROM scan WHERE finished_at IS NULL
			AND NOT ($1 AND started_at IS NULL AND reason = $2 AND EXISTS (
				SELECT FROM scan before WHERE before.reason = $2 AND before.started_at > now() - $3 * interval '1 second'))
			ORDER BY started_at NULLS LAST, id LIMIT 1)
		RETURNING id, reason, asked_at, started_at, finished_at, cursor_counts[1] AS listed, cursor_counts[1] AS repositories,
			cursor_counts[2] AS tags, cursor_counts[3] AS changed, cursor_counts[4] AS errors, error, cursor`
	type row struct {
		scanRow
		Cursor string
	}
	rows, err := pg.Collect[row](ctx, s.pool, q, s.config.Strangers, byInstance, instancePause.Seconds())
	if err != nil {
		return scan, "", pg.Wrap("next scan", err)
	}
	if len(rows) == 0 {
		return scan, "", pg.Wrap("next scan", indexer.ErrNotFound)
	}
	return rows[0].scan(), rows[0].Cursor, nil
}

// Progress records the progress of a scan and clears its error. atCursor has the
// counts up to the cursor; scan may also count repositories that are read ahead of
// it.
func (s *Store) Progress(ctx context.Context, scan indexer.Scan, cursor string, atCursor indexer.Scan) error {
	const q = `
		UPDATE scan SET repositories = $2, tags = $3, changed = $4, errors = $5, cursor = $6, listed = $7, error = NULL,
			cursor_counts = ARRAY[$8, $9, $10, $11]::int[]
		WHERE id = $1`
	_, err := s.pool.Exec(ctx, q, scan.ID, scan.Repositories, scan.Tags, scan.Changed, scan.Errors, cursor, scan.Listed,
		atCursor.Repositories, atCursor.Tags, atCursor.Changed, atCursor.Errors)
	return pg.Wrap("scan progress", err)
}

// InterruptScan records why a scan cannot continue for now. Progress clears it.
func (s *Store) InterruptScan(ctx context.Context, scan indexer.Scan, reason string) error {
	_, err := s.pool.Exec(ctx, "UPDATE scan SET error = $2 WHERE id = $1 AND finished_at IS NULL", scan.ID, reason)
	return pg.Wrap("interrupt scan", err)
}

// FinishScan records the end of a scan. reason says why it ended early; it is "" if
// the scan is complete.
func (s *Store) FinishScan(ctx context.Context, scan indexer.Scan, reason string) error {
	const q = `
		UPDATE scan SET repositories = $2, tags = $3, changed = $4, errors = $5, finished_at = now(), error = NULLIF($6, ''), listed = $7
		WHERE id = $1`
	_, err := s.pool.Exec(ctx, q, scan.ID, scan.Repositories, scan.Tags, scan.Changed, scan.Errors, reason, scan.Listed)
	return pg.Wrap("finish scan", err)
}

// ScanByID returns a scan, or ErrNotFound if there is none with that id.
func (s *Store) ScanByID(ctx context.Context, id int64) (indexer.Scan, error) {
	scan, err := oneScan(ctx, s.pool, "WHERE id = $1", id)
	return scan, pg.Wrap("scan", err)
}

// WaitingScan returns the scan that was requested last and has not finished. It
// returns ErrNotFound if there is none.
func (s *Store) WaitingScan(ctx context.Context) (indexer.Scan, error) {
	scan, err := oneScan(ctx, s.pool, "WHERE finished_at IS NULL ORDER BY id DESC LIMIT 1")
	return scan, pg.Wrap("waiting scan", err)
}

// SinceScan returns the time since the start of the last complete scan. It returns
// ErrNotFound if there is none.
func (s *Store) SinceScan(ctx context.Context) (time.Duration, error) {
	const q = `SELECT extract(epoch FROM now() - max(started_at))::float8 FROM scan WHERE finished_at IS NOT NULL AND error IS NULL`
	var seconds *float64
	if err := s.pool.QueryRow(ctx, q).Scan(&seconds); err != nil {
		return 0, pg.Wrap("last scan", err)
	}
	if seconds == nil {
		return 0, pg.Wrap("last scan", indexer.ErrNotFound)
	}
	return time.Duration(*seconds * float64(time.Second)), nil
}

type scanRow struct {
	ID                                          int64
	Reason                                      string
	AskedAt                                     time.Time
	StartedAt, FinishedAt                       *time.Time
	Listed, Repositories, Tags, Changed, Errors int
	Error                                       *string
}

func (r scanRow) scan() indexer.Scan {
	s := indexer.Scan{
		ID: r.ID, Reason: r.Reason, AskedAt: r.AskedAt,
		Listed: r.Listed, Repositories: r.Repositories, Tags: r.Tags, Changed: r.Changed, Errors: r.Errors,
	}
	if r.StartedAt != nil {
		s.StartedAt = *r.StartedAt
	}
	if r.FinishedAt != nil {
		s.FinishedAt = *r.FinishedAt
	}
	if r.Error != nil {
		s.Problem = indexer.StoredReason(*r.Error)
	}
	return s
}

// oneScan returns the scan that a constant clause selects. It returns ErrNotFound if
// there is none.
func oneScan(ctx context.Context, db pg.Querier, clause string, args ...any) (indexer.Scan, error) {
	rows, err := pg.Collect[scanRow](ctx, db, `
		SELECT id, reason, asked_at, started_at, finished_at, listed, repositories, tags, changed, errors, error FROM scan `+clause, args...)
	if err != nil {
		return indexer.Scan{}, err
	}
	if len(rows) == 0 {
		return indexer.Scan{}, indexer.ErrNotFound
	}
	return rows[0].scan(), nil
}

// A Shelf is what the book holds of one repository, for a scan to compare.
type Shelf struct {
	Tags      map[string]digest.Digest // "" for a tag that could not be read
	Manifests []digest.Digest          // without a tag: children of indexes, referrers, others
	Missing   []digest.Digest          // listed by indexes and not in the book
	GivenUp   []digest.Digest          // could not be read, or only in part
}

// Shelves returns the shelves of repositories, in the same order. The shelf of a
// repository that is not in the book is empty. The shelves are not read in one
// snapshot: before the caller compares one with the registry, it may have changed.
func (s *Store) Shelves(ctx context.Context, repositories []string) ([]Shelf, error) {
	shelves := make([]Shelf, len(repositories))
	for i := range shelves {
		shelves[i].Tags = map[string]digest.Digest{}
	}
	const wanted = `unnest($1::text[]) WITH ORDINALITY AS wanted (name, number) JOIN repository r ON r.name = wanted.name`
	batch := &pgx.Batch{}
	queueShelf(batch, repositories, func(i int, tag string, d digest.Digest) { shelves[i].Tags[tag] = d }, `
		SELECT wanted.number, t.name, m.digest FROM `+wanted+`
		JOIN tag t ON t.repository_id = r.id
		LEFT JOIN manifest m ON m.repository_id = r.id AND m.id = t.manifest_id AND t.problem IS NULL`)
	queueShelf(batch, repositories, func(i int, _ string, d digest.Digest) { shelves[i].Manifests = append(shelves[i].Manifests, d) }, `
		SELECT wanted.number, '', m.digest FROM `+wanted+`
		JOIN manifest m ON m.repository_id = r.id
		WHERE NOT EXISTS (SELECT FROM tag t WHERE t.repository_id = r.id AND t.manifest_id = m.id)`)
	queueShelf(batch, repositories, func(i int, _ string, d digest.Digest) { shelves[i].Missing = append(shelves[i].Missing, d) }, `
		SELECT DISTINCT wanted.number, '', e.digest FROM `+wanted+`
		JOIN index_entry e ON e.repository_id = r.id
		WHERE NOT EXISTS (SELECT FROM manifest m WHERE m.repository_id = r.id AND m.digest = e.digest)`)
	queueShelf(batch, repositories, func(i int, _ string, d digest.Digest) { shelves[i].GivenUp = append(shelves[i].GivenUp, d) }, `
		SELECT wanted.number, '', k.hint FROM unnest($1::text[]) WITH ORDINALITY AS wanted (name, number)
		JOIN task k ON k.repository = wanted.name
		WHERE k.given_up_at IS NOT NULL AND k.reference LIKE '%:%' AND k.hint IS NOT NULL`)
	return shelves, pg.Wrap("shelves", s.pool.SendBatch(ctx, batch).Close())
}

// queueShelf queues a query about repositories. Each of its rows has the number of
// the repository, from 1, a name and a digest.
func queueShelf(batch *pgx.Batch, repositories []string, put func(i int, name string, d digest.Digest), q string) {
	batch.Queue(q, repositories).Query(func(rows pgx.Rows) error {
		var number int
		var name string
		var raw []byte
		_, err := pgx.ForEachRow(rows, []any{&number, &name, &raw}, func() error {
			put(number-1, name, pg.DigestFrom(raw))
			return nil
		})
		return err
	})
}

// RepositoryNames returns at most limit names of repositories after the given name,
// in bytewise order.
func (s *Store) RepositoryNames(ctx context.Context, after string, limit int) ([]string, error) {
	rows, err := s.pool.Query(ctx, "SELECT name FROM repository WHERE name > $1 ORDER BY name LIMIT $2", after, limit)
	if err != nil {
		return nil, pg.Wrap("repository names", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return names, pg.Wrap("repository names", err)
}
