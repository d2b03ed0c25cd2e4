package ingest

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
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
	// watchEvery is how often the leader looks whether the registry was restarted: every
	// 5 s, by one request for /v2/. watchPause is the least between two scans that it
	// asks for because of that: a minute.
	watchEvery = 5 * time.Second
	watchPause = time.Minute
	// keepPause is the least between two times that tiers and vocabulary are found
	// anew, or that storage is counted, and keepShare how many times as long as it
	// took the last time: a minute of a small book, an hour of a million
	// repositories and hours of their storage, and never more than a hundredth of
	// the database.
	keepPause = time.Minute
	keepShare = 100
)

// A Leader scans and tidies, in whichever process the database lets lead.
type Leader struct {
	Store          *postgres.Store
	Scanner        *Scanner
	Log            *slog.Logger
	Metrics        *Metrics
	FetchAll       time.Duration // a scan begins this long after the one before; 0: only when asked for
	GarbageCollect time.Duration // tidying; 0: never
	Watch          time.Duration // between two looks for a restart of the registry; 0: five seconds
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
	upkeep.Go(func() { l.watch(ctx) })
	search, storage := make(chan struct{}, 1), make(chan struct{}, 1)
	upkeep.Go(func() { l.keep(ctx, "search", search, l.sortOut) })
	upkeep.Go(func() { l.keep(ctx, "storage", storage, l.countStorage) })
	defer upkeep.Wait()
	tidy := time.Now().Add(l.GarbageCollect)
	pause := leadAgain
	for ctx.Err() == nil {
		ran, err := l.scan(ctx)
		if ran {
			nudge(search)
			nudge(storage)
		}
		if err != nil && ctx.Err() == nil {
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
func (l *Leader) scan(ctx context.Context) (ran bool, err error) {
	if l.FetchAll > 0 {
		since, err := l.Store.SinceScan(ctx)
		if err != nil && !errors.Is(err, indexer.ErrNotFound) {
			return false, err
		}
		if err == nil && since >= l.FetchAll {
			if err := l.Store.RequestScan(ctx, "interval"); err != nil {
				return false, err
			}
		}
	}
	return l.Scanner.Run(ctx)
}

// watch asks for a scan when the registry seems to have been restarted, until the
// context ends: it loses what it had not told us, and says so only with the next
// push.
func (l *Leader) watch(ctx context.Context) {
	probe := remote.NewProbe(l.Scanner.Remote)
	defer probe.Close()
	var asked time.Time
	restarted := false
	for ctx.Err() == nil {
		restarted = probe.Look(ctx) || restarted
		if restarted && time.Since(asked) >= watchPause {
			if err := l.Store.RequestScan(ctx, "restart"); err == nil {
				l.Log.InfoContext(ctx, "the registry seems to have been restarted: a scan is asked for")
				asked, restarted = time.Now(), false
			} else if ctx.Err() == nil {
				l.Log.WarnContext(ctx, "scan not asked for", "error", err)
			}
		}
		rest(ctx, cmp.Or(l.Watch, watchEvery))
	}
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

// keep finds anew what is found from time to time, and when it is nudged, until
// the context ends.
func (l *Leader) keep(ctx context.Context, what string, nudge <-chan struct{}, find func(context.Context) error) {
	for ctx.Err() == nil {
		start := time.Now()
		err := find(ctx)
		pause := max(keepPause, keepShare*time.Since(start))
		if err != nil && ctx.Err() == nil {
			l.Log.WarnContext(ctx, "upkeep failed", "of", what, "error", err, "again_in", pause)
		}
		select {
		case <-ctx.Done():
		case <-nudge:
		case <-time.After(pause):
		}
	}
}

// nudge tells a keep of it, unless it has been told already.
func nudge(keep chan<- struct{}) {
	select {
	case keep <- struct{}{}:
	default:
	}
}

func (l *Leader) countStorage(ctx context.Context) error {
	n, err := l.Store.CountStorage(ctx)
	if n > 0 {
		l.Log.DebugContext(ctx, "storage counted", "rows_changed", n)
	}
	return err
}

// sortOut makes search rows of an older form anew, and then finds tiers and
// vocabulary anew.
func (l *Leader) sortOut(ctx context.Context) error {
	reformed, after := 0, ""
	for {
		n, last, err := l.Store.ReformAfter(ctx, after)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		reformed, after = reformed+n, last
	}
	moved, err := l.Store.Retier(ctx)
	if err != nil {
		return err
	}
	words, err := l.Store.Vocabulary(ctx)
	if reformed+moved+words > 0 {
		l.Log.InfoContext(ctx, "search sorted out", "rows_made_anew", reformed, "moved_to_another_tier", moved, "words_changed", words)
	}
	return err
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
