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

// pushesAtOnce bounds the pushes under way if the machine cannot keep up.
const pushesAtOnce = 64

// A watcher pushes images and watches for them in the search.
type watcher struct {
	client *push.Client
	http   *http.Client
	search string       // address of the indexer
	next   atomic.Int64 // number of the last image
}

func newWatcher(registry, indexer string) *watcher {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = pushesAtOnce
	return &watcher{client: push.New(registry), http: &http.Client{Transport: transport, Timeout: harness.SearchTimeout}, search: indexer}
}

// A pushFunc pushes one image and gives the milliseconds that something took.
type pushFunc func(context.Context) (float64, error)

// push pushes an image whose name holds a word that is nowhere else, and gives
// how long that took.
func (w *watcher) push(ctx context.Context) (ms float64, err error) {
	start := time.Now()
	_, _, err = w.image(ctx)
	return harness.Milliseconds(time.Since(start)), err
}

func (w *watcher) image(ctx context.Context) (word, name string, err error) {
	n := w.next.Add(1)
	word = harness.UniqueWord(int(n))
	name = "bench/" + word
	_, err = w.client.Image(ctx, name, "v1", push.ImageSpec{
		Labels: map[string]string{"org.opencontainers.image.description": fmt.Sprintf("Image number %d", n)},
		Files:  map[string]string{"number": fmt.Sprint(n)},
	})
	return word, name, err
}

// watch pushes an image and gives how long it took from the registry's 201 for
// the manifest until a search for its word shows it.
func (w *watcher) watch(ctx context.Context) (ms float64, err error) {
	word, name, err := w.image(ctx)
	if err != nil {
		return 0, err
	}
	return harness.Searchable(ctx, w.http, w.search, word, name)
}

// serial pushes n images, each when the one before is searchable.
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

// open begins so many pushes a second, whether or not earlier ones are done, and
// gives the milliseconds of each and the pushes a second that it came to.
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
