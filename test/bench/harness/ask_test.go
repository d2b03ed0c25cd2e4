package harness

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// A server that stands still for a while is asked all the same: every request that
// should have been sent meanwhile has waited. A closed loop of one client hides that,
// since it waits too.
func TestOpenLoopDoesNotExcuse(t *testing.T) {
	t.Parallel()
	const stall, requests, perSecond = 300 * time.Millisecond, 100, 200
	var once sync.Once
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		mu.Lock() // one at a time
		defer mu.Unlock()
		once.Do(func() { time.Sleep(stall) })
	}))
	defer server.Close()
	p, err := NewAsker(server.URL).OpenLoop(t.Context(), slices.Repeat([]string{"/"}, requests), perSecond)
	if err != nil {
		t.Fatal(err)
	}
	// 60 of 100 were due during the stall, so about half of those waited half of it.
	waited := 0
	for _, a := range p.Answers {
		if a.MS > Milliseconds(stall/2) {
			waited++
		}
	}
	if len(p.Answers) != requests || waited < 25 {
		t.Errorf("%d answers of %d, %d of them waited", len(p.Answers), requests, waited)
	}
}

// Each path is requested once, and what was refused does not look fast.
func TestClosedLoop(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	asked := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if asked[r.URL.Path]++; r.URL.Path == "/7" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprint(w, "0123456789")
	}))
	defer server.Close()
	var paths []string
	for i := range 50 {
		paths = append(paths, fmt.Sprintf("/%d", i))
	}
	p, err := NewAsker(server.URL).ClosedLoop(t.Context(), paths, 8, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if asked[path] != 1 {
			t.Errorf("%s was requested %d times", path, asked[path])
		}
	}
	if n, status := p.Failed(); n != 1 || status != http.StatusServiceUnavailable {
		t.Errorf("%d failed, with %d", n, status)
	}
	if w := p.Slowest(); w.Path != "/7" || w.MS < Milliseconds(requestTime) || p.Quantile(1) != w.MS {
		t.Errorf("the slowest is %+v", w)
	}
	if len(p.Answers) != 50 || p.Bytes() != 10 || p.PerSecond() <= 0 || p.Quantile(0.5) <= 0 {
		t.Errorf("%d answers of %v bytes, %v a second, median %v ms",
			len(p.Answers), p.Bytes(), p.PerSecond(), p.Quantile(0.5))
	}
}
