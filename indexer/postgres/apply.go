package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
)

// Apply stores the findings of a batch of tasks in one transaction: manifests, tags,
// history, search rows, the catalogue version and new tasks. It ends the tasks. If
// the book already holds everything that was found, it only ends the tasks.
//
// It returns ErrTooSlow if the deadline of ctx passed after the transaction had
// begun: then the findings, or a lock that they wait for, take too long; the
// database is available.
func (s *Store) Apply(ctx context.Context, findings []indexer.Finding) error {
	return s.ApplyUnlessLocked(ctx, findings, 0)
}

// ApplyUnlessLocked is Apply, but returns ErrLocked if it would wait longer than
// wait for a lock. If wait is 0, it waits until ctx ends.
func (s *Store) ApplyUnlessLocked(ctx context.Context, findings []indexer.Finding, wait time.Duration) error {
	if len(findings) == 0 {
		return nil
	}
	const what = "apply findings"
	begun := false
	err := s.learn(ctx, findings, func(tx pgx.Tx, c cluster, manifests []manifestRow) error {
		begun = true
		a := &application{
			tx: tx, cluster: c, wait: wait,
			changed: map[int32]bool{}, again: map[int64]time.Duration{}, unfinished: map[int64]bool{},
		}
		return a.run(ctx, findings, manifests)
	})
	switch {
	case err != nil && begun && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", what, indexer.ErrTooSlow)
	case pg.IsLockTimeout(err):
		return fmt.Errorf("%s: %w", what, ErrLocked)
	}
	return pg.Wrap(what, err)
}

// An application is one run of Apply.
type application struct {
	tx           pgx.Tx
	cluster      cluster
	repositories map[string]int32
	changed      map[int32]bool // repositories where readers see a difference
	written      []int32        // repositories whose search rows were written or deleted
	moved        bool           // whether moves were added to the history
	touched      search.Touched // manifests whose search rows may change
	linked       search.Linked  // whether a repository is linked, or becomes so
	asks         []indexer.Ask
	left         []indexer.Ask           // manifests that their tag does not show: they may be gone
	again        map[int64]time.Duration // tasks to be read again after this time
	unfinished   map[int64]bool          // tasks that do not end
	wait         time.Duration           // for a lock; 0: no limit
	outgoing     outgoing                // what webhooks are to be told
}

func (a *application) run(ctx context.Context, findings []indexer.Finding, manifests []manifestRow) error {
	if err := a.lockRepositories(ctx, findings); err != nil {
		return err
	}
	if err := a.storeManifests(ctx, manifests); err != nil {
		return err
	}
	if err := a.moveTags(ctx, findings); err != nil {
		return err
	}
	if err := a.removeManifests(ctx, findings); err != nil {
		return err
	}
	if err := a.outgoing.store(ctx, a.tx); err != nil {
		return err
	}
	if err := a.refresh(ctx); err != nil {
		return err
	}
	return a.endTasks(ctx, findings)
}

// send runs a batch in one round trip. A push takes about 20 statements of a few
// rows each; a round trip for each would be half of its time.
func (a *application) send(ctx context.Context, batch *pgx.Batch) error {
	return a.tx.SendBatch(ctx, batch).Close()
}

// lockRepositories finds the repositories of the findings, creates those that
// something was found in, and locks all of them in order of name, because values
// computed over a whole repository must include every earlier change. Before that it
// takes the shared lock on blobs.
func (a *application) lockRepositories(ctx context.Context, findings []indexer.Finding) error {
	batch := &pgx.Batch{}
	if a.wait > 0 {
		batch.Queue("SELECT set_config('lock_timeout', $1, true)", strconv.FormatInt(a.wait.Milliseconds(), 10))
	}
	queueShareBlobs(batch)
	all := repositoriesOf(findings, func(indexer.Finding) bool { return true })
	filled := repositoriesOf(findings, func(f indexer.Finding) bool {
		return len(f.Manifests) > 0 || f.Outcome != indexer.Gone
	})
	const create = `
		INSERT INTO repository (name) SELECT name FROM unnest($1::text[]) AS wanted (name)
		WHERE NOT EXISTS (SELECT FROM repository r WHERE r.name = wanted.name)
		ORDER BY name ON CONFLICT DO NOTHING`
	batch.Queue(create, filled)
	const lock = `SELECT id, name FROM repository WHERE name = ANY($1) ORDER BY name FOR NO KEY UPDATE`
	type row struct {
		ID   int32
		Name string
	}
	var rows []row
	pg.Queue(batch, &rows, lock, all)
	var known []struct{ Linked bool }
	pg.Queue(batch, &known, search.LinkedQuery+" AS linked", all)
	a.outgoing.queueHearers(batch, all)
	err := a.send(ctx, batch)
	a.linked = search.Linked(len(known) > 0 && known[0].Linked || slices.ContainsFunc(findings, links))
	a.repositories = map[string]int32{}
	for _, r := range rows {
		a.repositories[r.Name] = r.ID
	}
	return err
}

