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
	// eventsTogether is how many tasks of events a worker of scans, who takes those
	// too, reads before it stores them: 8. Who pushed is waiting.
	eventsTogether = 8
	// pollEvents and pollScans are how often one idle worker looks for tasks that no
	// one woke it for: those of a process that died, retries, second looks, and a task
	// whose row another transaction had locked when it was claimed. One worker looks for
	// all of them: a score of workers, each with a pause of its own, would keep a score
	// of connections open.
	pollEvents = 100 * time.Millisecond
	pollScans  = time.Second
	// maxAttempts is after how many failed reads we give up on a reference: 6,
	// over half a minute. The next scan or event begins anew.
	maxAttempts = 6
	// firstRetry is the pause after the first failure; each is twice the one
	// before, up to maxRetry.
	firstRetry = time.Second
	maxRetry   = 30 * time.Second
	// awayRetryMost is the longest pause while the registry answers nothing: 8 s. It
	// grows with the time for which it has been away.
	awayRetryMost = 8 * time.Second
	// crowdedRetry is the pause after a read that was broken off because too many
	// others were waiting for an answer: 4 s.
	crowdedRetry = 4 * time.Second
	// settleTimeout is how long it may take to record what became of failed tasks.
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
	keeper  keeper
	answers answers
}

// A WorkersConfig holds the settings of Workers. The fields up to Scans are required.
type WorkersConfig struct {
	Store         *postgres.Store
	Remote        *remote.Client
	Log           *slog.Logger
	Metrics       *Metrics
	MaxMeta       int           // maximum bytes of an image's labels and annotations
	Events        int           // number of workers that read only what events asked for
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
		keeper: keeper{store: c.Store, limit: c.StoreTimeout},
	}
}

// scannersFor returns how many workers are needed for a number of concurrent reads: half
// as many again, so that some can read while others store.
func scannersFor(reads int) int { return (3*reads + 1) / 2 }

// Wake tells the workers that an event has brought something new. It never
// blocks.
func (w *Workers) Wake() {
	wake(w.events, news)
}

// WakeForScan tells them that a scan has.
func (w *Workers) WakeForScan() {
	wake(w.scans, news)
}

// An alarm wakes a sleeping worker.
type alarm int

const (
	news alarm = iota // there is a task
	// look says only that it is time to look. Whoever finds a task then wakes the next
	// worker in the same way, since there may be more.
	look
)

func wake(sleepers chan alarm, a alarm) {
	select {
	case sleepers <- a:
	default: // all that sleep have been woken already
	}
}

// Run works until the context ends, then finishes what it has claimed.
func (w *Workers) Run(ctx context.Context) error {
	var group errgroup.Group
	start := func(least indexer.Priority, batch int, sleepers chan alarm, poll time.Duration) {
		room := w.rooms[least]
		for n := range room.workers() {
			rested := n == 0 || n >= cap(room.places) // one looks, and whoever gets a place later
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

// loop works while it has a place, and rests until it is woken. It begins with a
// rest unless it has rested. A database that is away is waited for; only the first
// of several failures in a row is logged.
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
// how many it claimed. If the context ends, tasks not yet read are given back.
func (w *Workers) Step(ctx context.Context, least indexer.Priority, n int) (int, error) {
	s := &seat{room: w.rooms[least]}
	defer s.leave()
	n, _, err := w.step(ctx, s, least, n, func() {})
	return n, err
}

// step is Step with a seat, which it gives up if it takes long. What failed before
// is not claimed while as many wait for an answer as may: it would most likely wait
// too. claimed is called if there are tasks. It reports also whether the registry is
// away.
func (w *Workers) step(ctx context.Context, s *seat, least indexer.Priority, n int, claimed func()) (count int, away bool, err error) {
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

// finish stores what was read, and settles what was not. leave is called before it
// waits for what others need not. It reports whether the registry is away.
func (w *Workers) finish(ctx context.Context, findings []indexer.Finding, failed []failure, shared bool, leave func()) (away bool, err error) {
	notStored, err := w.keeper.keep(ctx, findings, shared, leave)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	away, unsettled := w.settle(ctx, append(notStored, without(failed, notStored)...))
	return away, errors.Join(err, unsettled)
}

// without leaves out failures of tasks that are among others.
func without(failed, others []failure) []failure {
	return slices.DeleteFunc(failed, func(f failure) bool {
		return slices.ContainsFunc(others, func(o failure) bool { return o.task.ID == f.task.ID })
	})
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
				if err := w.config.Store.Renew(ctx, tasks, lease); err != nil && ctx.Err() == nil {
					w.config.Log.WarnContext(ctx, "lease not renewed", "error", err)
				}
			}
		}
	})
	return func() { cancel(); renewing.Wait() }
}

