package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
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
	// openTime is how long requests arrive in an open loop.
	openTime = 20 * time.Second
)

// openRates are the searches in a second of the open loops.
var openRates = []float64{200, openRate}

// An asker sends requests to an indexer that serves a book.
type asker struct {
	*harness.Asker
	*book
	pid int // of the indexer
}

func newAsker(k *book, i *harness.Indexer) *asker { return &asker{harness.NewAsker(i.URL), k, i.PID()} }

// A measured holds the results of one class on one book.
type measured struct {
	class
	one, many harness.Pass // many only of the big book
	processor float64      // milliseconds of PostgreSQL and the indexer per request, one client
	naive     float64      // milliseconds; 0: not measured
	missing   string       // the path, if the route does not exist
}

// questions measures every class on a book, with one client and, if whole, with several.
func (b *bench) questions(ctx context.Context, k *book, s *harness.Section, whole bool) (all []measured, err error) {
	i, _, err := b.reader(ctx, k, s)
	if err != nil {
		return nil, err
	}
	defer i.Stop()
	a := newAsker(k, i)
	for _, c := range classes {
		if !strings.Contains(c.name, b.only) {
			continue
		}
		b.Tell("  %s (load average %s)", c.name, harness.LoadAverage())
		m := measured{class: c}
		if err := b.class(ctx, s, &m, a, whole); err != nil {
			return all, fmt.Errorf("%s: %w", c.name, err)
		}
		all = append(all, m)
	}
	if whole && b.only == "" {
		err = b.mix(ctx, a, s)
	}
	s.AddPeakMemory(a.pid)
	return all, err
}

// class measures one class: some requests to warm up, then the measured ones.
func (b *bench) class(ctx context.Context, s *harness.Section, m *measured, a *asker, whole bool) error {
	probe, err := a.Ask(ctx, m.draws(a.book, "probe", 1)[0])
	if err != nil {
		return err
	}
	if probe.Status == http.StatusNotFound {
		m.missing = probe.Path
		return nil
	}
	if _, err := a.ClosedLoop(ctx, m.draws(a.book, "warm", b.requests/4), 1, passTime); err != nil {
		return err
	}
	if err := b.countStatements(ctx, a.book); err != nil {
		return err
	}
	paths := m.draws(a.book, "one", b.requests) // before the timing starts: some draws make a whole repository
	before := b.processor(a)
	if m.one, err = a.ClosedLoop(ctx, paths, 1, passTime); err != nil {
		return err
	}
	m.processor = 1000 * (b.processor(a) - before) / float64(len(m.one.Answers))
	if err := b.showStatements(ctx, a.book, s, m.name); err != nil || !whole {
		return err
	}
	m.many, err = a.ClosedLoop(ctx, m.draws(a.book, "many", 4*b.requests), manyClients, passTime)
	return err
}

// processor returns the processor seconds of PostgreSQL and an indexer so far.
func (b *bench) processor(a *asker) float64 {
	return harness.FamilySeconds(b.Postmaster()) + harness.ProcessorSeconds(a.pid)
}

// mix sends all kinds of searches in turn, in closed and in open loops.
func (b *bench) mix(ctx context.Context, a *asker, s *harness.Section) error {
	b.Tell("  all searches mixed (load average %s)", harness.LoadAverage())
	for _, clients := range []int{1, manyClients} {
		p, err := a.ClosedLoop(ctx, mixed(a.book, fmt.Sprint("mix ", clients), 10*b.requests), clients, passTime)
		if err != nil {
			return err
		}
		b.addMixed(s, p, fmt.Sprintf("all searches mixed, clients: %d", clients), clients)
	}
	for _, rate := range openRates {
		paths := mixed(a.book, fmt.Sprint("open ", rate), int(rate*min(openTime.Seconds(), float64(b.requests)/10)))
		p, err := a.OpenLoop(ctx, paths, rate)
		if err != nil {
			return err
		}
		b.addMixed(s, p, fmt.Sprintf("all searches mixed, open loop of %s a second", harness.Number(rate)), 0)
	}
	return nil
}

// addMixed adds the results of mixed searches, with the goals that apply; clients is 0
// for an open loop.
func (b *bench) addMixed(s *harness.Section, p harness.Pass, name string, clients int) {
	f := b.add(figuresOf(p, name, clients))
	rate := harness.Figure{Name: name, Value: f.RPS, Unit: "1/s"}
	p99 := harness.Figure{Name: "  p99", Value: f.P99, Unit: "ms"}
	worst := harness.Figure{Name: "  slowest", Value: f.Worst, Unit: "ms"}
	switch clients {
	case 0:
		p99 = p99.Below(goalOpen)
	case 1:
		p99 = p99.Below(goalOne)
	default:
		rate, worst = rate.AtLeast(goalRate), worst.Below(goalMany)
	}
	s.Add(rate)
	s.Add(harness.Figure{Name: "  median", Value: f.P50, Unit: "ms"})
	s.Add(p99)
	s.Add(harness.Figure{Name: "  p99.9", Value: f.P999, Unit: "ms"})
	s.Add(worst)
	noteFailed(s, name, p)
}

// noteFailed notes the answers that were refused.
func noteFailed(s *harness.Section, name string, p harness.Pass) {
	if n, status := p.Failed(); n > 0 {
		s.Note("%s: %d of %d answers with status %d", name, n, len(p.Answers), status)
	}
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
