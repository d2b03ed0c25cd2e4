package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/registry/push"
)

// A bench is one run of the program.
type bench struct {
	*system
	config
	progress io.Writer
	report   report

	registry *registry
	reader   *reader
	survey   *survey
	book     *pgx.Conn // the database of the last first scan

	catalogue map[string]weight // of the book after the scans
}

// measure does everything, and cleans up.
func measure(ctx context.Context, c config, progress io.Writer) (*report, error) {
	root, err := filepath.Abs(clone)
	if err != nil {
		return nil, err
	}
	b := &bench{config: c, progress: progress}
	began := time.Now()
	b.report.Conditions = conditions{Cores: runtime.NumCPU(), LoadBefore: loadAverage(), Go: runtime.Version(), Began: began}
	b.tell("Building the registry and the indexer, and starting PostgreSQL")
	if b.system, err = newSystem(ctx, root); err != nil {
		return nil, err
	}
	err = b.all(ctx)
	b.report.Conditions.LoadAfter = loadAverage()
	b.tell("Removing everything")
	err = errors.Join(err, b.close())
	b.report.Conditions.Seconds = time.Since(began).Seconds()
	return &b.report, err
}

func (b *bench) all(ctx context.Context) error {
	if err := b.readStatements(ctx); err != nil {
		return err
	}
	steps := []struct {
		title string
		skip  bool
		run   func(context.Context, *section) error
	}{
		{"Fill", false, b.fill},
		{"First scan", false, b.firstScans},
		{"Rescan with nothing changed", false, b.unchanged},
		{"What scans ask and write", false, b.counts},
		{"Push to searchable", b.serial == 0, b.pushes},
		{"Sizes", false, b.sizes},
		{"Memory at many repositories", b.wide == 0, b.memory},
	}
	for _, step := range steps {
		if step.skip {
			continue
		}
		b.tell("%s (load average %s)", step.title, loadAverage())
		s := &section{Title: step.title}
		start := time.Now()
		if err := step.run(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(step.title), err)
		}
		s.Seconds = time.Since(start).Seconds()
		b.report.Sections = append(b.report.Sections, s)
	}
	return nil
}

func (b *bench) tell(format string, args ...any) {
	fmt.Fprintf(b.progress, format+"\n", args...)
}

// fill fills the registry and surveys it.
func (b *bench) fill(ctx context.Context, s *section) (err error) {
	if b.registry, err = b.startRegistry(ctx, b.onDisk(), ""); err != nil {
		return err
	}
	start := time.Now()
	if err := fill(ctx, push.New(b.registry.url), repositories(b.repositories), b.tags, true); err != nil {
		return err
	}
	seconds := time.Since(start).Seconds()
	b.reader = newReader(b.registry.url)
	if b.survey, err = b.reader.look(ctx); err != nil {
		return err
	}
	s.add(figure{Name: "repositories", Value: float64(b.survey.repositories)})
	s.add(figure{Name: "tags", Value: float64(b.survey.tags)})
	s.add(figure{Name: "manifests", Value: float64(b.survey.manifests)})
	s.add(figure{Name: "pushed", Value: float64(b.survey.tags) / seconds, Unit: "tags/s"})
	return nil
}

// firstScans reads all of the registry, in turns with and without a book.
func (b *bench) firstScans(ctx context.Context, s *section) error {
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
		conn, err := b.newDatabase(ctx, b.registry.url, fmt.Sprintf("first%d", i))
		if err != nil {
			return err
		}
		two, err := b.scanRun(ctx, meters, b.registry.url, conn)
		if err != nil {
			return err
		}
		bare, ours = append(bare, one), append(ours, two)
		b.tell("  bare %.2f s, scan %.2f s", one.seconds, two.seconds)
		if b.book != nil {
			if err := b.dropDatabase(ctx, b.book); err != nil {
				return err
			}
		}
		b.book = conn
	}
	compare(s, len(plan.requests()), bare, ours, 80)
	s.add(medianOf("time until all was listed", "s", pick(ours, func(m measurement) float64 { return m.listed })))
	s.add(medianOf("time until all was read", "s", pick(ours, func(m measurement) float64 { return m.seconds })))
	s.add(medianOf("peak memory of the indexer", "MB", pick(ours, megabytes)))
	return b.showStatements(ctx, s)
}

// unchanged asks whether anything has changed, in turns with and without a book.
func (b *bench) unchanged(ctx context.Context, s *section) error {
	plan := b.survey.again
	meters := b.meters(b.registry, os.Getpid())
	var bare, ours []measurement
	for range b.rescans {
		one, err := bareRun(ctx, meters, b.reader, plan)
		if err != nil {
			return err
		}
		two, err := b.scanRun(ctx, meters, b.registry.url, b.book)
		if err != nil {
			return err
		}
		bare, ours = append(bare, one), append(ours, two)
		b.tell("  bare %.2f s, rescan %.2f s", one.seconds, two.seconds)
	}
	compare(s, len(plan.requests()), bare, ours, 90)
	if err := b.showStatements(ctx, s); err != nil {
		return err
	}
	var err error
	b.catalogue, err = weigh(ctx, b.book)
	return err
}

