package ingest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

const (
	// reportEvery is how often the leader reports the states of its jobs if nothing
	// happens: every 20 s. An idle leader writes nothing else. Processes that show the
	// states allow for three times as long: indexer.JobReport.IsCurrent.
	reportEvery = 20 * time.Second
	// reportLook is the minimum time between two reports, and how long the report of a
	// change is delayed so that a run that takes milliseconds causes one write: 1 s.
	reportLook = time.Second
	// reportProgress is the minimum time between two reports of nothing but progress: 3 s.
	reportProgress = 3 * time.Second
	// reportTimeout limits one report: 2 s. It takes a few milliseconds.
	reportTimeout = 2 * time.Second
)

// A jobStore stores reports; see postgres.Store.
type jobStore interface {
	BeginReports(ctx context.Context, jobs []indexer.Job) (since time.Time, err error)
	ReportJobs(ctx context.Context, since time.Time, jobs []indexer.Job) error
}

// A reporter stores the states of the jobs of a leader, for other processes to show. The
// jobs neither wait for it nor notice its errors.
type reporter struct {
	store jobStore
	log   *slog.Logger
	jobs  func() []indexer.Job // the states of now, always of the same jobs

	since    time.Time     // identifies this leader in the store; the zero time before the first report
	stored   []indexer.Job // the last report
	storedAt time.Time
	failing  bool      // the last report failed
	replaced time.Time // when another process was found to lead, or our row to be gone
}

// run reports until the context ends.
func (r *reporter) run(ctx context.Context) {
	for ctx.Err() == nil {
		r.look(ctx)
		rest(ctx, reportLook)
	}
}

// look reports if a report is due.
func (r *reporter) look(ctx context.Context) {
	jobs := r.jobs()
	moved := time.Since(r.storedAt) >= reportProgress && !slices.EqualFunc(r.stored, jobs, sameProgress)
	if moved || time.Since(r.storedAt) >= reportEvery || !slices.EqualFunc(r.stored, jobs, mayWait) {
		r.report(ctx, jobs)
	}
}

// sameProgress reports whether a job is as far as when it was stored.
func sameProgress(stored, now indexer.Job) bool {
	return stored.Done == now.Done && stored.Total == now.Total
}

// mayWait reports whether the change of a job since it was stored is unimportant: the
// next regular report is early enough to store it. A job that runs every few seconds
// changes only in this way, unless it fails or takes seconds.
func mayWait(stored, now indexer.Job) bool {
	return stored.Running == now.Running && stored.LastError == now.LastError &&
		now.LastEnd.Sub(stored.LastEnd) < reportEvery
}

// last reports the states after the jobs have ended. ctx may have ended too.
func (r *reporter) last(ctx context.Context) {
	if !r.since.IsZero() {
		r.report(context.WithoutCancel(ctx), r.jobs())
	}
}

// report stores jobs. It logs an error once until a report is stored again. If another
// process leads, run ends within seconds: see Store.Lead. If it has not ended after
// reportEvery, we still lead, and only our row is gone; then report begins again.
func (r *reporter) report(ctx context.Context, jobs []indexer.Job) {
	if time.Since(r.replaced) < reportEvery {
		return
	}
	err := r.send(ctx, jobs)
	switch {
	case err == nil:
		r.stored, r.storedAt, r.failing = jobs, time.Now(), false
	case errors.Is(err, postgres.ErrNotLeader):
		r.since, r.replaced = time.Time{}, time.Now()
	case ctx.Err() == nil && !r.failing:
		r.failing = true
		r.log.WarnContext(ctx, "states of jobs not stored", "error", err)
	}
}

func (r *reporter) send(ctx context.Context, jobs []indexer.Job) (err error) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	if r.since.IsZero() {
		r.since, err = r.store.BeginReports(ctx, jobs)
		return err
	}
	return r.store.ReportJobs(ctx, r.since, jobs)
}
