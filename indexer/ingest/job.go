package ingest

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
)

// A step does the work of a job once.
type step func(context.Context) error

// A job is upkeep that the leader repeats until it stops leading.
type job struct {
	name  string
	next  func(context.Context) (step, error) // returns nil if there is nothing to do
	delay time.Duration                       // wait before the first run
	pause pause                               // wait between two runs
	alone chan struct{}                       // holds a token during a run: jobs that share it never run at the same time
	nudge chan struct{}                       // ends a wait early; nil if nothing does
	after []*job                              // nudged after each run

	onlyAsked bool                        // it runs only if somebody has asked for it
	ask       func(context.Context) error // prepares a run that was asked for, so that next returns a step; nil: nothing
}

// A jobProgress says how far a run is.
type jobProgress func(done, total int64)

type progressKey struct{}

// progress says in a step how much of it is done.
func progress(ctx context.Context, done, total int64) {
	if p, _ := ctx.Value(progressKey{}).(jobProgress); p != nil {
		p(done, total)
	}
}

// never is the pause of a job that runs only if somebody has asked for it.
func never(time.Duration, int) time.Duration { return math.MaxInt64 }

// always is the next of a job that always has work to do.
func always(s step) func(context.Context) (step, error) {
	return func(context.Context) (step, error) { return s, nil }
}

// A pause returns how long to wait after a run. took is the duration of the run, and
// failed the number of runs that failed since the last successful one.
type pause func(took time.Duration, failed int) time.Duration

// every waits for d after each run.
func every(d time.Duration) pause {
	return func(time.Duration, int) time.Duration { return d }
}

// backoff waits for d after a successful run. After a failed one it waits for first,
// then twice as long each time, at most for most.
func backoff(d, first, most time.Duration) pause {
	return func(_ time.Duration, failed int) time.Duration {
		if failed == 0 {
			return d
		}
		again := first
		for range failed - 1 {
			again = min(2*again, most)
		}
		return again
	}
}

// inProportion waits share times as long as the run took, at least for least.
func inProportion(least time.Duration, share int) pause {
	return func(took time.Duration, _ int) time.Duration {
		return max(least, time.Duration(share)*took)
	}
}

// wake ends the wait of a job. If the job is running, it runs once more afterwards.
func (j *job) wake() {
	select {
	case j.nudge <- struct{}{}:
	default: // nudged already
	}
}

// wait returns after d, after a nudge or when the context ends.
func (j *job) wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-j.nudge:
	case <-time.After(d):
	}
}

// A runner runs jobs and records their states. It is safe for concurrent use.
type runner struct {
	log      *slog.Logger
	metrics  *Metrics
	requests requests // of runs

	mu     sync.Mutex
	states []indexer.Job // in the order of the list of jobs
}

// jobs returns the states of all jobs, in the order of their list.
func (r *runner) jobs() []indexer.Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.states)
}

// add adds the states of jobs that have none yet.
func (r *runner) add(jobs []*job) {
	for _, j := range jobs {
		r.update(j, func(*indexer.Job) {})
		r.metrics.JobRunning.WithLabelValues(j.name).Set(0)
		r.metrics.JobFailures.WithLabelValues(j.name).Add(0)
	}
}

// run runs jobs, which have been added, concurrently. It returns when the context has
// ended and no job runs.
func (r *runner) run(ctx context.Context, jobs []*job) {
	var running sync.WaitGroup
	for _, j := range jobs {
		running.Go(func() { r.repeat(ctx, j) })
	}
	running.Wait()
}

// repeat runs a job, again and again, until the context ends.
func (r *runner) repeat(ctx context.Context, j *job) {
	r.wait(ctx, j, j.delay)
	for failed := 0; ctx.Err() == nil; {
		began := time.Now()
		err := r.once(ctx, j)
		if failed++; err == nil {
			failed = 0
		}
		pause := j.pause(time.Since(began), failed)
		if err != nil {
			r.logFailure(ctx, j, err, pause)
		}
		r.wait(ctx, j, pause)
	}
	r.update(j, func(s *indexer.Job) { s.Next = time.Time{} })
}

