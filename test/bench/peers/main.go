// Peers compares searches of Portbook beside the stock registry with those of zot, a
// registry that has a search of its own, on this machine with one command: the same
// images, pushed by the same client, and the same questions.
//
// It runs one after the other, so that neither takes processor time from the other. zot
// is a program that you have built (ZOT=program, see doc/performance.md); without it,
// only Portbook is measured.
//
// It exits 1 if something cannot be measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/test/bench/content"
	"github.com/portbook/portbook/test/bench/harness"
)

const (
	// manyClients is the number of parallel clients in the second measurement.
	manyClients = 8
	// passTime is the most time spent on one kind of question.
	passTime = 20 * time.Second
	// fillTimeout is how long to wait until everything that was pushed can be found.
	fillTimeout = 10 * time.Minute
)

// A bench is one run of the program.
type bench struct {
	harness.Bench
	repositories, tags int
	requests           int    // for each question with one client; four times as many with several
	zot                string // the program; "": not measured
	figures            []figures
}

func main() {
	harness.Main("bench-peers", &bench{repositories: 1000, tags: 5, requests: 1000})
}

// Flags implements harness.Benchmark.
func (b *bench) Flags(flags *flag.FlagSet) {
	flags.IntVar(&b.repositories, "repositories", b.repositories, "number of repositories (make: REPOS=n)")
	flags.IntVar(&b.tags, "tags", b.tags, "number of tags of each repository (make: TAGS=n)")
	flags.IntVar(&b.requests, "requests", b.requests, "number of requests for each question with one client")
	flags.StringVar(&b.zot, "zot", "", "the `program` of zot, with its search (make: ZOT=program)")
}

// Check implements harness.Benchmark.
func (b *bench) Check() (err error) {
	if b.repositories < 10 || b.tags < 1 {
		return fmt.Errorf("%d repositories of %d tags are too few", b.repositories, b.tags)
	}
	b.zot, err = harness.InClone(b.zot)
	return err
}

// Results implements harness.Benchmark.
func (b *bench) Results() any {
	return struct {
		*harness.Report
		Tags      int       `json:"tags"` // of each repository
		Questions []figures `json:"questions"`
	}{&b.Report, b.tags, b.figures}
}

// Measure implements harness.Benchmark.
func (b *bench) Measure(ctx context.Context) error {
	b.Report.Conditions.Repositories = b.repositories
	repositories := content.Repositories(b.repositories)
	peers := []peer{{"Portbook", b.startPortbook, portbookPath}}
	if b.zot != "" {
		peers = append(peers, peer{"zot", b.startZot, zotPath})
	}
	for _, p := range peers {
		err := b.Step(ctx, p.name, func(ctx context.Context, s *harness.Section) error {
			return b.peer(ctx, s, p, repositories)
		})
		if err != nil {
			return err
		}
	}
	b.compare()
	return nil
}

// peer fills a peer and asks it everything.
func (b *bench) peer(ctx context.Context, s *harness.Section, p peer, repositories []content.Repository) error {
	r, err := p.start(ctx)
	if err != nil {
		return err
	}
	defer r.stop()
	start, before := time.Now(), r.processor()
	if err := content.Fill(ctx, push.New(r.registry), repositories, b.tags, true); err != nil {
		return err
	}
	filled := time.Since(start).Seconds()
	a := &asker{harness.NewAsker(r.search), p.path, newWords(repositories)}
	if a.digests, err = digests(ctx, r.registry, repositories); err != nil {
		return err
	}
	last := repositories[len(repositories)-1].Name
	err = harness.Wait(ctx, fillTimeout, "a search to find "+last, func() (bool, error) { return a.finds(ctx, last) })
	if err == nil {
		err = r.settled(ctx)
	}
	if err != nil {
		return err
	}
	s.Add(harness.Figure{Name: "pushing all images", Value: filled, Unit: "s"})
	s.Add(harness.Figure{Name: "  processor time, until all can be found", Value: r.processor() - before, Unit: "s"})
	s.Add(harness.Figure{Name: "memory afterwards", Value: float64(r.memory()) / 1e6, Unit: "MB"})
	for _, q := range questions {
		b.Tell("  %s (load average %s)", q, harness.LoadAverage())
		if err := b.question(ctx, s, p.name, r, a, q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	s.Add(harness.Figure{Name: "memory after all questions", Value: float64(r.memory()) / 1e6, Unit: "MB"})
	return nil
}

// question asks one kind of question, with one client and with several.
func (b *bench) question(ctx context.Context, s *harness.Section, name string, r *running, a *asker, q question) error {
	if err := a.check(ctx, q); err != nil {
		return err
	}
	if _, err := a.ClosedLoop(ctx, a.paths(q, "warm", b.requests/10), 1, passTime); err != nil {
		return err
	}
	for _, clients := range []int{1, manyClients} {
		paths := a.paths(q, fmt.Sprint("clients ", clients), b.requests*min(clients, 4))
		before := r.processor()
		p, err := a.ClosedLoop(ctx, paths, clients, passTime)
		if err != nil {
			return err
		}
		b.figures = append(b.figures, figures{
			Peer: name, Question: string(q), Clients: clients, Requests: len(p.Answers), Queries: p.Queries(),
			P50: p.Quantile(0.5), P99: p.Quantile(0.99), Worst: p.Quantile(1), RPS: p.PerSecond(), Bytes: p.Bytes(),
			Processor: 1000 * (r.processor() - before) / float64(max(len(p.Answers), 1)),
		})
		if n, status := p.Failed(); n > 0 {
			s.Note("%s, %d clients: %d of %d answers with status %d", q, clients, n, len(p.Answers), status)
		}
	}
	return nil
}
