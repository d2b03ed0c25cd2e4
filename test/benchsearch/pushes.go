package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/registry/push"
)

// searchTimeout is when we stop waiting for a push to show in a search.
const searchTimeout = 10 * time.Second

// leaderLock is the advisory lock of the indexer that leads (package postgres of
// the indexer). Whoever holds it keeps the others from scanning: a scan of our
// empty registry would take the whole book apart.
const leaderLock = 0x706f7274_6c656164

// pushed pushes images, one after the other, to a real registry whose indexer
// keeps the big book, and watches for them in the search.
func (b *bench) pushed(ctx context.Context, k *book) error {
	s := &section{Title: "Push to searchable"}
	b.report.Sections = append(b.report.Sections, s)
	b.tell("Pushes (load average %s)", loadAverage())
	return b.on(ctx, k.database, func(leader *pgx.Conn) error {
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
		s.add(figure{Name: fmt.Sprintf("%d pushes one after the other: median", len(all)), Value: quantile(all, 0.5), Unit: "ms"}.below(50))
		s.add(figure{Name: "  p90", Value: quantile(all, 0.9), Unit: "ms"})
		s.add(figure{Name: "  p99", Value: quantile(all, 0.99), Unit: "ms"}.below(300))
		s.add(figure{Name: "  slowest", Value: quantile(all, 1), Unit: "ms"})
		s.note("from the registry's 201 until GET /v1/search shows the image; asked every millisecond, later every tenth of the time waited")
		return forget(ctx, leader)
	})
}

// forget takes out of the book what was pushed or taken in.
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
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	r, err := b.startRegistry(ctx, "http://"+address+"/events")
	if err != nil {
		return nil, err
	}
	defer r.stop()
	i, err := b.startIndexer(ctx, k.database, address, "PORTBOOK_REGISTRY_URL="+r.url, "PORTBOOK_EVENTS_TOKEN="+token)
	if err != nil {
		return nil, err
	}
	defer i.stop()
	w := watcher{push.New(r.url), newAsker(k, i.url)}
	var all []float64
	for n := range b.pushes + 10 {
		ms, err := w.watch(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("%w; the indexer's log ends: %s", err, i.tail())
		}
		if n >= 10 { // the first ones warm up
			all = append(all, ms)
		}
	}
	return all, nil
}

// A watcher pushes images and watches for them in the search.
type watcher struct {
	client *push.Client
	*asker
}

// watch pushes an image and gives how long it took from the registry's 201 for
// the manifest until a search for its word shows it.
func (w watcher) watch(ctx context.Context, n int) (ms float64, err error) {
	word := uniqueWord(n)
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
	stored := time.Now()
	ctx, cancel := context.WithTimeout(ctx, searchTimeout)
	defer cancel()
	for {
		shown, err := w.shows(ctx, word, name)
		elapsed := time.Since(stored)
		if shown || err != nil {
			return milliseconds(elapsed), err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%s not searchable after %v", name, searchTimeout)
		case <-time.After(min(max(elapsed/10, time.Millisecond), 500*time.Millisecond)):
		}
	}
}

// uniqueWord is a word of one length for each number, so that none begins with
// another, and none is in the vocabulary.
func uniqueWord(n int) string {
	word := []byte("qz      ")
	for i := len(word) - 1; i >= 2; i-- {
		word[i] = 'a' + byte(n%26)
		n /= 26
	}
	return string(word)
}

func (w watcher) shows(ctx context.Context, word, name string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/v1/search?n=5&q="+word, nil)
	if err != nil {
		return false, err
	}
	resp, err := w.http.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("search for %s: status %d", word, resp.StatusCode)
	}
	var answer struct{ Results []struct{ Name string } }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return false, err
	}
	for _, r := range answer.Results {
		if r.Name == name {
			return true, nil
		}
	}
	return false, nil
}
