package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
)

const (
	// lease is how long a worker that shows no sign of life has its tasks alone:
	// 10 s, after which what a killed process had claimed is read by another. A
	// worker at work renews it every third of that. One that was stopped for
	// longer and goes on cannot store what it read: see postgres.ErrStale.
	lease = 10 * time.Second
	// scanBatch is how many tasks of a scan one worker takes at once. They are
	// read one after the other and stored in one transaction, whose cost they
	// share; 64 keep it under a second.
	scanBatch = 64
	// eventBatch is 1: who pushed is waiting.
	eventBatch = 1
	// poll is how often an idle worker looks for what nobody wakes it for: tasks
	// that a process took in which died, retries, and second looks. What its own
	// process takes in wakes it at once. Workers look at different times, within
	// half of that more or less: all at once, a score of them would keep a score of
	// connections open that are used for a millisecond a second.
	poll = time.Second
	// maxAttempts is after how many failed reads we give up on a reference: 6,
	// over half a minute. The next scan or event begins anew.
	maxAttempts = 6
	// firstRetry is the pause after the first failure; each is twice the one
	// before, up to maxRetry.
	firstRetry = time.Second
	maxRetry   = 30 * time.Second
	// drainTimeout is how long a stopping worker may take to store what it read.
	drainTimeout = 10 * time.Second
)

// Workers read tasks. All fields but Retry and TagPatience are needed.
type Workers struct {
	Store   *postgres.Store
	Remote  *remote.Client
	Log     *slog.Logger
	Metrics *Metrics
	MaxMeta int           // most bytes of an image's labels and annotations
	Events  int           // how many workers read what events asked for, and nothing else
	Scans   int           // how many may read everything at once
	Retry   time.Duration // pause after a first failure; 0: a second
	// TagPatience is how long a tag is given to show what its event announced; 0:
	// two seconds. Less is for tests whose tags will never show it.
	TagPatience time.Duration

	once    sync.Once
	events  chan struct{} // news for those that read events
	scans   chan struct{} // news for those that read everything
	reading chan struct{} // holds a token for each of them that is reading
	group   group
}

// Wake tells the workers that an event has brought something new. It never
// blocks.
func (w *Workers) Wake() {
	w.init()
	wake(w.events)
}

// WakeForScan tells them that a scan has.
func (w *Workers) WakeForScan() {
	w.init()
	wake(w.scans)
}

func wake(sleepers chan struct{}) {
	select {
	case sleepers <- struct{}{}:
	default: // all that sleep have been told already
	}
}

func (w *Workers) init() {
	w.once.Do(func() {
		w.events = make(chan struct{}, max(w.Events, 1))
		w.scans = make(chan struct{}, max(w.scanners(), 1))
		w.reading = make(chan struct{}, max(w.Scans, 1))
	})
}

// scanners is how many workers read everything: half as many again as may read at
// once, since while one stores what it read, another can read.
func (w *Workers) scanners() int { return (3*w.Scans + 1) / 2 }

// Run works until the context ends, then finishes what it has claimed.
func (w *Workers) Run(ctx context.Context) error {
	w.init()
	var group errgroup.Group
	for range w.Events {
		group.Go(func() error { return w.loop(ctx, indexer.PriorityEvent, eventBatch, w.events) })
	}
	for range w.scanners() {
		group.Go(func() error { return w.loop(ctx, indexer.PriorityConfirm, scanBatch, w.scans) })
	}
	return group.Wait()
}

// loop works and rests. A database that is away is waited for; of failures in a
// row the first is logged.
func (w *Workers) loop(ctx context.Context, least indexer.Priority, batch int, news <-chan struct{}) error {
	failing := false
	for ctx.Err() == nil {
		n, err := w.Step(ctx, least, batch)
		if err != nil && !failing && ctx.Err() == nil {
			w.Log.WarnContext(ctx, "worker step failed", "error", err)
		}
		failing = err != nil
		if n > 0 && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-news:
		case <-time.After(poll/2 + rand.N(poll)):
		}
	}
	return nil
}

// Step claims at most n tasks, reads them, stores what was found, and returns
// how many it claimed. If the context ends, tasks not yet read are given back.
func (w *Workers) Step(ctx context.Context, least indexer.Priority, n int) (int, error) {
	tasks, err := w.Store.Claim(ctx, least, n, lease)
	if err != nil || len(tasks) == 0 {
		return 0, err
	}
	stopRenewing := w.renew(ctx, tasks)
	defer stopRenewing()
	findings, failed := w.readWhenFree(ctx, tasks, least)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err = w.store(ctx, findings, least); err != nil {
		err = errors.Join(err, w.applyEach(ctx, findings))
	}
	return len(tasks), errors.Join(err, w.settle(ctx, failed))
}

// renew keeps the lease of tasks until the returned function is called.
func (w *Workers) renew(ctx context.Context, tasks []indexer.Task) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		ticker := time.NewTicker(lease / 3)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				if err := w.Store.Renew(ctx, tasks, lease); err != nil && ctx.Err() == nil {
					w.Log.WarnContext(ctx, "lease not renewed", "error", err)
				}
			}
		}
	})
	return func() { cancel(); renewing.Wait() }
}

// store takes in what was read. What events asked for shares a transaction with
// what else they did that is ready by then, so that many pushes at once cost less
// each, and one alone waits for nobody.
func (w *Workers) store(ctx context.Context, findings []indexer.Finding, least indexer.Priority) error {
	if least != indexer.PriorityEvent || len(findings) == 0 {
		return w.Store.Apply(ctx, findings)
	}
	return w.group.apply(findings, func(all []indexer.Finding) error { return w.Store.Apply(ctx, all) })
}

