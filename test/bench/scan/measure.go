package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/test/bench/content"
	"github.com/portbook/portbook/test/bench/harness"
)

// fill fills the registry and surveys it.
func (b *bench) fill(ctx context.Context, s *harness.Section) (err error) {
	if b.registry, err = b.StartRegistry(ctx, b.OnDisk(), ""); err != nil {
		return err
	}
	start := time.Now()
	if err := content.Fill(ctx, push.New(b.registry.URL), content.Repositories(b.repositories), b.tags, true); err != nil {
		return err
	}
	seconds := time.Since(start).Seconds()
	b.reader = newReader(b.registry.URL)
	if b.survey, err = b.reader.look(ctx); err != nil {
		return err
	}
	s.Add(harness.Figure{Name: "repositories", Value: float64(b.survey.repositories)})
	s.Add(harness.Figure{Name: "tags", Value: float64(b.survey.tags)})
	s.Add(harness.Figure{Name: "manifests", Value: float64(b.survey.manifests)})
	s.Add(harness.Figure{Name: "pushed", Value: float64(b.survey.tags) / seconds, Unit: "tags/s"})
	return nil
}

// firstScans reads all of the registry, alternating between bare reads and scans.
func (b *bench) firstScans(ctx context.Context, s *harness.Section) error {
	plan := b.survey.first
	meters := b.meters(b.registry, os.Getpid())
	if err := b.reader.run(ctx, plan); err != nil { // once untimed
		return err
	}
	var bare, ours []measurement
	for i := range b.scans {
		one, err := bareRun(ctx, meters, b.reader, plan)
		if err != nil {
			return err
		}
		conn, err := b.newDatabase(ctx, fmt.Sprintf("first%d", i))
		if err != nil {
			return err
		}
		two, err := b.scanRun(ctx, meters, b.registry.URL, conn)
		if err != nil {
			return err
		}
		bare, ours = append(bare, one), append(ours, two)
		b.Tell("  bare %.2f s, scan %.2f s", one.seconds, two.seconds)
		if b.book != nil {
			if err := b.dropDatabase(ctx, b.book); err != nil {
				return err
			}
		}
		b.book = conn
	}
	compare(s, len(plan.requests()), bare, ours, 80)
	listed := func(m measurement) float64 { return m.listed }
	s.Add(harness.Median("time until all was listed", "s", pick(ours, listed)))
	s.Add(harness.Median("time until all was read", "s", pick(ours, seconds)))
	s.Add(harness.Median("peak memory of the indexer", "MB", pick(ours, megabytes)))
	return b.showStatements(ctx, s)
}

// unchanged checks for changes, alternating between bare reads and scans.
func (b *bench) unchanged(ctx context.Context, s *harness.Section) error {
	plan := b.survey.again
	meters := b.meters(b.registry, os.Getpid())
	var bare, ours []measurement
	for range b.rescans {
		one, err := bareRun(ctx, meters, b.reader, plan)
		if err != nil {
			return err
		}
		two, err := b.scanRun(ctx, meters, b.registry.URL, b.book)
		if err != nil {
			return err
		}
		bare, ours = append(bare, one), append(ours, two)
		b.Tell("  bare %.2f s, rescan %.2f s", one.seconds, two.seconds)
	}
	compare(s, len(plan.requests()), bare, ours, 90)
	if err := b.showStatements(ctx, s); err != nil {
		return err
	}
	var err error
	b.catalogue, err = weigh(ctx, b.book)
	return err
}

// compare adds the rates of both, and the median of the ratios of each pair of runs:
// consecutive runs share the other load on the machine.
func compare(s *harness.Section, requests int, bare, ours []measurement, goal float64) {
	rate := func(m measurement) float64 { return float64(requests) / m.seconds }
	var ratios []float64
	for i := range bare {
		ratios = append(ratios, 100*bare[i].seconds/ours[i].seconds)
	}
	s.Add(harness.Figure{Name: "requests", Value: float64(requests)})
	s.Add(harness.Median("bare reads", "requests/s", pick(bare, rate)))
	s.Add(harness.Median("indexer", "requests/s", pick(ours, rate)))
	s.Add(harness.Median("ratio", "%", ratios).AtLeast(goal))
	// If all cores are busy, this is the ratio without other load, under which a scan
	// gets a larger share of the processors because it has more processes.
	s.Add(harness.Figure{Name: "ratio by processor time", Value: 100 * total(bare) / total(ours), Unit: "%"})
	s.Note("processor seconds of bare reads: %s", processor(bare))
	s.Note("processor seconds of the indexer's scans, including its start: %s", processor(ours))
}

func pick(all []measurement, f func(measurement) float64) []float64 {
	var values []float64
	for _, m := range all {
		values = append(values, f(m))
	}
	return values
}

