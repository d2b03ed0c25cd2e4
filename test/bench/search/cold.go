package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/portbook/portbook/test/bench/harness"
)

const (
	// coldRequests is how many requests are sent to a reader or a PostgreSQL that has just
	// started, at most.
	coldRequests = 3000
	// minPreparation is the least time that requests are sent to a reader that prepares
	// itself; a small book is prepared at once.
	minPreparation = 2 * time.Second
)

// reader starts a reader and waits until it has prepared itself. It adds how long that
// took, and the memory that the reader needs then.
func (b *bench) reader(ctx context.Context, k *book, s *harness.Section) (*harness.Indexer, time.Duration, error) {
	i, err := b.StartReader(ctx, k.database, b.readerSettings()...)
	if err != nil {
		return nil, 0, err
	}
	took, err := harness.Settled(ctx, i.Program)
	if err != nil {
		i.Stop()
		return nil, 0, err
	}
	s.Add(harness.Figure{Name: "a reader has prepared itself after", Value: took.Seconds(), Unit: "s"})
	s.Add(harness.Figure{Name: "  its memory then", Value: float64(harness.Memory(i.PID())) / 1e6, Unit: "MB"})
	return i, took, nil
}

// readerSettings returns the settings of a reader.
func (b *bench) readerSettings() []string {
	return []string{fmt.Sprintf("PORTBOOK_SEARCH_MEMORY=%t", b.memory)}
}

// measureCold measures searches of a reader that has just started, and of a PostgreSQL that has
// nothing in memory.
func (b *bench) measureCold(ctx context.Context, s *harness.Section, k *book) error {
	i, preparation, err := b.reader(ctx, k, s)
	if err != nil {
		return err
	}
	defer i.Stop()
	if err := b.fresh(ctx, s, k, "reader just started", preparation); err != nil {
		return err
	}
	if err := b.Cold(ctx); err != nil {
		s.Note("NOT MEASURED: a cold disk: %v", err)
		return b.Warm(ctx, k.database)
	}
	if err := i.Ready(ctx); err != nil {
		return err
	}
	a, name := newAsker(k, i), "PostgreSQL restarted, nothing cached"
	p, err := a.ClosedLoop(ctx, mixed(k, name, coldRequests), 1, passTime)
	if err != nil {
		return err
	}
	s.Add(harness.Figure{Name: name + ": first answer", Value: p.Answers[0].MS, Unit: "ms"})
	b.addCold(s, name, p)
	if err := b.Cold(ctx); err != nil {
		return err
	}
	if err := b.fresh(ctx, s, k, "both just started, nothing cached", preparation); err != nil {
		return err
	}
	return b.Warm(ctx, k.database)
}

// fresh starts a reader and sends requests at once, as long as it prepares itself.
func (b *bench) fresh(ctx context.Context, s *harness.Section, k *book, name string, preparation time.Duration) error {
	start := time.Now()
	i, err := b.StartReader(ctx, k.database, b.readerSettings()...)
	if err != nil {
		return err
	}
	defer i.Stop()
	s.Add(harness.Figure{Name: name + ": ready after", Value: harness.Milliseconds(time.Since(start)), Unit: "ms"})
	a, paths := newAsker(k, i), mixed(k, name, coldRequests)
	err = harness.Wait(ctx, time.Minute, "the first answer", func() (bool, error) {
		first, err := a.Ask(ctx, paths[0])
		return first.Status == http.StatusOK, err
	})
	if err != nil {
		return fmt.Errorf("%w; its log ends: %s", err, i.Tail())
	}
	s.Add(harness.Figure{Name: "  first answer after", Value: harness.Milliseconds(time.Since(start)), Unit: "ms"})
	p, err := a.ClosedLoop(ctx, paths[1:], 1, min(max(preparation, minPreparation), passTime))
	if err != nil {
		return err
	}
	b.addCold(s, name, p)
	return nil
}

func (b *bench) addCold(s *harness.Section, name string, p harness.Pass) {
	f := b.add(figuresOf(p, name, 1))
	s.Add(harness.Figure{Name: "  searches after that: median", Value: f.P50, Unit: "ms"})
	s.Add(harness.Figure{Name: "  p99", Value: f.P99, Unit: "ms"})
	s.Add(harness.Figure{Name: "  slowest", Value: f.Worst, Unit: "ms"})
	s.Add(harness.Figure{Name: "  number of them", Value: float64(f.Requests), Unit: "requests"})
	noteFailed(s, name, p)
}