// compare adds the rates of both, and the median of the ratios of each turn: two
// runs that follow each other share what else the machine does.
func compare(s *section, requests int, bare, ours []measurement, goal float64) {
	rate := func(m measurement) float64 { return float64(requests) / m.seconds }
	var ratios []float64
	for i := range bare {
		ratios = append(ratios, 100*bare[i].seconds/ours[i].seconds)
	}
	s.add(figure{Name: "requests", Value: float64(requests)})
	s.add(medianOf("bare reads", "requests/s", pick(bare, rate)))
	s.add(medianOf("the indexer's", "requests/s", pick(ours, rate)))
	s.add(medianOf("ratio", "%", ratios).atLeast(goal))
	// Where all cores are busy this is what the ratio would be without others,
	// who give a scan of more processes a larger share.
	s.add(figure{Name: "ratio by processor time", Value: 100 * total(bare) / total(ours), Unit: "%"})
	s.note("processor seconds of bare reads: %s", processor(bare))
	s.note("processor seconds of the indexer's, its start included: %s", processor(ours))
}

func pick(all []measurement, f func(measurement) float64) []float64 {
	var values []float64
	for _, m := range all {
		values = append(values, f(m))
	}
	return values
}

func megabytes(m measurement) float64 { return float64(m.peak) / 1e6 }

// total is the median of the processor seconds of all who took part.
func total(all []measurement) float64 {
	return quantile(pick(all, func(m measurement) (sum float64) {
		for _, seconds := range m.used {
			sum += seconds
		}
		return sum
	}), 0.5)
}

// processor gives the median of the processor time of each who took part.
func processor(all []measurement) string {
	var names, parts []string
	for name := range all[0].used {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		seconds := quantile(pick(all, func(m measurement) float64 { return m.used[name] }), 0.5)
		parts = append(parts, name+" "+number(seconds))
	}
	return strings.Join(parts, ", ")
}

// counts lets the indexer scan through a counter, untimed, and compares what it
// asks for with the plans, and what it writes with nothing.
func (b *bench) counts(ctx context.Context, s *section) error {
	counter, err := startCounter(b.registry.url)
	if err != nil {
		return err
	}
	defer counter.close()
	conn, err := b.newDatabase(ctx, counter.url, "counted")
	if err != nil {
		return err
	}
	if _, err := b.scanRun(ctx, nil, counter.url, conn); err != nil {
		return err
	}
	more, missing := difference(counter.take(), b.survey.first.requests())
	s.add(figure{Name: "first scan: requests that bare reads do not make", Value: float64(more)}.mustBe(0))
	s.add(figure{Name: "first scan: requests that only bare reads make", Value: float64(missing)}.mustBe(0))

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
	s.add(figure{Name: "rescan: requests that bare reads do not make", Value: float64(more)})
	s.add(figure{Name: "rescan: requests that only bare reads make", Value: float64(missing)})
	s.add(figure{Name: "rescan: manifests and blobs fetched", Value: float64(bodies(seen))}.mustBe(0))
	for _, kind := range []string{"catalogue", "kept"} {
		s.add(figure{Name: "rescan: rows written in " + kind + " tables", Value: float64(after[kind] - before[kind])}.mustBe(0))
	}
	s.add(figure{Name: "rescan: rows written in work tables", Value: float64(after["work"] - before["work"])})
	return b.dropDatabase(ctx, conn)
}

// pushes runs "indexer serve" with events on, on the book of the first scans.
func (b *bench) pushes(ctx context.Context, s *section) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	operations, err := freeAddress()
	if err != nil {
		return err
	}
	if err := b.barePushes(ctx, s); err != nil {
		return err
	}
	b.registry.stop()
	if b.registry, err = b.startRegistry(ctx, b.onDisk(), "http://"+address+"/events"); err != nil {
		return err
	}
	env := append(b.indexerEnv(b.registry.url, b.book.Config().Database),
		"PORTBOOK_HTTP_ADDRESS="+address, "PORTBOOK_HTTP_OPERATIONS_ADDRESS="+operations, "PORTBOOK_EVENTS_TOKEN="+token)
	serve, err := b.launch("indexer", env, "serve")
	if err != nil {
		return err
	}
	defer serve.Kill()
	if err := ready(ctx, serve, "http://"+operations+"/readyz"); err != nil {
		return err
	}
	w := newWatcher(b.registry.url, "http://"+address)
	// The first event of a registry that just started asks for a scan, as it
	// should; it is over before anything is timed.
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
	latencies(s, fmt.Sprintf("%d pushes one after the other", b.serial), all)
	if after, err = b.addArrival(ctx, s, after); err != nil || b.rate*b.seconds == 0 {
		return err
	}
	all, achieved, err := open(ctx, b.rate, b.rate*b.seconds, w.watch)
	if err != nil {
		return err
	}
	latencies(s, fmt.Sprintf("%d pushes a second for %d s", b.rate, b.seconds), all)
	if _, err := b.addArrival(ctx, s, after); err != nil {
		return err
	}
	s.add(figure{Name: "  pushes a second it came to", Value: achieved})
	s.add(figure{Name: "peak memory of the indexer", Value: float64(peakMemory(serve.PID())) / 1e6, Unit: "MB"})
	s.note("from the registry's 201 until GET /v1/search shows the image; asked every millisecond, later every tenth of the time waited")
	return b.showStatements(ctx, s)
}

