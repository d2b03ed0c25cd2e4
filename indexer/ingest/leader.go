package ingest

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

const (
	// leadEvery is how often the leader looks for a scan that is asked for or
	// due.
	leadEvery = 250 * time.Millisecond
	// leadAgain is the pause after a scan or the lead failed, as when the
	// registry or the database is away; each is twice the one before, up to
	// leadAgainMost.
	leadAgain     = time.Second
	leadAgainMost = 8 * time.Second
	// partitionEvery is how often partitions are made and dropped. They are made
	// three months ahead, so a failure has time.
	partitionEvery = time.Hour
)

// A Leader scans and tidies, in whichever process the database lets lead.
type Leader struct {
	Store          *postgres.Store
	Scanner        *Scanner
	Log            *slog.Logger
	Metrics        *Metrics
	FetchAll       time.Duration // a scan begins this long after the one before; 0: only when asked for
	GarbageCollect time.Duration // tidying; 0: never
	Retention      postgres.Retention
}

// Run waits for the lead and leads, again and again, until the context ends.
func (l *Leader) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := l.Store.Lead(ctx, l.lead)
		l.Metrics.Leader.Set(0)
		if ctx.Err() == nil && err != nil {
			l.Log.WarnContext(ctx, "not leading", "error", err)
			rest(ctx, leadAgain)
		}
	}
	return nil
}

// lead scans and tidies when it is time, until the context ends.
func (l *Leader) lead(ctx context.Context) error {
	l.Log.InfoContext(ctx, "leading")
	l.Metrics.Leader.Set(1)
	var upkeep sync.WaitGroup
	upkeep.Go(func() { l.keepPartitions(ctx) }) // apart from scans, which may take hours
	defer upkeep.Wait()
	tidy := time.Now().Add(l.GarbageCollect)
	pause := leadAgain
	for ctx.Err() == nil {
		if err := l.scan(ctx); err != nil && ctx.Err() == nil {
			l.Log.WarnContext(ctx, "scan interrupted", "error", err, "again_in", pause)
			rest(ctx, pause)
			pause = min(2*pause, leadAgainMost)
			continue
		}
		pause = leadAgain
		if l.GarbageCollect > 0 && time.Now().After(tidy) {
			l.tidy(ctx)
			tidy = time.Now().Add(l.GarbageCollect)
		}
		rest(ctx, leadEvery)
	}
	return context.Cause(ctx)
}

// scan does the scan that is due, or asked for, if there is one.
func (l *Leader) scan(ctx context.Context) error {
	if l.FetchAll > 0 {
		since, err := l.Store.SinceScan(ctx)
		if err != nil && !errors.Is(err, indexer.ErrNotFound) {
			return err
		}
		if err == nil && since >= l.FetchAll {
			if err := l.Store.RequestScan(ctx, "interval"); err != nil {
				return err
			}
		}
	}
	_, err := l.Scanner.Run(ctx)
	return err
}

func (l *Leader) tidy(ctx context.Context) {
	n, err := l.Store.Tidy(ctx)
	if err != nil {
		l.Log.WarnContext(ctx, "tidying failed", "error", err)
		return
	}
	l.Log.InfoContext(ctx, "tidied", "blobs", n.Blobs, "repositories", n.Repositories, "scans", n.Scans, "instances", n.Instances)
}

// keepPartitions makes and drops partitions until the context ends.
func (l *Leader) keepPartitions(ctx context.Context) {
	for ctx.Err() == nil {
		p, err := l.Store.Partition(ctx, l.Retention)
		if err != nil && ctx.Err() == nil {
			l.Log.WarnContext(ctx, "upkeep of partitions failed", "error", err, "again_in", partitionEvery)
		}
		if len(p.Created) > 0 || len(p.Dropped) > 0 {
			l.Log.InfoContext(ctx, "partitions", "made", p.Created, "dropped", p.Dropped)
		}
		rest(ctx, partitionEvery)
	}
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
