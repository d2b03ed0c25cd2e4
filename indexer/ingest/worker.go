package ingest

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
)

const (
	// lease is how long a claim lasts without renewal: 10 s. Workers renew it every third
	// of that, so the tasks of a killed process are read by another one after at most 10
	// s. A worker that has lost its lease cannot store its result: see postgres.ErrStale.
	lease = 10 * time.Second
	// scanBatch is how many tasks of a scan one worker claims at once. They are read one
	// after the other and stored in one transaction, which takes less than a second
	// for 64.
	scanBatch = 64
	// eventBatch is how many tasks of events one worker claims at once: 1, since
	// somebody waits for the result of a push.
	eventBatch = 1
	// eventsTogether is how many tasks of events a worker that reads everything reads
	// before it stores them: 8. Somebody waits for the result of each.
	eventsTogether = 8
	// pollEvents and pollScans are how often one idle worker looks for tasks without
	// being woken: tasks of a process that died, retries, second looks, and tasks whose
	// row was locked when they were due. One worker looks for all, since twenty workers
	// with timers of their own would keep twenty connections open.
	pollEvents = 100 * time.Millisecond
	pollScans  = time.Second
	// maxAttempts is the number of failed reads after which a reference is given up: 6,
	// over half a minute. The next scan or event tries again.
	maxAttempts = 6
	// firstRetry is the pause after the first failure; each is twice the one
	// before, up to maxRetry.
	firstRetry = time.Second
	maxRetry   = 30 * time.Second
	// awayRetryMost is the maximum pause while the registry is unavailable: 8 s. The pause
	// grows with the time for which it has been.
	awayRetryMost = 8 * time.Second
	// crowdedRetry is the pause after a read that was cancelled because too many others
	// were waiting for an answer: 4 s.
	crowdedRetry = 4 * time.Second
	// settleTimeout limits recording the results of failed tasks.
	settleTimeout = 10 * time.Second
)

// Workers read tasks: they claim them, read the references from the registry and store
// what they found.
type Workers struct {
	config  WorkersConfig
	events  chan alarm    // wakes workers that read only events
	scans   chan alarm    // wakes workers that read everything
	reading chan struct{} // holds a token for each of the latter that is reading
	rooms   map[indexer.Priority]*room
	saver   saver
	answers answers
}

// A WorkersConfig holds the settings of Workers. The fields up to Scans are required.
type WorkersConfig struct {
	Store         *postgres.Store
	Remote        *remote.Client
	Log           *slog.Logger
	Metrics       *Metrics
	MaxMeta       int           // maximum bytes of an image's labels and annotations
	Events        int           // number of workers that read only tasks of events
	Scans         int           // maximum number of other workers that read at the same time
	Retry         time.Duration // pause after a first failure; 0: 1 s
	StoreTimeout  time.Duration // for one transaction that stores what was read; 0: 10 s
	TagPatience   time.Duration // for a tag to show what its event announced; 0: 2 s
	ConfigTimeout time.Duration // for reading the config of an image; 0: 10 s
}

// NewWorkers returns workers that do nothing before Run or Step.
func NewWorkers(c WorkersConfig) *Workers {
	c.StoreTimeout = cmp.Or(c.StoreTimeout, storeTimeout)
	c.TagPatience = cmp.Or(c.TagPatience, tagPatience)
	c.ConfigTimeout = cmp.Or(c.ConfigTimeout, configTimeout)
	scanners := scannersFor(c.Scans)
	return &Workers{
		config:  c,
		events:  make(chan alarm, max(c.Events, 1)),
		scans:   make(chan alarm, max(scanners, 1)),
		reading: make(chan struct{}, max(c.Scans, 1)),
		rooms: map[indexer.Priority]*room{
			indexer.PriorityEvent:   newRoom(c.Events, asideOfEvents*c.Events),
			indexer.PriorityConfirm: newRoom(scanners, asideOfScans*c.Scans),
		},
		saver: saver{store: c.Store, limit: c.StoreTimeout},
	}
}