func (r *runner) logFailure(ctx context.Context, j *job, err error, pause time.Duration) {
	again := slog.Duration("again_in", pause)
	if j.onlyAsked {
		again = slog.String("again", "when it is asked for")
	}
	r.log.WarnContext(ctx, "job failed", "job", j.name, "error", err, again)
}

// once runs a job once, if it has anything to do. It returns no error if the context
// has ended.
func (r *runner) once(ctx context.Context, j *job) error {
	if j.alone != nil {
		select {
		case j.alone <- struct{}{}:
			defer func() { <-j.alone }()
		case <-ctx.Done():
			return nil
		}
	}
	runs, err := r.requests.begin(ctx, j)
	var step step
	if err == nil && (!j.onlyAsked || len(runs) > 0) {
		step, err = j.next(ctx)
	}
	if err == nil && step == nil {
		return r.requests.end(ctx, runs, j, nil)
	}
	began := time.Now()
	r.begin(j, began)
	if err == nil {
		err = r.take(ctx, j, step)
		for _, next := range j.after {
			next.wake()
		}
	}
	if ctx.Err() != nil {
		r.stop(j)
		return nil
	}
	r.end(j, began, err)
	return errors.Join(err, r.requests.end(ctx, runs, j, err))
}

// take takes the step of a job. A panic is an error of this run, so that the job cannot end every
// leader, again and again.
func (r *runner) take(ctx context.Context, j *job, s step) (err error) {
	defer func() {
		if p := recover(); p != nil {
			caught := indexer.PanicOf(p)
			r.log.ErrorContext(ctx, "job panicked", "job", j.name, "error", caught, "stack", string(debug.Stack()))
			err = caught
		}
	}()
	return s(r.withProgress(ctx, j))
}

// withProgress returns a context in which progress records that of a job.
func (r *runner) withProgress(ctx context.Context, j *job) context.Context {
	report := func(done, total int64) {
		r.metrics.JobDone.WithLabelValues(j.name).Set(float64(done))
		r.metrics.JobTotal.WithLabelValues(j.name).Set(float64(total))
		r.update(j, func(s *indexer.Job) { s.Done, s.Total = done, total })
	}
	return context.WithValue(ctx, progressKey{}, jobProgress(report))
}

func (r *runner) wait(ctx context.Context, j *job, d time.Duration) {
	r.update(j, func(s *indexer.Job) {
		if !j.onlyAsked {
			s.Next = time.Now().Add(d)
		}
	})
	j.wait(ctx, d)
}

// begin records that a run has begun.
func (r *runner) begin(j *job, at time.Time) {
	r.metrics.JobRunning.WithLabelValues(j.name).Set(1)
	r.update(j, func(s *indexer.Job) { s.Running, s.LastBegin, s.Next, s.Done, s.Total = true, at, time.Time{}, 0, 0 })
}

// stop records that no run is under way.
func (r *runner) stop(j *job) {
	r.metrics.JobRunning.WithLabelValues(j.name).Set(0)
	r.update(j, func(s *indexer.Job) { s.Running = false })
}

// end records that a run has ended, and how.
func (r *runner) end(j *job, began time.Time, err error) {
	r.stop(j)
	now := time.Now()
	r.metrics.JobSeconds.WithLabelValues(j.name).Set(now.Sub(began).Seconds())
	text := ""
	if err == nil {
		r.metrics.JobSuccess.WithLabelValues(j.name).Set(float64(now.UnixMilli()) / 1000)
	} else {
		r.metrics.JobFailures.WithLabelValues(j.name).Inc()
		text = reason(err)
	}
	r.update(j, func(s *indexer.Job) { s.LastEnd, s.LastError = now, text })
}

// update changes the state of a job, which it adds if there is none yet.
func (r *runner) update(j *job, change func(*indexer.Job)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.states, func(s indexer.Job) bool { return s.Name == j.name })
	if i < 0 {
		i = len(r.states)
		r.states = append(r.states, indexer.Job{Name: j.name})
	}
	change(&r.states[i])
}
