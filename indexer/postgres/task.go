package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sort"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// Ask enqueues references to be read. If a reference is enqueued already, only its
// priority, hint and due time may change. If it is being read, it is read once more,
// since that read may have seen the older state.
func (s *Store) Ask(ctx context.Context, asks []indexer.Ask) error {
	batch := &pgx.Batch{}
	queueAsk(batch, asks)
	return pg.Wrap("ask", s.pool.SendBatch(ctx, batch).Close())
}

// queueAsk is Ask as a statement in a batch. Rows are locked in order of their key.
func queueAsk(batch *pgx.Batch, asks []indexer.Ask) {
	if len(asks) == 0 {
		return
	}
	var rows []askRow
	for _, a := range distinct(asks) {
		if d := a.Reference.Digest(); d != "" {
			a.Hint = d // so that Claim can check whether it is known
		}
		rows = append(rows, askRow{
			Repository: a.Repository, Reference: string(a.Reference), Priority: int16(a.Priority),
			Hint: pg.DigestBytes(a.Hint), After: a.After.Seconds(),
		})
	}
	batch.Queue(enqueue, pg.Arrays(rows)...)
}

type askRow struct {
	Repository string
	Reference  string
	Priority   int16
	Hint       []byte
	After      float64 // seconds
}

var enqueue = `
	INSERT INTO task AS t (repository, reference, priority, hint, hinted_at, run_after)
	SELECT repository, reference, priority, hint, now(), now() + after * interval '1 second'
	FROM ` + pg.Unnest[askRow]("asked", 1) + `
	ON CONFLICT (repository, reference) DO UPDATE SET
		wanted = t.wanted + 1,
		attempts = 0,
		error = NULL,
		given_up_at = NULL,
		priority = LEAST(t.priority, excluded.priority),
		hint = CASE WHEN excluded.priority = 0 THEN excluded.hint ELSE COALESCE(excluded.hint, t.hint) END,
		hinted_at = CASE WHEN excluded.priority = 0 THEN excluded.hinted_at ELSE t.hinted_at END,
		run_after = LEAST(t.run_after, excluded.run_after)`

// distinct sorts asks by reference and merges those for the same reference, because
// a statement may not touch a row twice. The later of two hints is used.
func distinct(asks []indexer.Ask) []indexer.Ask {
	sorted := append([]indexer.Ask(nil), asks...)
	sort.SliceStable(sorted, func(i, j int) bool {
		a, b := sorted[i], sorted[j]
		return a.Repository < b.Repository || a.Repository == b.Repository && a.Reference < b.Reference
	})
	merged := sorted[:0]
	for _, a := range sorted {
		n := len(merged)
		if n == 0 || merged[n-1].Repository != a.Repository || merged[n-1].Reference != a.Reference {
			merged = append(merged, a)
			continue
		}
		last := &merged[n-1]
		last.Priority, last.After = min(last.Priority, a.Priority), min(last.After, a.After)
		if a.Hint != "" {
			last.Hint = a.Hint
		}
	}
	return merged
}

// Claim leases at most n due tasks whose priority is least or more urgent, most
// urgent and oldest first. No other caller gets them until the lease ends. It
// returns no error if no task is due.
func (s *Store) Claim(ctx context.Context, least indexer.Priority, n int, lease time.Duration) ([]indexer.Task, error) {
	return s.claim(ctx, least, n, lease, false)
}

// ClaimFresh is Claim for tasks that have not failed since they were last enqueued
// or read.
func (s *Store) ClaimFresh(
	ctx context.Context, least indexer.Priority, n int, lease time.Duration,
) ([]indexer.Task, error) {
	return s.claim(ctx, least, n, lease, true)
}

