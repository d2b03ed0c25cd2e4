package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/test/bench/harness"
)

// leaderLock is the advisory lock of the indexer that leads (package postgres of the
// indexer). While the benchmark holds it, no indexer scans: a scan of our empty
// registry would delete the whole book.
const leaderLock = 0x706f7274_6c656164

// pushed pushes images, one after the other, to a real registry whose indexer uses the
// big book, and searches for them.
func (b *bench) pushed(ctx context.Context, s *harness.Section, k *book) error {
	return b.On(ctx, k.database, func(leader *pgx.Conn) error {
		if err := forget(ctx, leader); err != nil {
			return err
		}
		if _, err := leader.Exec(ctx, "SELECT pg_advisory_lock($1)", int64(leaderLock)); err != nil {
			return err
		}
		all, err := b.pushAll(ctx, k)
		if err != nil {
			return err
		}
		s.AddPushes(harness.Median(fmt.Sprintf("%d pushes one after the other: median", len(all)), "ms", all), all)
		s.Note(harness.HowSearchable)
		return forget(ctx, leader)
	})
}

// forget deletes from the book what was pushed or ingested.
func forget(ctx context.Context, conn *pgx.Conn) error {
	for _, q := range []string{
		"DELETE FROM repository WHERE name LIKE 'bench-%'",
		"TRUNCATE task, scan, event, tag_history, registry_instance",
	} {
		if _, err := conn.Exec(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) pushAll(ctx context.Context, k *book) ([]float64, error) {
	r, i, err := b.StartBoth(ctx, harness.InMemory, k.database)
	if err != nil {
		return nil, err
	}
	defer r.Stop()
	defer i.Stop()
	if _, err := harness.Settled(ctx, i.Program); err != nil { // until it has a copy of the search rows
		return nil, err
	}
	w := watcher{push.New(r.URL), newAsker(k, i)}
	var all []float64
	for n := range b.pushes + 10 {
		ms, err := w.watch(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("%w; the indexer's log ends: %s", err, i.Tail())
		}
		if n >= 10 { // the first ones warm up
			all = append(all, ms)
		}
	}
	return all, nil
}

// A watcher pushes images and searches for them.
type watcher struct {
	client *push.Client
	*asker
}

// watch pushes an image and returns the time from the registry's 201 for the manifest
// until a search for its word finds it.
func (w watcher) watch(ctx context.Context, n int) (ms float64, err error) {
	word := harness.UniqueWord(n)
	name := "bench-push/" + word
	_, err = w.client.Image(ctx, name, "v1", push.ImageSpec{
		Labels: map[string]string{
			"org.opencontainers.image.description": w.sentence(source("push", n)),
			"org.opencontainers.image.licenses":    "MIT", "com.example.team": "bench",
		},
		Files: map[string]string{"number": fmt.Sprint(n)},
	})
	if err != nil {
		return 0, err
	}
	return harness.Searchable(ctx, w.HTTP, w.URL, word, name)
}
