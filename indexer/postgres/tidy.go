package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// tidyLock is an advisory lock. Transactions that store manifests hold it shared;
// one that deletes unused blobs holds it exclusively, because a new blob looks
// unused until the manifest that names it is stored.
const tidyLock = 0x706f7274_74696479 // "porttidy"

func queueShareBlobs(batch *pgx.Batch) {
	batch.Queue("SELECT pg_advisory_xact_lock_shared($1)", int64(tidyLock))
}

// How long Tidy keeps rows.
const (
	keepScans = 30 * 24 * time.Hour
	// keepInstances: a registry that runs for longer is taken for a new instance,
	// and causes one needless scan.
	keepInstances = 180 * 24 * time.Hour
	// keepEmpty is how long an empty repository stays: a client may push a manifest
	// by digest, see it deleted, and push the next one.
	keepEmpty = time.Hour
	// keepOperations is how long an operation is kept that is over: 90 days, and longer while the
	// trash or a plan has something of it. The audit log has it too.
	keepOperations = 90 * 24 * time.Hour
)

// Tidied counts the rows that Tidy deleted.
type Tidied struct {
	Blobs, Repositories, Scans, Instances, Plans, Operations int64
}

// Tidy deletes rows that nothing refers to. It never changes the registry. It keeps
// manifests without a tag, because the registry still has them; they are removed
// when a scan finds that the registry has deleted them.
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
				AND NOT EXISTS (SELECT FROM tag t WHERE t.repository_id = r.id)
				AND NOT EXISTS (SELECT FROM loose_blob l WHERE l.repository = r.name AND l.listed)`, []any{keepEmpty.Seconds()}},
		{&n.Scans, `DELETE FROM scan WHERE finished_at < now() - $1 * interval '1 second'
			AND id < (SELECT max(id) FROM scan WHERE finished_at IS NOT NULL AND error IS NULL)`, []any{keepScans.Seconds()}},
		{&n.Instances, `DELETE FROM registry_instance WHERE first_seen_at < now() - $1 * interval '1 second'`, []any{keepInstances.Seconds()}},
		{&n.Operations, `
			DELETE FROM operation WHERE id IN (
				SELECT o.id FROM operation o WHERE o.ended_at < now() - $1 * interval '1 second'
					AND NOT EXISTS (SELECT FROM trash t WHERE t.operation_id = o.id)
					AND o.id NOT IN (SELECT unnest(ARRAY[COALESCE(operation_id, 0), COALESCE(undo_id, 0)]) FROM plan)
				ORDER BY o.id LIMIT $2)`, []any{keepOperations.Seconds(), forgottenAtOnce}},
	}
	for _, step := range steps {
		result, err := s.pool.Exec(ctx, step.statement, step.args...)
		if err != nil {
			return n, pg.Wrap("tidy", err)
		}
		*step.count = result.RowsAffected()
	}
	var err error
	if n.Plans, err = s.forgetPlans(ctx); err != nil {
		return n, err
	}
	n.Blobs, err = s.tidyBlobs(ctx)
	return n, err
}

// keepChanges is how many rows of search_change stay for each shard: 4,096, together
// 65,536 in about 7 MB. A reader looks every second, and a shard moves much more
// slowly. A number needs no column of its own, as an age would, and limits both the
// table and what a reader that was away reads to catch up; more would take it as long
// as beginning again, which it does if it lacks a row.
const keepChanges = 4096

// changesAtOnce is the maximum number of rows of one shard in one deletion: 1,000, 60
// ms for all shards (measured). Nobody waits for it.
const changesAtOnce = 1000

// ForgetChanges deletes the rows of search_change that no reader needs any more, and
// returns their number.
func (s *Store) ForgetChanges(ctx context.Context) (deleted int64, err error) {
	const q = `
		DELETE FROM search_change WHERE (shard, v) IN (
			SELECT old.shard, old.v FROM catalogue_version n CROSS JOIN LATERAL (
				SELECT c.shard, c.v FROM search_change c WHERE c.shard = n.shard AND c.v <= n.v - $1::int ORDER BY c.v LIMIT $2
			) AS old
		)`
	for n := int64(changesAtOnce); n >= changesAtOnce && err == nil; deleted += n {
		err = s.beginAs(ctx, beginPlanned, func(tx pgx.Tx, _ cluster) error {
			result, err := tx.Exec(ctx, q, keepChanges, changesAtOnce)
			n = result.RowsAffected()
			return err
		})
	}
	return deleted, pg.Wrap("forget changes of the search", err)
}

// blobsAtOnce is the maximum number of blobs in one deletion: 1,000. No manifest can
// be stored during a deletion.
const blobsAtOnce = 1000

// tidyBlobs deletes the blobs that no manifest names, one range of ids at a time.
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

// deleteUnused checks all ids without the lock, and the few unused ones again with
// the exclusive lock.
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