// A group stores one batch after the other. What comes while one is being stored
// is the next.
type group struct {
	storing sync.Mutex
	mu      sync.Mutex
	next    *batch
}

// A batch is stored by the first of those in it whose turn it is.
type batch struct {
	findings []indexer.Finding
	stored   bool
	err      error
}

func (g *group) apply(findings []indexer.Finding, store func([]indexer.Finding) error) error {
	g.mu.Lock()
	if g.next == nil {
		g.next = &batch{}
	}
	b := g.next
	b.findings = append(b.findings, findings...)
	g.mu.Unlock()

	g.storing.Lock()
	defer g.storing.Unlock()
	if b.stored {
		return b.err
	}
	g.mu.Lock()
	g.next = nil
	g.mu.Unlock()
	b.err, b.stored = store(b.findings), true
	return b.err
}

// A failure is a task that could not be read, or not stored.
type failure struct {
	task indexer.Task
	err  error
}

// readWhenFree reads tasks as soon as there is room. Those of events always have.
func (w *Workers) readWhenFree(ctx context.Context, tasks []indexer.Task, least indexer.Priority) ([]indexer.Finding, []failure) {
	if least != indexer.PriorityEvent {
		w.init()
		w.reading <- struct{}{}
		defer func() { <-w.reading }()
	}
	return w.readAll(ctx, tasks)
}

// readAll reads tasks one after the other. The rest is not tried if we are
// stopping, or if the registry did not answer twice in a row: once may be about
// that one reference, which must not keep the others from being read.
func (w *Workers) readAll(ctx context.Context, tasks []indexer.Task) (findings []indexer.Finding, failed []failure) {
	r := reader{remote: w.Remote, maxMeta: w.MaxMeta, patience: cmp.Or(w.TagPatience, tagPatience)}
	away := 0
	for i, t := range tasks {
		start := time.Now()
		f, err := r.read(ctx, t)
		w.Metrics.ReadSeconds.Observe(time.Since(start).Seconds())
		w.Metrics.Reads.WithLabelValues(outcome(f, err)).Inc()
		if errors.Is(err, indexer.ErrUnavailable) {
			away++
		} else {
			away = 0
		}
		switch {
		case err == nil:
			findings = append(findings, f)
		case ctx.Err() != nil || away == 2:
			for _, rest := range tasks[i:] {
				failed = append(failed, failure{rest, err})
			}
			return findings, failed
		default:
			failed = append(failed, failure{t, err})
		}
	}
	return findings, failed
}

func outcome(f indexer.Finding, err error) string {
	switch {
	case errors.Is(err, indexer.ErrUnavailable):
		return "unavailable"
	case err != nil:
		return "failed"
	}
	return string(f.Outcome)
}

// settle gives back the tasks that failed: untried if we are stopping or the
// registry is away, which is nobody's fault here, and counted otherwise.
func (w *Workers) settle(ctx context.Context, failed []failure) error {
	var all error
	for _, f := range failed {
		var err error
		switch {
		case errors.Is(f.err, context.Canceled):
			err = w.Store.Release(ctx, f.task, 0, "")
		case errors.Is(f.err, indexer.ErrUnavailable):
			w.log(ctx, slog.LevelWarn, "registry away", f)
			err = w.Store.Release(ctx, f.task, w.pause(1), reason(f.err))
		case f.task.Attempts >= maxAttempts:
			w.log(ctx, slog.LevelError, "gave up reading", f)
			err = w.giveUp(ctx, f)
		default:
			w.log(ctx, slog.LevelInfo, "read failed", f)
			err = w.Store.Retry(ctx, f.task, w.pause(f.task.Attempts), reason(f.err))
		}
		all = errors.Join(all, err)
	}
	return all
}

// reason returns what people are told of an error: in the book, on /status and
// beside a tag. It is the one place that decides what of it may be shown.
func reason(err error) string { return indexer.Reason(err) }

func (w *Workers) log(ctx context.Context, level slog.Level, message string, f failure) {
	w.Log.Log(ctx, level, message, "repository", f.task.Repository, "reference", f.task.Reference,
		"attempt", f.task.Attempts, "error", f.err)
}

// giveUp stops trying. A tag that the registry lists is shown nevertheless, with
// the reason.
func (w *Workers) giveUp(ctx context.Context, f failure) error {
	w.Metrics.GivenUp.Inc()
	if f.task.Digest() == "" {
		return w.Store.Apply(ctx, []indexer.Finding{{Task: f.task, Outcome: indexer.Broken, Problem: reason(f.err)}})
	}
	return w.Store.GiveUp(ctx, f.task, reason(f.err))
}

// applyEach stores the findings of a batch that could not be stored whole, one
// by one, so that a bad one hides no other.
func (w *Workers) applyEach(ctx context.Context, findings []indexer.Finding) error {
	if ctx.Err() != nil {
		return nil // the leases will end
	}
	var failed []failure
	for _, f := range findings {
		err := w.Store.Apply(ctx, []indexer.Finding{f})
		if errors.Is(err, indexer.ErrUnavailable) {
			return err // the database is away: the leases will end
		}
		if errors.Is(err, postgres.ErrStale) {
			continue // whoever has it now knows better
		}
		if err != nil {
			failed = append(failed, failure{f.Task, fmt.Errorf("not stored: %w", err)})
		}
	}
	return w.settle(ctx, failed)
}

func (w *Workers) pause(attempts int) time.Duration {
	pause := w.Retry
	if pause == 0 {
		pause = firstRetry
	}
	for range min(attempts-1, 10) {
		pause *= 2
	}
	return min(pause, maxRetry)
}