// A failure is a task that could not be read, or not stored.
type failure struct {
	task     indexer.Task
	began    time.Time // when it was read
	answered bool      // the registry answered for part of it
	err      error
}

// readWhenFree reads tasks as soon as there is room. Those of events always have.
func (w *Workers) readWhenFree(ctx context.Context, s *seat, tasks []indexer.Task, least indexer.Priority, finish finisher) ([]indexer.Finding, []failure) {
	if least != indexer.PriorityEvent {
		s.beginReading(w.reading)
		defer s.endReading()
	}
	return w.readAll(ctx, s, tasks, finish)
}

// A finisher is finish for one batch.
type finisher func(findings []indexer.Finding, failed []failure, leave func()) (away bool, err error)

// readAll reads tasks one after the other. Those of events are finished before those
// of scans are read, and a few at a time. If one takes long, those before it are
// finished at once: none waits for it. The rest is given back then, if we are
// stopping, or if the registry did not answer twice in a row: once may be about that
// one reference, which must not keep the others from being read.
func (w *Workers) readAll(ctx context.Context, s *seat, tasks []indexer.Task, finish finisher) (findings []indexer.Finding, failed []failure) {
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
			early() // the seat is kept: the read goes on
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
			return findings, failed // the rest was given back
		case ctx.Err() != nil || away == 2:
			w.giveBack(ctx, rest)
			return findings, failed
		case t.Priority == indexer.PriorityEvent && len(rest) > 0 && (rest[0].Priority != t.Priority || len(findings) >= eventsTogether):
			early()
		}
	}
	return findings, failed
}

// read reads one task. It reports whether that took longer than a place is held
// for; then the seat has moved aside and left was called.
func (w *Workers) read(ctx context.Context, s *seat, t indexer.Task, left func()) (f indexer.Finding, long bool, err error) {
	hold := scanPlace
	if t.Priority == indexer.PriorityEvent {
		hold = eventPlace
	}
	r := reader{
		remote: w.config.Remote, maxMeta: w.config.MaxMeta,
		patience: w.config.TagPatience, config: w.config.ConfigTimeout,
	}
	long, err = s.whileSeated(ctx, t.Repository, hold, func(ctx context.Context, linger func() bool) (err error) {
		r.linger = linger
		f, err = r.read(ctx, t)
		return err
	}, left)
	return f, long, err
}

// giveBack gives back tasks that were not tried, for others to read at once.
func (w *Workers) giveBack(ctx context.Context, tasks []indexer.Task) {
	if len(tasks) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if err := w.config.Store.GiveBack(ctx, tasks); err != nil { // the leases will end
		w.config.Log.WarnContext(ctx, "tasks not given back", "error", err)
		return
	}
	wake(w.scans, news)
}

// answers remember what the registry answered, so that a reference for which it
// does not answer can be told from a registry that is away.
type answers struct {
	mu   sync.Mutex
	last time.Time       // when the read began that was answered; of those, the latest
	away time.Time       // when the first read failed since; zero: none did
	tag  indexer.Finding // of a tag that was shown; the zero one if none was

	asking sync.Mutex // held while the control is asked for
	asked  time.Time  // when it was last
	answer bool       // what came of it
}

