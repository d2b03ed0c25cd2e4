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
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
)

// Apply takes in what reading a batch of tasks found, in one transaction:
// manifests, tags, history, search rows, the catalogue version, what to read
// next, and the end of the tasks. If nothing differs from what the book holds,
// only the tasks end.
//
// It returns ErrTooSlow if the deadline of ctx came in the middle of the
// transaction: then it is the findings that take long, or what they wait for, and
// not the database that is away.
func (s *Store) Apply(ctx context.Context, findings []indexer.Finding) error {
	return s.ApplyUnlessLocked(ctx, findings, 0)
}

// ApplyUnlessLocked is Apply, but returns ErrLocked if it would have to wait for a
// lock for longer than a time; 0: as long as ctx lasts.
func (s *Store) ApplyUnlessLocked(ctx context.Context, findings []indexer.Finding, wait time.Duration) error {
	if len(findings) == 0 {
		return nil
	}
	const what = "apply findings"
	begun := false
	err := s.learn(ctx, findings, func(tx pgx.Tx, c cluster, manifests []manifestRow) error {
		begun = true
		a := &application{tx: tx, cluster: c, wait: wait, changed: map[int32]bool{}, again: map[int64]time.Duration{}, unfinished: map[int64]bool{}}
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
	changed      map[int32]bool // repositories of which a reader can see a difference
	moved        bool           // whether the history has become longer
	touched      search.Touched // manifests whose images may be found otherwise
	linked       search.Linked  // whether any of the repositories is, or becomes so
	tier         int            // of new search rows
	asks         []indexer.Ask
	left         []indexer.Ask           // manifests that a tag does not show: they may be gone too
	again        map[int64]time.Duration // tasks to be looked at once more
	unfinished   map[int64]bool          // tasks that do not end
	wait         time.Duration           // for a lock; 0: for ever
}

func (a *application) run(ctx context.Context, findings []indexer.Finding, manifests []manifestRow) error {
	a.tier = 2
	if slices.ContainsFunc(findings, func(f indexer.Finding) bool { return f.Task.Priority == indexer.PriorityEvent }) {
		a.tier = 0
	}
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
	if err := a.refresh(ctx); err != nil {
		return err
	}
	return a.endTasks(ctx, findings)
}

// send runs a batch in one round trip. A push is a score of statements of a few
// rows each; to wait for every one would be half of its time.
func (a *application) send(ctx context.Context, batch *pgx.Batch) error {
	return a.tx.SendBatch(ctx, batch).Close()
}

// lockRepositories finds the repositories of the findings, makes those that
// something was found in, and locks all of them in order of name: what is
// computed over a whole repository must see every earlier change to it. Blobs are
// shared first.
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
	err := a.send(ctx, batch)
	a.linked = search.Linked(len(known) > 0 && known[0].Linked || slices.ContainsFunc(findings, func(f indexer.Finding) bool { return bool(links(f)) }))
	a.repositories = map[string]int32{}
	for _, r := range rows {
		a.repositories[r.Name] = r.ID
	}
	return err
}

// repositoriesOf gives the names of those findings, each once, sorted.
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

// endTasks asks for what comes next, ends the tasks and, last of all, moves the
// catalogue version.
func (a *application) endTasks(ctx context.Context, findings []indexer.Finding) error {
	var tasks []indexer.Task
	for _, f := range findings {
		if f.Outcome == indexer.Broken { // it stays, to be shown among the failures
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
	return bump(ctx, a.tx, a.cluster)
}

// unknown leaves out the manifests that the book holds whole: a client pushes an
// image before the index that lists it, so most children are known by then.
func (a *application) unknown(ctx context.Context, asks []indexer.Ask) ([]indexer.Ask, error) {
	var repositories []string
	var digests [][]byte
	for _, x := range asks {
		if d, err := digest.Parse(x.Reference); err == nil {
			repositories, digests = append(repositories, x.Repository), append(digests, pg.DigestBytes(d))
		}
	}
	if len(digests) == 0 {
		return asks, nil
	}
	type row struct {
		Name   string
		Digest []byte
	}
	known, err := pg.Collect[row](ctx, a.tx, `
		SELECT DISTINCT r.name, m.digest FROM unnest($1::text[], $2::bytea[]) AS wanted (name, digest)
		JOIN repository r ON r.name = wanted.name
		JOIN manifest m ON m.repository_id = r.id AND m.digest = wanted.digest AND m.problems = '{}'`, repositories, digests)
	skip := map[[2]string]bool{}
	for _, k := range known {
		skip[[2]string{k.Name, pg.DigestFrom(k.Digest).String()}] = true
	}
	var kept []indexer.Ask
	for _, x := range asks {
		if !skip[[2]string{x.Repository, x.Reference}] {
			kept = append(kept, x)
		}
	}
	return kept, err
}

// changedIDs gives the changed repositories in ascending order.
func (a *application) changedIDs() []int32 {
	var ids []int32
	for id := range a.changed {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return ids
}

// versionShards is how many rows share the catalogue version: 16. It let 2.7
// times the commits of one row through, with 16 writers (measured).
const versionShards = 16

// bump moves the catalogue version, and the epoch if another cluster was written
// last. It must be the last statement of a transaction: until it commits, others
// that picked the same shard wait.
func bump(ctx context.Context, tx pgx.Tx, c cluster) error {
	const q = "WITH " + moveEpoch + " UPDATE catalogue_version SET v = v + 1 WHERE shard = $2"
	shard := rand.IntN(versionShards)
	moved, err := tx.Exec(ctx, q, string(c), shard)
	if err != nil || moved.RowsAffected() > 0 {
		return err
	}
	if err := restore(ctx, tx, c); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, q, string(c), shard)
	return err
}

// idOf gives a repository's number; lockRepositories made sure there is one.
func (a *application) idOf(name string) (int32, error) {
	id, ok := a.repositories[name]
	if !ok {
		return 0, fmt.Errorf("repository %q is not locked", name)
	}
	return id, nil
}

// links reports whether a finding makes its repository linked.
func links(f indexer.Finding) search.Linked {
	return search.Linked(subjectOf(f.Task.Reference) != "" || slices.ContainsFunc(f.Manifests, func(m indexer.Manifest) bool {
		return m.Subject != "" || len(m.Entries) > 0
	}))
}