// scannersFor returns how many workers are needed for a number of concurrent reads: half
// as many again, so that some can read while others store.
func scannersFor(reads int) int { return (3*reads + 1) / 2 }

// Wake tells the workers that an event has added tasks. It never blocks.
func (w *Workers) Wake() {
	wake(w.events, news)
}

// WakeForScan tells the workers that a scan has added tasks. It never blocks.
func (w *Workers) WakeForScan() {
	wake(w.scans, news)
}

// An alarm wakes a sleeping worker.
type alarm int

const (
	news alarm = iota // there is a task
	// look says only that it is time to look. A worker that finds a task then wakes the
	// next one with look, since there may be more.
	look
)

func wake(sleepers chan alarm, a alarm) {
	select {
	case sleepers <- a:
	default: // all sleeping workers have been woken
	}
}

// Run reads tasks until the context ends, then finishes the tasks it has claimed.
func (w *Workers) Run(ctx context.Context) error {
	var group errgroup.Group
	start := func(least indexer.Priority, batch int, sleepers chan alarm, poll time.Duration) {
		room := w.rooms[least]
		for n := range room.workers() {
			rested := n == 0 || n >= cap(room.places) // one looks at once; those without a place look when they get one
			group.Go(func() error { return w.loop(ctx, least, batch, sleepers, rested) })
		}
		group.Go(func() error { return pollFor(ctx, sleepers, poll) })
	}
	if w.config.Events > 0 {
		start(indexer.PriorityEvent, eventBatch, w.events, pollEvents)
	}
	if w.config.Scans > 0 {
		start(indexer.PriorityConfirm, scanBatch, w.scans, pollScans)
	}
	return group.Wait()
}

// pollFor wakes one sleeper after the other.
func pollFor(ctx context.Context, sleepers chan alarm, poll time.Duration) error {
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			wake(sleepers, look)
		}
	}
}

// loop is one worker: it enters the room, reads tasks while it finds any and sleeps until
// it is woken. Unless rested is true, it sleeps first. If the database is unavailable it
// retries, and logs only the first of several failures in a row.
func (w *Workers) loop(ctx context.Context, least indexer.Priority, batch int, sleepers chan alarm, rested bool) error {
	failing, woken := false, look
	for ctx.Err() == nil {
		s, err := w.rooms[least].enter(ctx)
		if err != nil {
			break
		}
		if !rested {
			rested = true
			woken = sleep(ctx, sleepers)
		}
		n, away, err := w.step(ctx, s, least, batch, func() {
			if woken == look {
				wake(sleepers, look)
			}
			woken = news // of the next task: it did not sleep
		})
		if err != nil && !failing && ctx.Err() == nil {
			w.config.Log.WarnContext(ctx, "worker step failed", "error", err)
		}
		failing = err != nil
		if n == 0 || away || err != nil {
			woken = sleep(ctx, sleepers)
		}
		s.leave()
	}
	return nil
}

// sleep returns what woke the worker.
func sleep(ctx context.Context, sleepers <-chan alarm) alarm {
	select {
	case <-ctx.Done():
		return look
	case a := <-sleepers:
		return a
	}
}

// Step claims at most n tasks, reads them, stores what was found, and returns
// how many it claimed. If the context ends, it releases the tasks not yet read.
func (w *Workers) Step(ctx context.Context, least indexer.Priority, n int) (int, error) {
	s := &seat{room: w.rooms[least]}
	defer s.leave()
	n, _, err := w.step(ctx, s, least, n, func() {})
	return n, err
}

