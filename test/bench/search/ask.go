package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/test/bench/harness"
)

const (
	// manyClients is the number of parallel clients in the second measurement.
	manyClients = 8
	// passTime is the most time spent on one class, so that a slow one does not delay
	// the others.
	passTime = 20 * time.Second
	// naiveTime is the most time spent on the naive statements of one class.
	naiveTime = 60 * time.Second
	// requestTime is how long to wait for an answer.
	requestTime = 30 * time.Second
)

// An asker sends requests to one indexer.
type asker struct {
	*book
	http *http.Client
	url  string
	pid  int // of the indexer
}

func newAsker(k *book, url string) *asker {
	// DisableCompression: otherwise this process would decompress the answers.
	transport := &http.Transport{MaxIdleConnsPerHost: manyClients, DisableCompression: true}
	return &asker{book: k, http: &http.Client{Transport: transport, Timeout: requestTime}, url: url}
}

// An answer is the result of one request.
type answer struct {
	ms     float64
	status int
	path   string
}

// ask sends one request, as a client that accepts gzip, and reads the whole answer.
func (a *asker) ask(ctx context.Context, path string) (answer, error) {
	start := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+path, nil)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Accept-Encoding", "gzip")
	resp, err := a.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return answer{}, ctx.Err()
		}
		return answer{harness.Milliseconds(time.Since(start)), 0, path}, nil // no answer in time: the worst result
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return answer{harness.Milliseconds(time.Since(start)), resp.StatusCode, path}, err
}

// A pass is the result of requests of one class.
type pass struct {
	answers []answer
	seconds float64
}

// pass sends n requests from the given number of clients, or fewer if they take too
// long. The parameters of each request depend only on turn and its number.
func (a *asker) pass(ctx context.Context, turn string, path func(draw) string, clients, n int) (p pass, err error) {
	queue := make(chan string, n)
	for number := range n { // before the timing starts: some draws make a whole repository
		queue <- path(draw{source(turn, number), a.book})
	}
	close(queue)
	var mu sync.Mutex
	start := time.Now()
	err = parallel(ctx, clients, func(ctx context.Context, _ int) error {
		for path := range queue {
			if time.Since(start) > passTime {
				return nil
			}
			one, err := a.ask(ctx, path)
			if err != nil {
				return err
			}
			mu.Lock()
			p.answers = append(p.answers, one)
			mu.Unlock()
		}
		return nil
	})
	p.seconds = time.Since(start).Seconds()
	return p, err
}

func (p pass) quantile(q float64) float64 {
	var all []float64
	for _, a := range p.answers {
		all = append(all, a.ms)
	}
	return harness.Quantile(all, q)
}

func (p pass) rps() float64 {
	if len(p.answers) == 0 {
		return 0
	}
	return float64(len(p.answers)) / p.seconds
}

// figures returns the results of a class.
func (p pass) figures(name string, clients int, goal, naive float64) classFigures {
	return classFigures{
		Name: name, Clients: clients, P50: p.quantile(0.5), P99: p.quantile(0.99), Goal: goal, RPS: p.rps(), Baseline: naive,
	}
}

// failed counts the answers other than 200, and returns the status of one.
func (p pass) failed() (n int, status int) {
	for _, a := range p.answers {
		if a.status != http.StatusOK {
			n, status = n+1, a.status
		}
	}
	return n, status
}

func (p pass) slowest() answer {
	var worst answer
	for _, a := range p.answers {
		if a.ms > worst.ms {
			worst = a
		}
	}
	return worst
}

// A measured holds the results of one class.
type measured struct {
	class
	small, one, many pass
	processor        float64 // milliseconds of PostgreSQL and the indexer per request, one client
	naive            float64 // milliseconds; 0: not measured
	missing          string  // the path, if the route does not exist
}

// classes measures every class on both books.
func (b *bench) classes(ctx context.Context, small, big *book) error {
	s := b.Section("Questions")
	var all []measured
	askers := map[*book]*asker{}
	for _, k := range []*book{small, big} {
		i, err := b.StartReader(ctx, k.database)
		if err != nil {
			return err
		}
		defer i.Stop()
		askers[k] = newAsker(k, i.URL)
		askers[k].pid = i.PID()
	}
	for _, c := range classes {
		if !strings.Contains(c.name, b.only) {
			continue
		}
		b.Tell("  %s (load average %s)", c.name, harness.LoadAverage())
		m := measured{class: c}
		if err := b.class(ctx, s, &m, askers[small], askers[big]); err != nil {
			b.reportClasses(s, all, pass{})
			return fmt.Errorf("%s: %w", c.name, err)
		}
		all = append(all, m)
	}
	var mixed pass
	if b.only == "" {
		var err error
		if mixed, err = b.mix(ctx, askers[big]); err != nil {
			return err
		}
	}
	s.AddPeakMemory(askers[big].pid)
	err := b.allNaive(ctx, big, all)
	b.reportClasses(s, all, mixed)
	return err
}