// repositoriesOf returns the repository names of the findings that which selects,
// sorted and without duplicates.
func repositoriesOf(findings []indexer.Finding, which func(indexer.Finding) bool) []string {
	seen := map[string]bool{}
	var names []string
	for _, f := range findings {
		if name := f.Task.Repository; which(f) && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// endTasks enqueues new tasks, ends the finished ones and, as its last statement,
// moves the catalogue version.
func (a *application) endTasks(ctx context.Context, findings []indexer.Finding) error {
	var tasks []indexer.Task
	for _, f := range findings {
		if f.Outcome == indexer.Broken { // the task stays and is shown as a failure
			if err := giveUp(ctx, a.tx, f.Task, f.Problem); err != nil {
				return err
			}
			continue
		}
		tasks = append(tasks, f.Task)
		a.asks = append(a.asks, f.Asks...)
		if f.Unfinished {
			a.unfinished[f.Task.ID] = true
		}
		if f.Again > 0 {
			a.again[f.Task.ID] = f.Again
		}
	}
	asks, err := a.unknown(ctx, a.asks)
	if err != nil {
		return err
	}
	pending := &pg.Pending{Tx: a.tx}
	if len(a.changed) == 0 && !a.moved {
		// Only tasks end and begin. If a crash loses that, the tasks are read again, so
		// the commit need not wait for the disk: forged events, second looks and scans
		// mostly find nothing new.
		pending.Queue("SELECT set_config('synchronous_commit', 'off', true)")
	}
	queueAsk(&pending.Batch, append(asks, a.left...))
	if err := done(ctx, pending, tasks, a.again, a.unfinished); err != nil {
		return err
	}
	if len(a.changed) == 0 && !a.moved {
		return nil
	}
	return bump(ctx, a.tx, a.cluster, a.written)
}

type askedManifest struct {
	Name   string // of the repository
	Digest []byte
}

var completeManifests = `
	SELECT DISTINCT r.name, m.digest FROM ` + pg.Unnest[askedManifest]("wanted", 1) + `
	JOIN repository r ON r.name = wanted.name
	JOIN manifest m ON m.repository_id = r.id AND m.digest = wanted.digest AND m.problems = '{}'`

// unknown returns asks without the manifests that the book holds without problems. A
// client pushes an image before the index that lists it, so most children are known
// by then.
func (a *application) unknown(ctx context.Context, asks []indexer.Ask) ([]indexer.Ask, error) {
	var wanted []askedManifest
	for _, x := range asks {
		if d := x.Reference.Digest(); d != "" {
			wanted = append(wanted, askedManifest{x.Repository, pg.DigestBytes(d)})
		}
	}
	if len(wanted) == 0 {
		return asks, nil
	}
	known, err := pg.Collect[askedManifest](ctx, a.tx, completeManifests, pg.Arrays(wanted)...)
	skip := map[indexer.Reference]bool{}
	for _, k := range known {
		skip[indexer.Reference{Repository: k.Name, Digest: pg.DigestFrom(k.Digest)}] = true
	}
	var kept []indexer.Ask
	for _, x := range asks {
		if !skip[x.Reference.In(x.Repository)] {
			kept = append(kept, x)
		}
	}
	return kept, err
}

// changedIDs returns the changed repositories in ascending order.
func (a *application) changedIDs() []int32 {
	var ids []int32
	for id := range a.changed {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return ids
}

// versionShards is the number of rows that together hold the catalogue version: 16.
// With 16 writers, 16 rows allowed 2.7 times as many commits as one row (measured).
const versionShards = 16

// bump moves the catalogue version, and the epoch if another cluster was written to
// last. searchRows are the repositories whose search rows the transaction has written
// or deleted: copies of the search rows read those again. It must be the last statement
// of a transaction: until the commit, transactions that use the same shard wait.
func bump(ctx context.Context, tx pgx.Tx, c cluster, searchRows []int32) error {
	shard := rand.IntN(versionShards)
	moved, err := tx.Exec(ctx, moveVersion, string(c), shard, searchRows)
	if err != nil || moved.RowsAffected() > 0 {
		return err
	}
	if err := restore(ctx, tx, c); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, moveVersion, string(c), shard, searchRows)
	return err
}

// moveVersion moves shard $2 of the catalogue version, and inserts the row of
// search_change that belongs to its new number. It affects one row, or none if there
// is no such shard. There is a row already if an older program restored the shard.
const moveVersion = `
	WITH ` + moveEpoch + `, version AS (
		UPDATE catalogue_version SET v = v + 1 WHERE shard = $2 RETURNING shard, v
	)
	INSERT INTO search_change (shard, v, repositories) SELECT shard, v, COALESCE($3::int[], '{}') FROM version
	ON CONFLICT (shard, v) DO UPDATE SET repositories = excluded.repositories`

// idOf returns the id of a repository that lockRepositories has locked.
func (a *application) idOf(name string) (int32, error) {
	id, ok := a.repositories[name]
	if !ok {
		return 0, fmt.Errorf("repository %q is not locked", name)
	}
	return id, nil
}

// links reports whether a finding makes its repository linked.
func links(f indexer.Finding) bool {
	attached := indexer.SubjectOfTag(f.Task.Reference.Tag()) != ""
	return attached || slices.ContainsFunc(f.Manifests, func(m indexer.Manifest) bool {
		return m.Subject != "" || len(m.Entries) > 0
	})
}
