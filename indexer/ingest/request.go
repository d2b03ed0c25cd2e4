package ingest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

// requestEvery is how often the leader looks for runs of jobs that somebody has asked for: 250 ms.
const requestEvery = 250 * time.Millisecond

// requests are the runs of jobs that somebody asks for: see Store.RequestJob. Without a store
// there are none.
type requests struct {
	store *postgres.Store
	log   *slog.Logger
	asked *sync.Map // names of jobs of which a run was asked for and not begun
}

// watch wakes the jobs that somebody has asked for, until the context ends. At first these are
// also those of a leader that died during the run.
func (q requests) watch(ctx context.Context, jobs []*job) {
	if q.store == nil {
		return
	}
	open := true
	for ctx.Err() == nil {
		names, err := q.store.RequestedJobs(ctx, open)
		if err == nil {
			open = false
		}
		for _, name := range names {
			i := slices.IndexFunc(jobs, func(j *job) bool { return j.name == name })
			if i < 0 {
				err = errors.Join(err, q.refuse(ctx, name))
				continue
			}
			q.asked.Store(name, true)
			jobs[i].wake()
		}
		if err != nil && ctx.Err() == nil {
			q.log.WarnContext(ctx, "requests of jobs not read", "error", err)
			rest(ctx, leadAgain)
		}
		rest(ctx, requestEvery)
	}
}

// refuse ends the runs of a job that this leader does not have.
func (q requests) refuse(ctx context.Context, name string) error {
	ids, err := q.store.BeginRuns(ctx, name)
	if err != nil {
		return err
	}
	return q.store.EndRuns(ctx, ids, name+": the job is turned off in the configuration")
}

// begin begins the runs of a job that were asked for, and returns their ids.
func (q requests) begin(ctx context.Context, j *job) (ids []int64, err error) {
	if q.store == nil {
		return nil, nil
	}
	if _, asked := q.asked.LoadAndDelete(j.name); !asked {
		return nil, nil
	}
	if ids, err = q.store.BeginRuns(ctx, j.name); err != nil {
		q.asked.Store(j.name, true)
		return nil, err
	}
	if j.ask != nil && len(ids) > 0 {
		err = j.ask(ctx)
	}
	return ids, err
}

// end ends runs, with the error of the job. If the context has ended they stay open, for the
// next leader.
func (q requests) end(ctx context.Context, ids []int64, j *job, failure error) error {
	if len(ids) == 0 || ctx.Err() != nil {
		return nil
	}
	text := ""
	if failure != nil {
		text = runReason(j.name, failure)
	}
	return q.store.EndRuns(ctx, ids, text)
}

// A partFailed is the error of a job that is a part of another one.
type partFailed struct {
	job string
	err error
}

func (e *partFailed) Error() string { return e.job + ": " + e.err.Error() }
func (e *partFailed) Unwrap() error { return e.err }

// runReason returns why a job failed, after the name of the job, or of the part that failed.
func runReason(name string, err error) string {
	var part *partFailed
	if errors.As(err, &part) {
		name = part.job
	}
	return name + ": " + indexer.Reason(err)
}
