package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// keepRuns is how long an ended run is kept: 7 days.
const keepRuns = "interval '7 days'"

type jobRunRow struct {
	ID                 int64
	Name, AskedBy      string
	AskedAt            time.Time
	StartedAt, EndedAt *time.Time
	Error              string
}

const jobRunColumns = "id, name, asked_by, asked_at, started_at, ended_at, error"

func (r jobRunRow) run() indexer.JobRun {
	return indexer.JobRun{
		ID: r.ID, Name: r.Name, AskedBy: r.AskedBy, AskedAt: r.AskedAt, Error: r.Error,
		StartedAt: pg.TimeOrZero(r.StartedAt), EndedAt: pg.TimeOrZero(r.EndedAt),
	}
}

// RequestJob asks the leader to run a job, and records that in the audit log. If a run is waiting
// already, that one is enough. The actor of ctx must have its permit.
func (s *Store) RequestJob(ctx context.Context, name string) (run indexer.JobRun, err error) {
	const q = `
		INSERT INTO job_run AS r (name, asked_by) VALUES ($1, $2)
		ON CONFLICT (name) WHERE started_at IS NULL DO UPDATE SET asked_at = r.asked_at RETURNING ` + jobRunColumns
	what := fmt.Sprintf("run of the job %s", name)
	err = s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error {
		if err := permitted(ctx, tx); err != nil {
			return err
		}
		row, err := one[jobRunRow](ctx, tx, what, q, name, indexer.CleanText(access.ActorOf(ctx).Name))
		if err != nil {
			return err
		}
		run = row.run()
		return record(ctx, tx, access.Record{Event: access.JobRun, Target: name, Detail: fmt.Sprintf("run %d", run.ID)})
	})
	return run, pg.Wrap(what, err)
}

// JobRun returns a run of a job, or ErrNotFound.
func (s *Store) JobRun(ctx context.Context, id int64) (indexer.JobRun, error) {
	what := fmt.Sprintf("run %d of a job", id)
	row, err := one[jobRunRow](ctx, s.pool, what, "SELECT "+jobRunColumns+" FROM job_run WHERE id = $1", id)
	return row.run(), err
}

// RequestedJobs returns the names of the jobs of which a run has not begun, or not ended if open
// is true. Only the leader may call it.
func (s *Store) RequestedJobs(ctx context.Context, open bool) ([]string, error) {
	const q = "SELECT DISTINCT name FROM job_run WHERE ended_at IS NULL AND (started_at IS NULL OR $1)"
	names, err := pg.Column[string](ctx, s.pool, q, open)
	return names, pg.Wrap("requested jobs", err)
}

// BeginRuns begins the runs of a job that have not ended: those that wait, and those of a leader
// that died. It returns their ids. Only the leader may call it.
func (s *Store) BeginRuns(ctx context.Context, name string) ([]int64, error) {
	const q = `
		UPDATE job_run SET started_at = COALESCE(started_at, now()) WHERE name = $1 AND ended_at IS NULL RETURNING id`
	ids, err := pg.Column[int64](ctx, s.pool, q, name)
	return ids, pg.Wrap("begin runs of a job", err)
}

// EndRuns ends runs, with the reason if they failed, and forgets old ones.
func (s *Store) EndRuns(ctx context.Context, ids []int64, reason string) error {
	batch := &pgx.Batch{}
	const end = `
		UPDATE job_run SET ended_at = now(), error = left($2, ` + maxJobError + `) WHERE id = ANY($1) AND ended_at IS NULL`
	batch.Queue(end, ids, indexer.CleanText(reason))
	batch.Queue("DELETE FROM job_run WHERE ended_at < now() - " + keepRuns)
	return pg.Wrap("end runs of a job", s.pool.SendBatch(ctx, batch).Close())
}

// AskIncomplete enqueues at most limit manifests of which not all was read, or of which the book
// does not know the config and the layers, to be read again. It returns how many.
func (s *Store) AskIncomplete(ctx context.Context, limit int) (asked int, err error) {
	const unknown = "'what it consists of was not in the book: it is read again'"
	// A manifest without problems is not stored again: see withoutKnown.
	const q = `
		WITH incomplete AS (
			SELECT m.repository_id, m.id FROM manifest m
			WHERE m.problems <> '{}' AND m.kind <> 'index' OR m.kind = 'image' AND m.config_id IS NULL AND m.layer_ids = '{}' LIMIT $1
		)
		UPDATE manifest m SET problems = CASE WHEN m.problems = '{}' THEN ARRAY[` + unknown + `] ELSE m.problems END
		FROM incomplete i JOIN repository r ON r.id = i.repository_id
		WHERE m.repository_id = i.repository_id AND m.id = i.id RETURNING r.name, m.digest`
	type row struct {
		Name   string
		Digest []byte
	}
	rows, err := pg.Collect[row](ctx, s.pool, q, limit)
	if err != nil {
		return 0, pg.Wrap("incomplete manifests", err)
	}
	var asks []indexer.Ask
	for _, r := range rows {
		reference := indexer.TagOrDigest(pg.DigestFrom(r.Digest))
		asks = append(asks, indexer.Ask{Repository: r.Name, Reference: reference, Priority: indexer.PriorityScan})
	}
	return len(asks), s.Ask(ctx, asks)
}

// ScanBacklog returns how many references of scans wait to be read.
func (s *Store) ScanBacklog(ctx context.Context) (n int, err error) {
	const q = "SELECT count(*) FROM task WHERE given_up_at IS NULL AND priority = $1"
	err = s.pool.QueryRow(ctx, q, int16(indexer.PriorityScan)).Scan(&n)
	return n, pg.Wrap("backlog of scans", err)
}
