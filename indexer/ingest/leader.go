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
	// scanEvery is how often the leader looks for a scan that was requested or is due.
	scanEvery = 250 * time.Millisecond
	// leadAgain is the pause after a scan or the lead failed, for example because the
	// registry or the database is unavailable. It doubles with each further failure of
	// a scan, up to leadAgainMost.
	leadAgain     = time.Second
	leadAgainMost = 8 * time.Second
	// partitionEvery is how often partitions are created and dropped. They are created
	// three months ahead, so there is time to react to a failure.
	partitionEvery = time.Hour
	// forgetEvery is how often old rows of search_change are deleted: every minute. With
	// fifty pushes a second these are 3,000 rows.
	forgetEvery = time.Minute
	// putBackEvery is how often the leader looks for protected tags that are not back yet
	// though an operation was to put them back: every 10 s.
	putBackEvery = 10 * time.Second
	// plansEvery is how often it is looked whether a plan is due: every minute.
	plansEvery = time.Minute
	// watchEvery is how often the leader checks whether the registry was restarted, by
	// one request for /v2/: every 5 s. watchPause is the minimum time between two scans
	// requested because of a restart.
	watchEvery = 5 * time.Second
	watchPause = time.Minute
	// rollUpEvery is how often pulls and pushes are added to the counts, and the catalogue
	// version moves because of that: every minute. Nobody waits for it. forgetUsageEvery is how
	// often what need not be kept of them is deleted.
	rollUpEvery      = time.Minute
	forgetUsageEvery = 10 * time.Minute
	// collectEvery is how often the garbage collection of blobs looks whether anything is due:
	// every 10 s, so that a blob in the trash that a push needs is soon put back. collectAgain
	// and collectAgainMost are the pauses after it failed.
	collectEvery     = 10 * time.Second
	collectAgain     = 10 * time.Second
	collectAgainMost = 10 * time.Minute
	// upkeepPause is the minimum pause between two runs of the jobs search and storage,
	// and upkeepShare how many times longer than the last run it is: a minute for a small
	// book, an hour for the search of a million repositories and several for their
	// storage. These jobs use at most a hundredth of the database's time.
	upkeepPause = time.Minute
	upkeepShare = 100
	// webhooksPause is the minimum pause between two counts of what waits for webhooks: 2 s, in
	// which a scan can queue some thousand events more than deliver.MaxWaiting.
	webhooksPause = 2 * time.Second
)

// A Leader runs the jobs that only one process may run at a time: scans and upkeep. The
// database decides which process leads.
type Leader struct {
	config    LeaderConfig
	runner    runner
	forgotten time.Time // when what need not be kept of usage was last deleted
}

// A LeaderConfig holds the settings of a Leader. A zero Watch means 5 seconds; the other
// zero durations turn their job off.
type LeaderConfig struct {
	Store          *postgres.Store
	Scanner        *Scanner
	Log            *slog.Logger
	Metrics        *Metrics
	FetchAll       time.Duration // from the beginning of one scan to the next; 0: scans only on request
	GarbageCollect time.Duration // between two runs of tidy; 0: never
	Watch          time.Duration // between two checks for a restart of the registry; 0: 5 s
	RollUp         time.Duration // between two roll-ups of pulls; 0: a minute
	Retention      postgres.Retention
	Trash          time.Duration // how long deleted manifests are kept; 0: for ever
	// Collect is a step of the garbage collection of blobs; nil: there is none. It is repeated
	// after CollectEvery; 0 means collectEvery.
	Collect      func(context.Context) error
	CollectEvery time.Duration
	// Plans makes a plan of what rules of retention would delete, if one is due; nil: never.
	Plans func(context.Context) error
}

// NewLeader returns a leader that does nothing before Run.
func NewLeader(c LeaderConfig) *Leader {
	asked := requests{c.Store, c.Log, &sync.Map{}}
	return &Leader{config: c, runner: runner{log: c.Log, metrics: c.Metrics, requests: asked}}
}

// Run waits for the lead and leads until the context ends. If it loses the lead it waits
// again.
func (l *Leader) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := l.config.Store.Lead(ctx, l.lead)
		l.config.Metrics.Leader.Set(0)
		if ctx.Err() == nil && err != nil {
			l.config.Log.WarnContext(ctx, "not leading", "error", err)
			rest(ctx, leadAgain)
		}
	}
	return nil
}