func seconds(m measurement) float64 { return m.seconds }

func megabytes(m measurement) float64 { return float64(m.peak) / 1e6 }

// total returns the median of the processor seconds of all programs together.
func total(all []measurement) float64 {
	return harness.Quantile(pick(all, func(m measurement) (sum float64) {
		for _, seconds := range m.used {
			sum += seconds
		}
		return sum
	}), 0.5)
}

// processor returns the median of the processor time of each program.
func processor(all []measurement) string {
	var names, parts []string
	for name := range all[0].used {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		seconds := harness.Quantile(pick(all, func(m measurement) float64 { return m.used[name] }), 0.5)
		parts = append(parts, name+" "+harness.Number(seconds))
	}
	return strings.Join(parts, ", ")
}

// counts runs scans through a counter, untimed, and compares their requests with the
// plans, and their writes with nothing.
func (b *bench) counts(ctx context.Context, s *harness.Section) error {
	counter, err := startCounter(b.registry.URL)
	if err != nil {
		return err
	}
	defer counter.close()
	conn, err := b.newDatabase(ctx, "counted")
	if err != nil {
		return err
	}
	if _, err := b.scanRun(ctx, nil, counter.url, conn); err != nil {
		return err
	}
	more, missing := difference(counter.take(), b.survey.first.requests())
	s.Add(harness.Figure{Name: "first scan: requests that bare reads do not make", Value: float64(more)}.MustBe(0))
	s.Add(harness.Figure{Name: "first scan: requests that only bare reads make", Value: float64(missing)}.MustBe(0))

	before, err := written(ctx, conn)
	if err != nil {
		return err
	}
	if _, err := b.scanRun(ctx, nil, counter.url, conn); err != nil {
		return err
	}
	after, err := written(ctx, conn)
	if err != nil {
		return err
	}
	seen := counter.take()
	more, missing = difference(seen, b.survey.again.requests())
	s.Add(harness.Figure{Name: "rescan: requests that bare reads do not make", Value: float64(more)})
	s.Add(harness.Figure{Name: "rescan: requests that only bare reads make", Value: float64(missing)})
	s.Add(harness.Figure{Name: "rescan: manifests and blobs fetched", Value: float64(bodies(seen))}.MustBe(0))
	for _, kind := range []string{"catalogue", "kept"} {
		rows := float64(after[kind] - before[kind])
		s.Add(harness.Figure{Name: "rescan: rows written in " + kind + " tables", Value: rows}.MustBe(0))
	}
	s.Add(harness.Figure{Name: "rescan: rows written in work tables", Value: float64(after["work"] - before["work"])})
	return b.dropDatabase(ctx, conn)
}

// pushes runs "portbook serve" with events, on the book of the first scans.
func (b *bench) pushes(ctx context.Context, s *harness.Section) error {
	if err := b.barePushes(ctx, s); err != nil {
		return err
	}
	b.registry.Stop()
	registry, serve, err := b.StartBoth(ctx, b.OnDisk(), b.book.Config().Database)
	if err != nil {
		return err
	}
	b.registry = registry
	defer serve.Kill()
	w := newWatcher(b.registry.URL, serve.URL)
	// The first event of a newly started registry requests a scan, as it should; it
	// ends before anything is timed.
	if _, err := w.serial(ctx, 3); err != nil {
		return err
	}
	if err := b.quiet(ctx); err != nil {
		return err
	}
	after, err := b.lastEvent(ctx)
	if err != nil {
		return err
	}
	all, err := w.serial(ctx, b.serial)
	if err != nil {
		return err
	}
	s.AddPushes(harness.Median(fmt.Sprintf("%d pushes one after the other: median", b.serial), "ms", all), all)
	if err := b.addArrival(ctx, s, after); err != nil || b.rate*b.seconds == 0 {
		return err
	}
	if err := b.unwatched(ctx, s, w, serve); err != nil {
		return err
	}
	if after, err = b.lastEvent(ctx); err != nil {
		return err
	}
	all, achieved, err := b.watched(ctx, w)
	if err != nil {
		return err
	}
	s.AddPushes(harness.Median(fmt.Sprintf("%d pushes a second for %d s: median", b.rate, b.seconds), "ms", all), all)
	if err := b.addArrival(ctx, s, after); err != nil {
		return err
	}
	s.Add(harness.Figure{Name: "  pushes a second achieved", Value: achieved})
	s.AddPeakMemory(serve.PID())
	s.Note("%s; %s", harness.HowSearchable, howLooked)
	return b.showStatements(ctx, s)
}

