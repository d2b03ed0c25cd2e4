package web_test

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
)

// An open page is soon informed of a new version, and the program can stop while
// pages are open.
func TestLive(t *testing.T) {
	t.Parallel()
	var number, reads atomic.Int64
	number.Store(7)
	stopping := make(chan struct{})
	s := httptest.NewServer(web.New(web.Config{WebUI: true, Stopping: stopping, Read: func(_ context.Context, _ indexer.Asker, f func(answer.Book) error) error {
		reads.Add(1)
		return f(&book{version: indexer.Version{Epoch: "e", Number: number.Load()}})
	}}))
	t.Cleanup(s.Close)
	var lines []<-chan string
	for range 5 {
		lines = append(lines, listen(t, s.URL+"/live"))
	}
	next := func(page <-chan string, want string) {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for {
			select {
			case line, open := <-page:
				if line == want || !open && want == "" {
					return
				}
				if !open {
					t.Fatalf("the stream ended before %q", want)
				}
			case <-deadline:
				t.Fatalf("%q did not arrive", want)
			}
		}
	}
	for _, page := range lines {
		next(page, "data: e.7")
	}
	number.Store(8)
	for _, page := range lines {
		next(page, "data: e.8")
	}
	if n := reads.Load(); n > 8 {
		t.Errorf("five pages asked the book %d times", n)
	}
	close(stopping)
	for _, page := range lines {
		next(page, "")
	}
}

// listen returns the lines of an answer as they arrive.
func listen(t *testing.T, url string) <-chan string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			lines <- in.Text()
		}
	}()
	return lines
}