// lead runs the jobs and reports their states until the context ends.
func (l *Leader) lead(ctx context.Context) error {
	l.config.Log.InfoContext(ctx, "leading")
	l.config.Metrics.Leader.Set(1)
	watch := l.newWatch()
	defer watch.probe.Close()
	jobs := l.jobs(watch)
	l.runner.add(jobs)
	report := &reporter{store: l.config.Store, log: l.config.Log, jobs: l.runner.jobs}
	var beside sync.WaitGroup
	beside.Go(func() { report.run(ctx) })
	beside.Go(func() { l.runner.requests.watch(ctx, jobs) })
	l.runner.run(ctx, jobs)
	beside.Wait()
	report.last(ctx)
	return context.Cause(ctx)
}

// jobs returns all jobs, in the order in which they are shown.
func (l *Leader) jobs(watch *watch) []*job {
	rarely := inProportion(upkeepPause, upkeepShare)
	search := &job{name: "search", next: always(l.rewriteRows), pause: rarely}
	counting := make(chan struct{}, 1) // storage is counted by one job at a time
	storage := &job{name: "storage", next: always(l.countStorage), pause: rarely, alone: counting}
	alone := make(chan struct{}, 1) // scan and tidy never run at the same time
	scan := &job{name: "scan", next: l.dueScan, pause: backoff(scanEvery, leadAgain, leadAgainMost), alone: alone}
	scan.ask = func(ctx context.Context) error { return l.config.Store.RequestScan(ctx, "job") }
	times := &job{name: "times", next: always(l.giveTimes), pause: rarely}
	scan.after = []*job{search, storage, times} // a scan may change much
	all := []*job{
		scan,
		search,
		storage,
		{name: "partitions", next: always(l.keepPartitions), pause: every(partitionEvery)},
		{name: "changes", next: always(l.forgetChanges), pause: every(forgetEvery)},
		{name: "usage", next: always(l.rollUpUsage), pause: every(cmp.Or(l.config.RollUp, rollUpEvery))},
		{name: "protection", next: always(l.putBack), pause: every(putBackEvery)},
		{name: "webhooks", next: always(l.tidyWebhooks), pause: inProportion(webhooksPause, upkeepShare)},
		{name: "watch", next: always(watch.look), pause: every(cmp.Or(l.config.Watch, watchEvery))},
		{name: "loose", next: always(l.pruneLoose), pause: every(looseEvery)},
		times,
	}
	if l.config.Trash > 0 {
		all = append(all, &job{name: "trash", next: always(l.emptyTrash), pause: every(emptyEvery)})
	}
	if l.config.Plans != nil {
		all = append(all, &job{name: "plans", next: always(l.config.Plans), pause: every(plansEvery)})
	}
	if l.config.GarbageCollect > 0 {
		interval := l.config.GarbageCollect
		all = append(all, &job{name: "tidy", next: always(l.tidy), delay: interval, pause: every(interval), alone: alone})
	}
	if l.config.Collect != nil {
		pause := backoff(cmp.Or(l.config.CollectEvery, collectEvery), collectAgain, collectAgainMost)
		all = append(all, &job{name: "collect", next: always(l.config.Collect), pause: pause})
	}
	all = append(all, l.internalJobs(scan, counting)...)
	for _, j := range all {
		j.nudge = make(chan struct{}, 1)
	}
	return all
}

// dueScan returns the scan to do now, or nil if there is none. It requests one if the
// interval is over.
func (l *Leader) dueScan(ctx context.Context) (step, error) {
	if l.config.FetchAll > 0 {
		since, err := l.config.Store.SinceScan(ctx)
		if err != nil && !errors.Is(err, indexer.ErrNotFound) {
			return nil, err
		}
		if err == nil && since >= l.config.FetchAll {
			if err := l.config.Store.RequestScan(ctx, "interval"); err != nil {
				return nil, err
			}
		}
	}
	return l.config.Scanner.next(ctx)
}

// A watch is the job that notices restarts of the registry: a restarted registry has lost
// the events that it had not sent, and the next push would be the first sign of that.
type watch struct {
	store     *postgres.Store
	log       *slog.Logger
	probe     *remote.Probe
	restarted bool      // since the last requested scan
	requested time.Time // when that scan was requested
}

func (l *Leader) newWatch() *watch {
	return &watch{store: l.config.Store, log: l.config.Log, probe: remote.NewProbe(l.config.Scanner.config.Remote)}
}

