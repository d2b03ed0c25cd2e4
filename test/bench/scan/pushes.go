package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/test/bench/harness"
)

// pushesAtOnce limits the parallel pushes if the machine cannot keep up.
const pushesAtOnce = 64

// A watcher pushes images and searches for them.
type watcher struct {
	client *push.Client
	http   *http.Client
	search string       // address of the indexer
	next   atomic.Int64 // number of the last image
}

func newWatcher(registry, indexer string) *watcher {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = pushesAtOnce
	client := &http.Client{Transport: transport, Timeout: harness.SearchTimeout}
	return &watcher{client: push.New(registry), http: client, search: indexer}
}

// A pushFunc pushes one image and returns a time in milliseconds.
type pushFunc func(context.Context) (float64, error)

// pick returns a new unique word and a repository name that contains it.
func (w *watcher) pick() (word, name string) {
	word = harness.UniqueWord(int(w.next.Add(1)))
	return word, "bench/" + word
}

func (w *watcher) image(ctx context.Context, word, name string) error {
	_, err := w.client.Image(ctx, name, "v1", push.ImageSpec{
		Labels: map[string]string{"org.opencontainers.image.description": "Image " + word},
		Files:  map[string]string{"word": word},
	})
	return err
}

// push pushes an image and returns how long that took.
func (w *watcher) push(ctx context.Context) (ms float64, err error) {
	start := time.Now()
	word, name := w.pick()
	err = w.image(ctx, word, name)
	return harness.Milliseconds(time.Since(start)), err
}

// watch pushes an image and returns the time from the registry's 201 for the manifest
// until a search for its word finds it.
func (w *watcher) watch(ctx context.Context) (ms float64, err error) {
	word, name := w.pick()
	if err := w.image(ctx, word, name); err != nil {
		return 0, err
	}
	return harness.Searchable(ctx, w.http, w.search, word, name)
}

// serial pushes n images, each after the one before is searchable.
func (w *watcher) serial(ctx context.Context, n int) ([]float64, error) {
	var all []float64
	for range n {
		ms, err := w.watch(ctx)
		if err != nil {
			return all, err
		}
		all = append(all, ms)
	}
	return all, nil
}

// A lookout searches for the images of many pushes at the same time. If each push
// searched for its own image, a few late ones would keep the machine busy with searches
// and delay others: at 50 pushes a second on two cores that never ended.
type lookout struct {
	*watcher
	mu    sync.Mutex
	shown map[string]chan struct{} // by name; closed once a search finds it
}

// pause is the time between two searches of a lookout: 10 ms, a fifth of the goal. A
// search takes 2 ms of processor time in all programs together.
const pause = 10 * time.Millisecond

// howLooked describes the milliseconds that a lookout measures.
const howLooked = "for pushes that do not wait, one search every 10 ms lists the newest images; " +
	"a push that it shows is then searched for by its word"

// run searches until ctx ends.
func (l *lookout) run(ctx context.Context) error {
	for ctx.Err() == nil {
		names, err := harness.Names(ctx, l.http, l.search, "namespace:bench")
		if err != nil && ctx.Err() == nil {
			return err
		}
		l.mu.Lock()
		for _, name := range names {
			if shown := l.shown[name]; shown != nil {
				close(shown)
				delete(l.shown, name)
			}
		}
		l.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// watch is like the watcher's watch.
func (l *lookout) watch(ctx context.Context) (ms float64, err error) {
	word, name := l.pick()
	shown := make(chan struct{})
	l.mu.Lock()
	l.shown[name] = shown
	l.mu.Unlock()
	if err := l.image(ctx, word, name); err != nil {
		return 0, err
	}
	stored := time.Now()
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(harness.SearchTimeout):
		return 0, fmt.Errorf("%s is not among the newest after %v", name, harness.SearchTimeout)
	case <-shown:
	}
	_, err = harness.Searchable(ctx, l.http, l.search, word, name)
	return harness.Milliseconds(time.Since(stored)), err
}

// open starts rate pushes a second, whether or not earlier ones are done, and returns
// the milliseconds of each and the rate it achieved.
func open(ctx context.Context, rate, n int, push pushFunc) (all []float64, achieved float64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	room := make(chan struct{}, pushesAtOnce)
	var group sync.WaitGroup
	var mu sync.Mutex
	start := time.Now()
	for i := range n {
		select {
		case <-time.After(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(rate)))):
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		room <- struct{}{}
		group.Go(func() {
			defer func() { <-room }()
			ms, err := push(ctx)
			if err != nil {
				cancel(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, ms)
		})
	}
	group.Wait()
	return all, float64(len(all)) / time.Since(start).Seconds(), context.Cause(ctx)
}