func (s *Store) claim(
	ctx context.Context, least indexer.Priority, n int, lease time.Duration, fresh bool,
) ([]indexer.Task, error) {
	// The commit need not reach the disk before the work begins: if a crash loses
	// the claim, the task is due again. A setting made in the statement lasts to the
	// end of its transaction, which is this statement.
	//
	// A manifest with problems is read again, since they may be gone. The problems
	// of an index come from its bytes and stay, so a thousand tags on one oversized
	// index need not read it a thousand times. A scan still reads it again, since a
	// newer program or other limits may accept it.
	const q = `
		WITH due AS (
			SELECT id FROM task
			WHERE given_up_at IS NULL AND priority <= $1 AND run_after <= now()
				AND (leased_until IS NULL OR leased_until <= now()) AND (error IS NULL OR NOT $4)
			ORDER BY priority, run_after, id LIMIT $2 FOR UPDATE SKIP LOCKED
		), claimed AS (
			UPDATE task t SET leased_until = now() + $3 * interval '1 second', attempts = attempts + 1, claims = claims + 1
			FROM due WHERE t.id = due.id
			RETURNING t.id, t.repository, t.reference, t.priority, t.hint, t.hinted_at, t.wanted, t.claims, t.attempts,
				set_config('synchronous_commit', 'off', true)
		)
		SELECT c.id, c.repository, c.reference, c.priority, c.hint,
			COALESCE(extract(epoch FROM now() - c.hinted_at), 0)::float8 AS hint_age, c.wanted, c.claims, c.attempts, tm.digest AS tag_digest,
			EXISTS (SELECT FROM manifest m WHERE m.repository_id = r.id AND m.digest = COALESCE(c.hint, tm.digest)
				AND (m.problems = '{}' OR m.kind = 'index' AND c.priority <> $5)) AS known
		FROM claimed c
		LEFT JOIN repository r ON r.name = c.repository
		LEFT JOIN tag t ON t.repository_id = r.id AND t.name = c.reference
		LEFT JOIN manifest tm ON tm.repository_id = r.id AND tm.id = t.manifest_id
		ORDER BY c.priority, c.id`
	rows, err := pg.Collect[taskRow](ctx, s.pool, q, int16(least), n, lease.Seconds(), fresh, int16(indexer.PriorityScan))
	return tasksOf(rows), pg.Wrap("claim tasks", err)
}

type taskRow struct {
	ID             int64
	Repository     string
	Reference      indexer.TagOrDigest
	Priority       int16
	Hint           []byte
	HintAge        float64 // seconds
	Wanted, Claims int
	Attempts       int
	TagDigest      []byte
	Known          bool
}

func tasksOf(rows []taskRow) []indexer.Task {
	now := time.Now() // the database computes ages, so its clock may differ from ours
	var tasks []indexer.Task
	for _, r := range rows {
		tasks = append(tasks, indexer.Task{
			ID: r.ID, Repository: r.Repository, Reference: r.Reference, Priority: indexer.Priority(r.Priority),
			Hint: pg.DigestFrom(r.Hint), HintedAt: now.Add(-time.Duration(r.HintAge * float64(time.Second))),
			Wanted: r.Wanted, Claims: r.Claims, Attempts: r.Attempts,
			TagDigest: pg.DigestFrom(r.TagDigest), Known: r.Known,
		})
	}
	return tasks
}

// Renew extends the lease of those tasks that the caller still holds.
func (s *Store) Renew(ctx context.Context, tasks []indexer.Task, lease time.Duration) error {
	_, err := s.pool.Exec(ctx, renewLeases, append(pg.Arrays(claimsOf(tasks)), lease.Seconds())...)
	return pg.Wrap("renew lease", err)
}

var renewLeases = `
	UPDATE task t SET leased_until = now() + $4 * interval '1 second'
	FROM ` + pg.Unnest[claimRow]("ours", 1) + `
	WHERE t.id = ours.id AND t.claims = ours.claims AND t.leased_until IS NOT NULL`

// A claimRow is a task and its counters when a worker claimed it.
type claimRow struct {
	ID     int64
	Claims int32
	Wanted int32
}