// step is Step with a seat, which it leaves if a read takes long. It calls claimed if it
// has claimed tasks, and reports whether the registry is unavailable. While the room is
// full it claims no task that failed before: it would probably hang again.
func (w *Workers) step(
	ctx context.Context, s *seat, least indexer.Priority, n int, claimed func(),
) (count int, away bool, err error) {
	claim := w.config.Store.Claim
	if s.room.full() {
		claim = w.config.Store.ClaimFresh
	}
	tasks, err := claim(ctx, least, n, lease)
	if err != nil || len(tasks) == 0 {
		return 0, false, err
	}
	claimed()
	if n > eventBatch && len(tasks) == n {
		wake(w.scans, news)
	}
	stopRenewing := w.renew(ctx, tasks)
	defer stopRenewing()
	finish := func(findings []indexer.Finding, failed []failure, leave func()) (away bool, err error) {
		return w.finish(ctx, findings, failed, least == indexer.PriorityEvent, leave)
	}
	findings, failed := w.readWhenFree(ctx, s, tasks, least, finish)
	away, err = finish(findings, failed, s.leave)
	return len(tasks), away, err
}

// finish stores findings and settles failures. leave is called before a wait that other
// workers need not share. It reports whether the registry is unavailable.
func (w *Workers) finish(
	ctx context.Context, findings []indexer.Finding, failed []failure, shared bool, leave func(),
) (away bool, err error) {
	notStored, err := w.saver.save(ctx, findings, shared, leave)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	away, unsettled := w.settle(ctx, append(notStored, without(failed, notStored)...))
	return away, errors.Join(err, unsettled)
}

// without returns the failures whose tasks are not among others.
func without(failed, others []failure) []failure {
	return slices.DeleteFunc(failed, func(f failure) bool {
		return slices.ContainsFunc(others, func(o failure) bool { return o.task.ID == f.task.ID })
	})
}

// renew renews the leases of tasks until the returned function is called.
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
				if err := w.config.Store.Renew(ctx, tasks, lease); err != nil && ctx.Err() == nil {
					w.config.Log.WarnContext(ctx, "lease not renewed", "error", err)
				}
			}
		}
	})
	return func() { cancel(); renewing.Wait() }
}

// A failure is a task that could not be read or stored.
type failure struct {
	task     indexer.Task
	began    time.Time // when the read began
	answered bool      // the registry answered some of its requests
	err      error
}

// readWhenFree reads tasks. If they are not tasks of events, it first waits for a token
// of reading.
func (w *Workers) readWhenFree(
	ctx context.Context, s *seat, tasks []indexer.Task, least indexer.Priority, finish finisher,
) ([]indexer.Finding, []failure) {
	if least != indexer.PriorityEvent {
		s.beginReading(w.reading)
		defer s.endReading()
	}
	return w.readAll(ctx, s, tasks, finish)
}

// A finisher is finish for one batch.
type finisher func(findings []indexer.Finding, failed []failure, leave func()) (away bool, err error)

// readAll reads tasks one after the other. It finishes tasks of events a few at a time,
// before it reads those of scans. If a read takes long, the tasks before it are finished
// at once and those after it are released. Those after it are also released if the
// program stops, or if the registry did not answer twice in a row; once may be due to that
// one reference, which must not keep the others from being read.
func (w *Workers) readAll(
	ctx context.Context, s *seat, tasks []indexer.Task, finish finisher,
) (findings []indexer.Finding, failed []failure) {
	early := func() {
		if _, err := finish(findings, failed, func() {}); err != nil { // the leases will end
			w.config.Log.WarnContext(ctx, "tasks not finished", "error", err)
		}
		findings, failed = nil, nil
	}
	away := 0
	for i, t := range tasks {
		rest := tasks[i+1:]
		began := time.Now()
		f, long, err := w.read(ctx, s, t, func() {
			w.giveBack(ctx, rest)
			early() // the seat is kept: the read continues
		})
		w.config.Metrics.ReadSeconds.Observe(time.Since(began).Seconds())
		w.config.Metrics.Reads.WithLabelValues(outcome(f, err)).Inc()
		if err == nil || f.Unfinished {
			w.answers.note(began, f)
			findings = append(findings, f)
		}
		if err != nil {
			failed = append(failed, failure{t, began, f.Unfinished, err})
		}
		if errors.Is(err, indexer.ErrUnavailable) && !f.Unfinished {
			away++
		} else {
			away = 0
		}
		switch {
		case long:
			return findings, failed // the rest was released
		case ctx.Err() != nil || away == 2:
			w.giveBack(ctx, rest)
			return findings, failed
		case t.Priority == indexer.PriorityEvent && len(rest) > 0 &&
			(rest[0].Priority != t.Priority || len(findings) >= eventsTogether):
			early()
		}
	}
	return findings, failed
}