// watched measures the time until pushes that do not wait for each other are
// searchable.
func (b *bench) watched(ctx context.Context, w *watcher) (all []float64, achieved float64, err error) {
	l := &lookout{watcher: w, shown: map[string]chan struct{}{}}
	group, ctx := errgroup.WithContext(ctx)
	looking, stop := context.WithCancel(ctx)
	defer stop()
	group.Go(func() error { return l.run(looking) })
	group.Go(func() (err error) {
		defer stop()
		all, achieved, err = open(ctx, b.rate, b.rate*b.seconds, l.watch)
		return err
	})
	err = group.Wait()
	return all, achieved, err
}

// unwatched measures the cost of pushes without searches.
func (b *bench) unwatched(ctx context.Context, s *harness.Section, w *watcher, serve *harness.Indexer) error {
	meters := b.meters(b.registry, os.Getpid())
	meters["indexer"] = func() float64 { return harness.ProcessorSeconds(serve.PID()) }
	before := read(meters)
	all, _, err := open(ctx, b.rate, b.rate*min(b.seconds, 5), w.push)
	if err != nil {
		return err
	}
	if err := b.quiet(ctx); err != nil {
		return err
	}
	used := since(meters, before)
	for name := range used {
		used[name] *= 1000 / float64(len(all))
	}
	s.Note("processor milliseconds of a push without searches: %s", processor([]measurement{{used: used}}))
	return nil
}

// barePushes measures the pushes a second that the registry achieves at the rate of the
// measurement without an indexer: with one it cannot achieve more.
func (b *bench) barePushes(ctx context.Context, s *harness.Section) error {
	if b.rate*b.seconds == 0 {
		return nil
	}
	w := newWatcher(b.registry.URL, "")
	w.next.Store(1_000_000) // words that the measurement does not use
	all, achieved, err := open(ctx, b.rate, b.rate*min(b.seconds, 5), w.push)
	s.Add(harness.Median(fmt.Sprintf("a push without an indexer, %s a second", harness.Number(achieved)), "ms", all))
	return err
}

// lastEvent returns when the last stored event was received.
func (b *bench) lastEvent(ctx context.Context) (at time.Time, err error) {
	err = b.book.QueryRow(ctx, "SELECT max(received_at) FROM event").Scan(&at)
	return at, err
}

// addArrival adds the latency of events after a time: from when the registry made each,
// a little before its 201, until it was stored.
func (b *bench) addArrival(ctx context.Context, s *harness.Section, after time.Time) error {
	const q = `SELECT extract(epoch FROM received_at - at)::float8 * 1000 FROM event WHERE received_at > $1`
	rows, err := b.book.Query(ctx, q, after)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[float64])
	if err != nil {
		return err
	}
	s.Add(harness.Figure{Name: "  until the event was received: median", Value: harness.Quantile(all, 0.5), Unit: "ms"})
	s.Add(harness.Figure{Name: "  until the event was received: p99", Value: harness.Quantile(all, 0.99), Unit: "ms"})
	return nil
}

// quiet waits until no scan is requested and no task is left.
func (b *bench) quiet(ctx context.Context) error {
	return harness.Wait(ctx, scanTimeout, "the end of all scans", func() (quiet bool, err error) {
		const q = `
			SELECT NOT EXISTS (SELECT FROM scan WHERE finished_at IS NULL)
				AND NOT EXISTS (SELECT FROM task WHERE given_up_at IS NULL)`
		err = b.book.QueryRow(ctx, q).Scan(&quiet)
		return quiet, err
	})
}

// memory scans a registry of many repositories with one tag each.
func (b *bench) memory(ctx context.Context, s *harness.Section) error {
	r, err := b.StartRegistry(ctx, harness.InMemory, "")
	if err != nil {
		return err
	}
	defer r.Stop()
	start := time.Now()
	if err := content.Fill(ctx, push.New(r.URL), content.Repositories(b.wide), 1, false); err != nil {
		return err
	}
	filled := time.Since(start)
	conn, err := b.newDatabase(ctx, "wide")
	if err != nil {
		return err
	}
	first, err := b.scanRun(ctx, nil, r.URL, conn)
	if err != nil {
		return err
	}
	again, err := b.scanRun(ctx, nil, r.URL, conn)
	if err != nil {
		return err
	}
	s.Add(harness.Figure{Name: "repositories with one tag each", Value: float64(b.wide)})
	s.Add(harness.Figure{Name: "first scan", Value: first.seconds, Unit: "s"})
	s.Add(harness.Figure{Name: "peak memory of the indexer, first scan", Value: megabytes(first), Unit: "MB"})
	s.Add(harness.Figure{Name: "rescan", Value: again.seconds, Unit: "s"})
	s.Add(harness.Figure{Name: "peak memory of the indexer, rescan", Value: megabytes(again), Unit: "MB"})
	s.Note("filled in %.0f s", filled.Seconds())
	return b.dropDatabase(ctx, conn)
}
