package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// tidyLock is held shared by whoever names blobs, and alone by whoever deletes
// those that nobody names: between a blob's making and the manifest's that names
// it, it looks unused.
const tidyLock = 0x706f7274_74696479 // "porttidy"

func queueShareBlobs(batch *pgx.Batch) {
	batch.Queue("SELECT pg_advisory_xact_lock_shared($1)", int64(tidyLock))
}

// How long what only people look at is kept.
const (
	keepScans = 30 * 24 * time.Hour
	// keepInstances: a registry that runs for longer is taken for a new one, and
	// causes one scan too many.
	keepInstances = 180 * 24 * time.Hour
	// keepEmpty is how long an empty repository stays: a client may have pushed
	// a manifest by digest, seen it deleted, and push the next.
	keepEmpty = time.Hour
)

// Tidied counts what Tidy deleted.
type Tidied struct {
	Blobs, Repositories, Scans, Instances int64
}

// Tidy deletes the rows that nothing refers to any more. It never touches the
// registry, and it leaves manifests alone: one without a tag is still in the
// registry, and goes when a scan finds it gone from there.
func (s *Store) Tidy(ctx context.Context) (Tidied, error) {
	var n Tidied
	steps := []struct {
		count     *int64
		statement string
		args      []any
	}{
		{&n.Repositories, `
			DELETE FROM repository r WHERE updated_at < now() - $1 * interval '1 second'
				AND NOT EXISTS (SELECT FROM manifest m WHERE m.repository_id = r.id)
				AND NOT EXISTS (SELECT FROM tag t WHERE t.repository_id = r.id)`, []any{keepEmpty.Seconds()}},
		{&n.Scans, `DELETE FROM scan WHERE finished_at < now() - $1 * interval '1 second'
			AND id < (SELECT max(id) FROM scan WHERE finished_at IS NOT NULL AND error IS NULL)`, []any{keepScans.Seconds()}},
		{&n.Instances, `DELETE FROM registry_instance WHERE first_seen_at < now() - $1 * interval '1 second'`, []any{keepInstances.Seconds()}},
	}
	for _, step := range steps {
		result, err := s.pool.Exec(ctx, step.statement, step.args...)
		if err != nil {
			return n, pg.Wrap("tidy", err)
		}
		*step.count = result.RowsAffected()
	}
	blobs, err := s.tidyBlobs(ctx)
	n.Blobs = blobs
	return n, err
}

// blobsAtOnce bounds one deletion, during which no manifest can be stored.
const blobsAtOnce = 1000

// tidyBlobs deletes the blobs that no manifest names, in passes over their
// numbers.
func (s *Store) tidyBlobs(ctx context.Context) (deleted int64, err error) {
	var after int64
	for {
		var seen []int64
		rows, err := s.pool.Query(ctx, "SELECT id FROM blob WHERE id > $1 ORDER BY id LIMIT $2", after, blobsAtOnce)
		if err == nil {
			seen, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		if err != nil || len(seen) == 0 {
			return deleted, pg.Wrap("tidy blobs", err)
		}
		after = seen[len(seen)-1]
		n, err := s.deleteUnused(ctx, seen)
		if err != nil {
			return deleted, err
		}
		deleted += n
	}
}

// deleteUnused looks twice: at leisure, and again alone at the few it found.
func (s *Store) deleteUnused(ctx context.Context, ids []int64) (int64, error) {
	const unused = `
		SELECT b.id FROM unnest($1::bigint[]) AS b (id)
		WHERE NOT EXISTS (SELECT FROM manifest m WHERE m.config_id = b.id)
			AND NOT EXISTS (SELECT FROM manifest m WHERE m.layer_ids @> ARRAY[b.id])`
	rows, err := s.pool.Query(ctx, unused, ids)
	if err != nil {
		return 0, pg.Wrap("tidy blobs", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil || len(found) == 0 {
		return 0, pg.Wrap("tidy blobs", err)
	}
	var n int64
	err = s.begin(ctx, func(tx pgx.Tx, _ cluster) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(tidyLock)); err != nil {
			return err
		}
		result, err := tx.Exec(ctx, "DELETE FROM blob WHERE id IN ("+unused+")", found)
		n = result.RowsAffected()
		return err
	})
	return n, pg.Wrap("tidy blobs", err)
}