// read reads one task. long reports whether that took longer than a place may be held.
// In that case left was called.
func (w *Workers) read(
	ctx context.Context, s *seat, t indexer.Task, left func(),
) (f indexer.Finding, long bool, err error) {
	hold := scanPlace
	if t.Priority == indexer.PriorityEvent {
		hold = eventPlace
	}
	r := reader{
		remote: w.config.Remote, log: w.config.Log, maxMeta: w.config.MaxMeta,
		patience: w.config.TagPatience, config: w.config.ConfigTimeout,
	}
	long, err = s.whileSeated(ctx, t.Repository, hold, func(ctx context.Context, linger func() bool) (err error) {
		r.linger = linger
		f, err = r.readSafely(ctx, t)
		return err
	}, left)
	return f, long, err
}

// giveBack releases tasks that were not tried, so that others can claim them at once.
func (w *Workers) giveBack(ctx context.Context, tasks []indexer.Task) {
	if len(tasks) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if err := w.config.Store.GiveBack(ctx, tasks); err != nil { // the leases will end
		w.config.Log.WarnContext(ctx, "tasks not released", "error", err)
		return
	}
	wake(w.scans, news)
}

// answers records which reads the registry answered, to distinguish a reference that
// hangs from a registry that is unavailable.
type answers struct {
	mu   sync.Mutex
	last time.Time       // the latest start of a read that was answered
	away time.Time       // start of the first read that failed since; zero if none did
	tag  indexer.Finding // of a tag that was read; zero if there is none

	asking sync.Mutex // held during the control request
	asked  time.Time  // when the last control request began
	answer bool       // whether it was answered
}

// note records that a read, which began at began, was answered.
func (a *answers) note(began time.Time, f indexer.Finding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if began.After(a.last) {
		a.last, a.away = began, time.Time{}
	}
	if f.Task.Reference.IsTag() && f.Digest != "" {
		a.tag = indexer.Finding{Task: f.Task, Digest: f.Digest}
	}
}

// since reports whether a read that began after began was answered, and if not, for how
// long none was.
func (a *answers) since(began time.Time) (answered bool, away time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last.After(began) {
		return true, 0
	}
	if a.away.IsZero() {
		a.away = began
	}
	return false, time.Since(a.away)
}

// controlTimeout limits the control request: 5 s.
const controlTimeout = 5 * time.Second

// control requests a tag that was read before, and reports whether the registry answers. It
// uses the last result if that is newer than since. The request is conditional, so the
// registry sends no event for it.
func (w *Workers) control(ctx context.Context, since time.Time) bool {
	a := &w.answers
	a.asking.Lock()
	defer a.asking.Unlock()
	a.mu.Lock()
	tag := a.tag
	a.mu.Unlock()
	if tag.Digest == "" {
		return false
	}
	if a.asked.After(since) {
		return a.answer
	}
	a.asked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	_, err := w.config.Remote.Shows(ctx, tag.Task.Repository, tag.Task.Reference.Tag(), tag.Digest)
	a.answer = err == nil || errors.Is(err, indexer.ErrNotFound)
	return a.answer
}