// barePushes tells how many pushes a second the registry takes at the rate of
// the measurement while nobody listens: what it cannot take alone, it cannot
// with an indexer beside it.
func (b *bench) barePushes(ctx context.Context, s *section) error {
	if b.rate*b.seconds == 0 {
		return nil
	}
	w := newWatcher(b.registry.url, "")
	w.next.Store(1_000_000) // words that the measurement does not use
	all, achieved, err := open(ctx, b.rate, b.rate*min(b.seconds, 5), w.push)
	s.add(medianOf(fmt.Sprintf("a push by itself, %s a second, no indexer", number(achieved)), "ms", all))
	return err
}

// lastEvent is when the last event came in that is stored.
func (b *bench) lastEvent(ctx context.Context) (at time.Time, err error) {
	err = b.book.QueryRow(ctx, "SELECT max(received_at) FROM event").Scan(&at)
	return at, err
}

// addArrival adds how long the events since one time were under way: from when
// the registry made each, which is a little before its 201, until it was stored.
func (b *bench) addArrival(ctx context.Context, s *section, after time.Time) (time.Time, error) {
	const q = `SELECT extract(epoch FROM received_at - at)::float8 * 1000 FROM event WHERE received_at > $1`
	rows, err := b.book.Query(ctx, q, after)
	if err != nil {
		return after, err
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[float64])
	if err != nil {
		return after, err
	}
	s.add(figure{Name: "  of it, until the event was here: median", Value: quantile(all, 0.5), Unit: "ms"})
	s.add(figure{Name: "  of it, until the event was here: p99", Value: quantile(all, 0.99), Unit: "ms"})
	return b.lastEvent(ctx)
}

// latencies adds percentiles, with the goals of a push.
func latencies(s *section, name string, all []float64) {
	median := medianOf(name+": median", "ms", all).below(50)
	s.add(median)
	s.add(figure{Name: "  p90", Value: quantile(all, 0.90), Unit: "ms"})
	s.add(figure{Name: "  p99", Value: quantile(all, 0.99), Unit: "ms"}.below(300))
	s.add(figure{Name: "  slowest", Value: quantile(all, 1), Unit: "ms"})
}

// quiet waits until no scan is asked for and no task is left.
func (b *bench) quiet(ctx context.Context) error {
	return wait(ctx, scanTimeout, "the end of all scans", func() (quiet bool, err error) {
		const q = `
			SELECT NOT EXISTS (SELECT FROM scan WHERE finished_at IS NULL)
				AND NOT EXISTS (SELECT FROM task WHERE given_up_at IS NULL)`
		err = b.book.QueryRow(ctx, q).Scan(&quiet)
		return quiet, err
	})
}

// memory scans a registry of many repositories, of one tag each.
func (b *bench) memory(ctx context.Context, s *section) error {
	r, err := b.startRegistry(ctx, inMemory, "")
	if err != nil {
		return err
	}
	defer r.stop()
	start := time.Now()
	if err := fill(ctx, push.New(r.url), repositories(b.wide), 1, false); err != nil {
		return err
	}
	filled := time.Since(start)
	conn, err := b.newDatabase(ctx, r.url, "wide")
	if err != nil {
		return err
	}
	first, err := b.scanRun(ctx, nil, r.url, conn)
	if err != nil {
		return err
	}
	again, err := b.scanRun(ctx, nil, r.url, conn)
	if err != nil {
		return err
	}
	s.add(figure{Name: "repositories, of one tag each", Value: float64(b.wide)})
	s.add(figure{Name: "first scan", Value: first.seconds, Unit: "s"})
	s.add(figure{Name: "peak memory of the indexer, first scan", Value: megabytes(first), Unit: "MB"})
	s.add(figure{Name: "rescan", Value: again.seconds, Unit: "s"})
	s.add(figure{Name: "peak memory of the indexer, rescan", Value: megabytes(again), Unit: "MB"})
	s.note("filled in %.0f s", filled.Seconds())
	return b.dropDatabase(ctx, conn)
}