// look requests a scan if the registry seems to have been restarted.
func (w *watch) look(ctx context.Context) error {
	w.restarted = w.probe.Look(ctx) || w.restarted
	if !w.restarted || time.Since(w.requested) < watchPause {
		return nil
	}
	if err := w.store.RequestScan(ctx, "restart"); err != nil {
		return err
	}
	w.log.InfoContext(ctx, "scan requested: the registry seems to have been restarted")
	w.requested, w.restarted = time.Now(), false
	return nil
}

// tidy deletes rows that nothing refers to any more.
func (l *Leader) tidy(ctx context.Context) error {
	n, err := l.config.Store.Tidy(ctx)
	if err != nil {
		return err
	}
	l.config.Log.InfoContext(ctx, "tidied", "blobs", n.Blobs, "repositories", n.Repositories,
		"scans", n.Scans, "instances", n.Instances, "plans", n.Plans, "operations", n.Operations)
	return nil
}

const (
	// emptyEvery is the interval between two runs of emptyTrash: 10 min.
	emptyEvery = 10 * time.Minute
	// emptyAtOnce is how many manifests are removed from the trash in one statement: 1,000.
	emptyAtOnce = 1000
)

// emptyTrash removes the manifests from the trash that were deleted too long ago.
func (l *Leader) emptyTrash(ctx context.Context) error {
	for {
		n, err := l.config.Store.EmptyTrash(ctx, l.config.Trash, emptyAtOnce)
		if err != nil || n == 0 {
			return err
		}
		l.config.Log.DebugContext(ctx, "emptied the trash", "manifests", n)
	}
}

// keepPartitions creates and drops partitions.
func (l *Leader) keepPartitions(ctx context.Context) error {
	p, err := l.config.Store.Partition(ctx, l.config.Retention)
	if len(p.Created) > 0 || len(p.Dropped) > 0 {
		l.config.Log.InfoContext(ctx, "partitions", "made", p.Created, "dropped", p.Dropped)
	}
	return err
}

// forgetChanges deletes rows that tell copies of the search rows what to read again.
func (l *Leader) forgetChanges(ctx context.Context) error {
	n, err := l.config.Store.ForgetChanges(ctx)
	if n > 0 {
		l.config.Log.DebugContext(ctx, "changes of the search forgotten", "rows", n)
	}
	return err
}

// rollUpUsage adds pulls and pushes to the counts, and from time to time deletes what need
// not be kept of them.
func (l *Leader) rollUpUsage(ctx context.Context) error {
	n, err := l.config.Store.RollUpUsage(ctx)
	if n > 0 {
		l.config.Log.DebugContext(ctx, "usage rolled up", "rows", n)
	}
	if err != nil || time.Since(l.forgotten) < forgetUsageEvery {
		return err
	}
	l.forgotten = time.Now()
	f, err := l.config.Store.ForgetUsage(ctx, l.config.Retention.Usage)
	if f.Days+f.Tags+f.Manifests+f.Repositories > 0 {
		l.config.Log.InfoContext(ctx, "old usage deleted", "days", f.Days, "tags", f.Tags, "manifests", f.Manifests,
			"repositories", f.Repositories)
	}
	return err
}

// putBack asks once more for protected tags to be put back.
func (l *Leader) putBack(ctx context.Context) error {
	n, err := l.config.Store.PutBackAgain(ctx)
	if n > 0 {
		l.config.Log.WarnContext(ctx, "protected tags are not back yet", "tags", n)
	}
	return err
}

// tidyWebhooks counts what waits for webhooks, and deletes what has ended long ago.
func (l *Leader) tidyWebhooks(ctx context.Context) error {
	n, err := l.config.Store.TidyWebhooks(ctx)
	if n.Full > 0 || n.Expired > 0 || n.Told > 0 {
		l.config.Log.InfoContext(ctx, "webhooks tidied", "full", n.Full, "given_up", n.Expired, "told_missed", n.Told)
	}
	return err
}

// countStorage counts the bytes of repositories.
func (l *Leader) countStorage(ctx context.Context) error {
	n, err := l.config.Store.CountStorage(ctx)
	if n > 0 {
		l.config.Log.DebugContext(ctx, "storage counted", "rows_changed", n)
	}
	return err
}

// rewriteRows rewrites search rows of another form.
func (l *Leader) rewriteRows(ctx context.Context) (err error) {
	rewritten, after := 0, ""
	for n := 1; n > 0 && err == nil; rewritten += n {
		n, after, err = l.config.Store.ReformAfter(ctx, after)
	}
	if rewritten > 0 {
		l.config.Log.InfoContext(ctx, "search updated", "rows_rewritten", rewritten)
	}
	return err
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