// claimsOf returns the claims of tasks in order of id, the order in which rows are
// locked.
func claimsOf(tasks []indexer.Task) []claimRow {
	rows := make([]claimRow, len(tasks))
	for i, t := range tasks {
		rows[i] = claimRow{ID: t.ID, Claims: int32(t.Claims), Wanted: int32(t.Wanted)}
	}
	slices.SortFunc(rows, func(a, b claimRow) int { return cmp.Compare(a.ID, b.ID) })
	return rows
}

// done ends tasks that have been read, after the pending statements. A task is
// deleted, or is due again if it was enqueued meanwhile. A task in again is read
// again after that time, without a hint and with the lowest priority. Tasks in
// unfinished stay leased.
//
// It returns ErrStale, and the transaction must not be committed, if a lease ended
// and another worker has claimed the task since: that worker's result is newer.
func done(
	ctx context.Context, pending *pg.Pending, tasks []indexer.Task,
	again map[int64]time.Duration, unfinished map[int64]bool,
) error {
	asked, err := lockTasks(ctx, pending, tasks)
	if err != nil {
		return err
	}
	var over, due []int64
	var later []laterRow
	for _, t := range tasks {
		switch d, look := again[t.ID]; {
		case unfinished[t.ID]:
		case asked[t.ID]:
			due = append(due, t.ID)
		case look:
			later = append(later, laterRow{t.ID, d.Seconds()})
		default:
			over = append(over, t.ID)
		}
	}
	if len(over) > 0 {
		pending.Queue("DELETE FROM task WHERE id = ANY($1)", over)
	}
	if len(due) > 0 {
		const q = "UPDATE task SET leased_until = NULL, attempts = 0, error = NULL, run_after = now() WHERE id = ANY($1)"
		pending.Queue(q, due)
	}
	if len(later) > 0 {
		pending.Queue(readLater, pg.Arrays(later)...)
	}
	return pending.Flush(ctx)
}

type laterRow struct {
	ID    int64
	After float64 // seconds
}

var readLater = `
	UPDATE task t SET leased_until = NULL, attempts = 0, error = NULL, hint = NULL, priority = 2,
		run_after = now() + later.after * interval '1 second'
	FROM ` + pg.Unnest[laterRow]("later", 1) + ` WHERE t.id = later.id`

// lockTasks flushes pending statements, locks the tasks until the transaction ends,
// and returns which of them were enqueued since they were claimed. A single
// statement that checked and deleted would miss an Ask in between.
func lockTasks(ctx context.Context, pending *pg.Pending, tasks []indexer.Task) (asked map[int64]bool, err error) {
	type row struct {
		ID    int64
		Asked bool
	}
	var rows []row
	pg.Queue(&pending.Batch, &rows, lockClaims, pg.Arrays(claimsOf(tasks))...)
	if err := pending.Flush(ctx); err != nil {
		return nil, err
	}
	if len(rows) != len(tasks) {
		return nil, ErrStale
	}
	asked = map[int64]bool{}
	for _, r := range rows {
		asked[r.ID] = r.Asked
	}
	return asked, nil
}

var lockClaims = `
	SELECT t.id, t.wanted <> seen.wanted AS asked
	FROM ` + pg.Unnest[claimRow]("seen", 1) + `
	JOIN task t ON t.id = seen.id AND t.claims = seen.claims ORDER BY t.id FOR UPDATE OF t`

// ErrStale is returned if another worker has claimed the task since the lease ended.
var ErrStale = errors.New("the lease expired, and another worker has claimed the task")

// ErrLocked is returned if a lock of another transaction was waited for too long.
var ErrLocked = errors.New("waited too long for a lock of another transaction")