// answersOthers reports whether the registry answers for references other than the one
// whose read began at began and failed, and if not, for how long it has not.
func (w *Workers) answersOthers(ctx context.Context, began time.Time) (bool, time.Duration) {
	answered, away := w.answers.since(began)
	return answered || w.control(ctx, began), away
}

func outcome(f indexer.Finding, err error) string {
	switch {
	case errors.Is(err, indexer.ErrUnavailable) && !f.Unfinished, errors.Is(err, errCrowded):
		return "unavailable"
	case err != nil:
		return "failed"
	}
	return string(f.Outcome)
}

// settle releases the tasks that failed. The attempt does not count if the program stops
// or the registry is unavailable, which settle reports. The registry is available if it
// answered part of the failed read, such as the manifest of a missing config, or a read
// that began later, or the control request.
func (w *Workers) settle(ctx context.Context, failed []failure) (away bool, err error) {
	for _, f := range failed {
		unanswered, settleErr := w.settleOne(ctx, f)
		away, err = away || unanswered, errors.Join(err, settleErr)
	}
	return away, err
}

func (w *Workers) settleOne(ctx context.Context, f failure) (away bool, err error) {
	switch {
	case errors.Is(f.err, context.Canceled):
		return false, w.config.Store.Release(ctx, f.task, 0, "")
	case errors.Is(f.err, errCrowded):
		w.log(ctx, slog.LevelInfo, "read cancelled", f)
		return false, w.config.Store.Release(ctx, f.task, w.most(crowdedRetry), reason(f.err))
	case errors.Is(f.err, indexer.ErrUnavailable) && !errors.Is(f.err, indexer.ErrTooSlow) && !f.answered:
		if answered, since := w.answersOthers(ctx, f.began); !answered {
			w.log(ctx, slog.LevelWarn, "registry unavailable", f)
			return true, w.config.Store.Release(ctx, f.task, min(max(w.pause(1), since), awayRetryMost), reason(f.err))
		}
	}
	if f.task.Attempts >= maxAttempts {
		w.log(ctx, slog.LevelError, "reference given up", f)
		return false, w.giveUp(ctx, f)
	}
	w.log(ctx, slog.LevelInfo, "read failed", f)
	return false, w.config.Store.Retry(ctx, f.task, w.pause(f.task.Attempts), reason(f.err))
}

func (w *Workers) log(ctx context.Context, level slog.Level, message string, f failure) {
	w.config.Log.Log(ctx, level, message, "repository", f.task.Repository, "reference", f.task.Reference,
		"attempt", f.task.Attempts, "error", f.err)
}

// giveUp marks a task as given up. A tag is stored without a manifest, with the reason; if
// that fails too, only the task has the reason.
func (w *Workers) giveUp(ctx context.Context, f failure) error {
	w.config.Metrics.GivenUp.Inc()
	if f.task.Reference.IsTag() {
		broken := indexer.Finding{Task: f.task, Outcome: indexer.Broken, Problem: reason(f.err)}
		err := w.config.Store.ApplyUnlessLocked(ctx, []indexer.Finding{broken}, sharedWait)
		if err == nil || errors.Is(err, postgres.ErrStale) {
			return nil
		}
	}
	err := w.config.Store.GiveUp(ctx, f.task, reason(f.err))
	if errors.Is(err, postgres.ErrStale) {
		return nil // another worker has the task now
	}
	return err
}

// most returns the pause, or config.Retry if that is set and shorter.
func (w *Workers) most(pause time.Duration) time.Duration {
	if w.config.Retry == 0 {
		return pause
	}
	return min(pause, w.config.Retry)
}

// pause returns the pause after a number of failed attempts.
func (w *Workers) pause(attempts int) time.Duration {
	pause := w.config.Retry
	if pause == 0 {
		pause = firstRetry
	}
	for range min(attempts-1, 10) {
		pause *= 2
	}
	return min(pause, maxRetry)
}