// allNaive measures the naive statements after all requests: they read whole tables and
// replace everything else in the caches.
func (b *bench) allNaive(ctx context.Context, big *book, all []measured) error {
	if b.baselines == 0 {
		return nil
	}
	b.Tell("Naive statements (load average %s)", harness.LoadAverage())
	for i, m := range all {
		if m.class.naive == nil || m.missing != "" {
			continue
		}
		var err error
		if all[i].naive, err = b.naive(ctx, big, m.class); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return b.Warm(ctx, big.database)
}

// class measures one class: some requests to warm up, then the measured ones.
func (b *bench) class(ctx context.Context, s *harness.Section, m *measured, small, big *asker) (err error) {
	probe, err := big.ask(ctx, m.path(draw{source("probe", 0), big.book}))
	if err != nil {
		return err
	}
	if probe.status == http.StatusNotFound {
		m.missing = probe.path
		return nil
	}
	for _, a := range []*asker{small, big} {
		if _, err := a.pass(ctx, "warm", m.path, 1, b.requests/4); err != nil {
			return err
		}
	}
	if m.small, err = small.pass(ctx, "one", m.path, 1, b.requests); err != nil {
		return err
	}
	if err := b.countStatements(ctx, big.book); err != nil {
		return err
	}
	before := b.processor(big)
	if m.one, err = big.pass(ctx, "one", m.path, 1, b.requests); err != nil {
		return err
	}
	m.processor = 1000 * (b.processor(big) - before) / float64(len(m.one.answers))
	if err := b.showStatements(ctx, big.book, s, m.name); err != nil {
		return err
	}
	m.many, err = big.pass(ctx, "many", m.path, manyClients, 4*b.requests)
	return err
}

// processor returns the processor seconds of PostgreSQL and an indexer so far.
func (b *bench) processor(a *asker) float64 {
	return harness.FamilySeconds(b.Postmaster()) + harness.ProcessorSeconds(a.pid)
}

// mix sends all kinds of searches in turn.
func (b *bench) mix(ctx context.Context, a *asker) (pass, error) {
	var mixed []class
	for _, c := range classes {
		if c.search {
			mixed = append(mixed, c)
		}
	}
	b.Tell("  all searches mixed (load average %s)", harness.LoadAverage())
	path := func(d draw) string { return mixed[d.IntN(len(mixed))].path(d) }
	return a.pass(ctx, "mix", path, manyClients, 10*b.requests)
}

// naive returns the median time of some runs of the naive statement of a class.
func (b *bench) naive(ctx context.Context, k *book, c class) (float64, error) {
	var all []float64
	err := b.On(ctx, k.database, func(conn *pgx.Conn) error {
		begin := time.Now()
		for i := range b.baselines {
			sql, args := c.naive(draw{source("naive", i), k})
			limit, cancel := context.WithTimeout(ctx, naiveTime)
			start := time.Now()
			rows, err := conn.Query(limit, sql, args...)
			if err == nil {
				for rows.Next() {
				}
				err = rows.Err()
			}
			cancel()
			if err != nil && !errors.Is(limit.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("naive: %w", err)
			}
			all = append(all, harness.Milliseconds(time.Since(start)))
			if err != nil || time.Since(begin) > naiveTime/2 {
				return nil // it takes at least this long
			}
		}
		return nil
	})
	return harness.Quantile(all, 0.5), err
}

// reportClasses adds the results to the report.
func (b *bench) reportClasses(s *harness.Section, all []measured, mixed pass) {
	table := [][]string{{"", "1 client: p50", "p99", "goal", "", "processor", "8 clients: p50", "p99", "per s",
		"naive", "ratio", "growth"}}
	for _, m := range all {
		if m.missing != "" {
			s.Note("NOT MEASURED: %s: there is no such route: %s", m.name, m.missing)
			continue
		}
		one, many := m.one.figures(m.name, 1, m.goal, m.naive), m.many.figures(m.name, manyClients, goalAnything, m.naive)
		b.figures = append(b.figures, one, many)
		judged := "met"
		if one.P99 >= m.goal {
			judged = "MISSED"
		}
		ratio, naive := "", ""
		if m.naive > 0 {
			ratio, naive = harness.Number(m.naive/one.P50), harness.Number(m.naive)
		}
		growth := harness.Number(one.P50 / m.small.quantile(0.5))
		table = append(table, []string{
			m.name, harness.Number(one.P50), harness.Number(one.P99), harness.Number(m.goal), judged,
			harness.Number(m.processor), harness.Number(many.P50), harness.Number(many.P99), harness.Number(many.RPS), naive, ratio, growth,
		})
		if n, status := m.one.failed(); n > 0 {
			s.Note("%s: %d of %d answers with status %d", m.name, n, len(m.one.answers), status)
		}
		if n, status := m.many.failed(); n > 0 {
			s.Note("%s: %d of %d answers to %d clients with status %d", m.name, n, len(m.many.answers), manyClients, status)
		}
		if w := m.one.slowest(); w.ms >= m.goal {
			s.Note("%s: slowest %s ms: %.150s", m.name, harness.Number(w.ms), w.path)
		}
	}
	s.Table = table
	s.Note("milliseconds until the whole answer was read over HTTP; processor: processor time of PostgreSQL and the " +
		"indexer for one request; naive: median of a naive SQL statement, without HTTP; ratio: naive / p50; " +
		"growth: p50 / p50 of the small book")
	if len(mixed.answers) == 0 {
		return
	}
	b.figures = append(b.figures, mixed.figures("all searches mixed", manyClients, goalAnything, 0))
	rate := harness.Figure{Name: fmt.Sprintf("searches with %d clients", manyClients), Value: mixed.rps(), Unit: "1/s"}
	s.Add(rate.AtLeast(1000))
	s.Add(harness.Figure{Name: "  median", Value: mixed.quantile(0.5), Unit: "ms"})
	s.Add(harness.Figure{Name: "  p99", Value: mixed.quantile(0.99), Unit: "ms"}.Below(goalAnything))
	s.Add(harness.Figure{Name: "  slowest", Value: mixed.quantile(1), Unit: "ms"})
	if n, status := mixed.failed(); n > 0 {
		s.Note("all searches mixed: %d of %d answers with status %d", n, len(mixed.answers), status)
	}
}