// note records that a read was answered that began at a time.
func (a *answers) note(began time.Time, f indexer.Finding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if began.After(a.last) {
		a.last, a.away = began, time.Time{}
	}
	if f.Task.IsTag() && f.Digest != "" {
		a.tag = indexer.Finding{Task: f.Task, Digest: f.Digest}
	}
}

// since reports whether a read was answered that began after that time, and for how
// long none was if not.
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

// controlTimeout is how long the registry may take to answer the control: 5 s.
const controlTimeout = 5 * time.Second

// control asks the registry for a tag that it showed before, and reports whether it
// answers, if nobody has asked since a time. The question is conditional: it sends
// no event.
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
	_, err := w.config.Remote.Shows(ctx, tag.Task.Repository, tag.Task.Reference, tag.Digest)
	a.answer = err == nil || errors.Is(err, indexer.ErrNotFound)
	return a.answer
}

// answersOthers reports whether the registry answers for other references than one
// whose read began at a time and failed, and how long it has been away if not.
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

// settle gives back the tasks that failed: untried if we are stopping or the
// registry is away, which is nobody's fault here, and counted otherwise. It is not
// away if it answered for part of what failed, as a manifest whose config its storage
// does not give, or a read that began later, or answers for what it showed before.
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
		w.log(ctx, slog.LevelInfo, "read broken off", f)
		return false, w.config.Store.Release(ctx, f.task, w.most(crowdedRetry), reason(f.err))
	case errors.Is(f.err, indexer.ErrUnavailable) && !errors.Is(f.err, indexer.ErrTooSlow) && !f.answered:
		if answered, since := w.answersOthers(ctx, f.began); !answered {
			w.log(ctx, slog.LevelWarn, "registry away", f)
			return true, w.config.Store.Release(ctx, f.task, min(max(w.pause(1), since), awayRetryMost), reason(f.err))
		}
	}
	if f.task.Attempts >= maxAttempts {
		w.log(ctx, slog.LevelError, "gave up reading", f)
		return false, w.giveUp(ctx, f)
	}
	w.log(ctx, slog.LevelInfo, "read failed", f)
	return false, w.config.Store.Retry(ctx, f.task, w.pause(f.task.Attempts), reason(f.err))
}

// reason returns what people are told of an error: in the book, on /status and
// beside a tag. It is the one place that decides what of it may be shown.
func reason(err error) string { return indexer.Reason(err) }

func (w *Workers) log(ctx context.Context, level slog.Level, message string, f failure) {
	w.config.Log.Log(ctx, level, message, "repository", f.task.Repository, "reference", f.task.Reference,
		"attempt", f.task.Attempts, "error", f.err)
}

// giveUp stops trying. A tag that the registry lists is shown nevertheless, with
// the reason; if that cannot be stored either, the task alone tells it.
func (w *Workers) giveUp(ctx context.Context, f failure) error {
	w.config.Metrics.GivenUp.Inc()
	if f.task.IsTag() {
		broken := indexer.Finding{Task: f.task, Outcome: indexer.Broken, Problem: reason(f.err)}
		err := w.config.Store.ApplyUnlessLocked(ctx, []indexer.Finding{broken}, sharedWait)
		if err == nil || errors.Is(err, postgres.ErrStale) {
			return nil
		}
	}
	err := w.config.Store.GiveUp(ctx, f.task, reason(f.err))
	if errors.Is(err, postgres.ErrStale) {
		return nil // whoever has it now knows better
	}
	return err
}

// most is a pause, or the shorter one that tests ask for.
func (w *Workers) most(pause time.Duration) time.Duration {
	if w.config.Retry == 0 {
		return pause
	}
	return min(pause, w.config.Retry)
}

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