// Retry releases a task to be tried again after a delay, and stores the reason. If
// it was enqueued meanwhile, it is due at once.
func (s *Store) Retry(ctx context.Context, t indexer.Task, after time.Duration, reason string) error {
	const q = `
		UPDATE task SET leased_until = NULL, error = NULLIF($3, ''),
			run_after = now() + CASE WHEN wanted = $5 THEN $4::float8 ELSE 0 END * interval '1 second'
		WHERE id = $1 AND claims = $2`
	_, err := s.pool.Exec(ctx, q, t.ID, t.Claims, reason, after.Seconds(), t.Wanted)
	return pg.Wrap("retry task", err)
}

// Release is Retry for a task that was not tried: the attempt does not count.
func (s *Store) Release(ctx context.Context, t indexer.Task, after time.Duration, reason string) error {
	const q = `
		UPDATE task SET leased_until = NULL, error = COALESCE(NULLIF($3, ''), error), attempts = GREATEST(attempts - 1, 0),
			run_after = now() + $4 * interval '1 second'
		WHERE id = $1 AND claims = $2`
	_, err := s.pool.Exec(ctx, q, t.ID, t.Claims, reason, after.Seconds())
	return pg.Wrap("release task", err)
}

// GiveBack is Release for tasks that other workers may read at once.
func (s *Store) GiveBack(ctx context.Context, tasks []indexer.Task) error {
	_, err := s.pool.Exec(ctx, giveBack, pg.Arrays(claimsOf(tasks))...)
	return pg.Wrap("give back tasks", err)
}

var giveBack = `
	UPDATE task t SET leased_until = NULL, attempts = GREATEST(attempts - 1, 0)
	FROM ` + pg.Unnest[claimRow]("ours", 1) + ` WHERE t.id = ours.id AND t.claims = ours.claims`

// GiveUp stops trying a task that failed too often. The task stays, to be shown,
// until it is enqueued again. If it was enqueued meanwhile, it is due again instead.
func (s *Store) GiveUp(ctx context.Context, t indexer.Task, reason string) error {
	return pg.Wrap("give up task", giveUp(ctx, s.pool, t, reason))
}

func giveUp(ctx context.Context, db pg.Querier, t indexer.Task, reason string) error {
	const q = `
		UPDATE task SET leased_until = NULL, error = $4, given_up_at = CASE WHEN wanted = $3 THEN now() END
		WHERE id = $1 AND claims = $2`
	result, err := db.Exec(ctx, q, t.ID, t.Claims, t.Wanted, reason)
	if err == nil && result.RowsAffected() == 0 {
		return ErrStale
	}
	return err
}

// Backlog returns the number of tasks that are due or being read, how long the
// oldest of them has waited, and the number of tasks that were given up.
func (s *Store) Backlog(ctx context.Context) (due int, oldest time.Duration, givenUp int, err error) {
	return backlog(ctx, s.pool, pg.VisibleOf(indexer.AllVisible))
}

// backlog is Backlog for the tasks of the repositories in names.
func backlog(
	ctx context.Context, db pg.Querier, names pg.Visible,
) (due int, oldest time.Duration, givenUp int, err error) {
	sql, args, err := pg.Statement(`
		SELECT count(*) FILTER (WHERE given_up_at IS NULL AND run_after <= now()),
			COALESCE(extract(epoch FROM now() - min(run_after) FILTER (WHERE given_up_at IS NULL AND run_after <= now())), 0)::float8,
			count(*) FILTER (WHERE given_up_at IS NOT NULL)
		FROM (?) AS task`, tasksIn(names))
	if err != nil {
		return 0, 0, 0, err
	}
	var seconds float64
	err = db.QueryRow(ctx, sql, args...).Scan(&due, &seconds, &givenUp)
	return due, time.Duration(seconds * float64(time.Second)), givenUp, pg.Wrap("backlog", err)
}

// tasksIn selects the tasks of the repositories in names.
func tasksIn(names pg.Visible) sq.Sqlizer {
	return names.EachSpan(sq.Expr("SELECT * FROM task WHERE ?", names.InSpan("repository")))
}
