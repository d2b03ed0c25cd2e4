package web_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
)

// within fails the test if f does not return true within half a minute.
func within(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); {
		if time.Now().After(end) {
			t.Fatalf("did not happen within half a minute: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// If the book hangs, a client must receive a 503 in the error format of the route
// before the connection is closed.
func TestHangingBook(t *testing.T) {
	t.Parallel()
	s := serve(t, &book{}, func(c *web.Config) {
		c.Read = func(ctx context.Context, _ indexer.Asker, f func(answer.Book) error) error {
			<-ctx.Done()
			return fmt.Errorf("read tcp: %w", ctx.Err())
		}
	})
	paths := []string{"/live", "/api/v1/dump", "/v0/search?query=x", "/api/v1/search?min_version=e1.9"}
	for _, a := range addressesOf(t, s.URL) {
		if !strings.Contains(a, "?") {
			paths = append(paths, a)
		}
	}
	// Routes that do not read the book.
	others := map[string]int{"/api/v1/health": 200, "/api/v1/config": 200, "/repositories": 302, "/v1/_ping": 200}
	shapes := map[string]string{"/api/v1": `"status":503`, "/v0/": `"error":`, "/v2/": `"UNAVAILABLE"`}
	var work sync.WaitGroup
	for _, path := range paths {
		work.Go(func() {
			resp, body := get(t, s.URL+path)
			if code, other := others[path]; other {
				if resp.StatusCode != code {
					t.Errorf("%s: %d, want %d", path, resp.StatusCode, code)
				}
				return
			}
			if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
				t.Errorf("%s: %d %v %s", path, resp.StatusCode, resp.Header, body)
			}
			for prefix, shape := range shapes {
				if strings.HasPrefix(path, prefix) && !strings.Contains(body, shape) {
					t.Errorf("%s: %s, want %s", path, body, shape)
				}
			}
		})
	}
	work.Wait()
}

// Requests for one route must not use all connections, and a waiting request must
// hold none.
func TestTurns(t *testing.T) {
	t.Parallel()
	var reading, most atomic.Int32
	stop := make(chan struct{})
	s := serve(t, stockedBook(), func(c *web.Config) {
		c.Connections = 3
		c.Read = func(ctx context.Context, _ indexer.Asker, f func(answer.Book) error) error {
			b := stockedBook()
			return f(&slowStorage{book: b, storage: func() {
				most.Store(max(most.Load(), reading.Add(1)))
				defer reading.Add(-1)
				select {
				case <-stop:
				case <-ctx.Done():
				}
			}})
		}
	})
	var once sync.Once
	release := func() { once.Do(func() { close(stop) }) }
	t.Cleanup(release)
	var slow sync.WaitGroup
	var answered, refused atomic.Int32
	for i := range 600 {
		slow.Go(func() {
			switch resp, _ := get(t, s.URL+"/api/v1/storage", "X-Forwarded-For", fmt.Sprintf("198.51.%d.%d", i/200, i%200)); {
			case resp.StatusCode == 200:
				answered.Add(1)
			case resp.StatusCode == 503 && resp.Header.Get("Retry-After") != "":
				refused.Add(1)
			default:
				t.Errorf("%d", resp.StatusCode)
			}
		})
	}
	within(t, "two of them read", func() bool { return reading.Load() == 2 })
	if resp, body := get(t, s.URL+"/api/v1/search"); resp.StatusCode != 200 {
		t.Errorf("a request of another kind: %d %s", resp.StatusCode, body)
	}
	within(t, "those that find 500 waiting are refused", func() bool { return refused.Load() >= 98 })
	release()
	slow.Wait()
	if n := most.Load(); n != 2 {
		t.Errorf("%d requests of one kind read at once on 3 connections, want 2", n)
	}
	if answered.Load() == 0 {
		t.Error("no waiting request was answered")
	}
}

// A slowStorage is a book with a slow RepositoryStorage.
type slowStorage struct {
	*book
	storage func()
}

func (b *slowStorage) RepositoryStorage(ctx context.Context, q indexer.StorageQuery) ([]indexer.RepositoryStorage, error) {
	b.storage()
	return b.book.RepositoryStorage(ctx, q)
}

// One client must not exceed its share for one route and for all routes. It must not
// prevent another client from reading or waiting, even for the same route.
func TestTurnsOfOneClient(t *testing.T) {
	t.Parallel()
	var reading, most, refused, answered atomic.Int32
	stop := make(chan struct{})
	release := sync.OnceFunc(func() { close(stop) })
	t.Cleanup(release)
	handler := web.New(web.Config{WebUI: true, Connections: 15, Read: func(ctx context.Context, _ indexer.Asker, f func(answer.Book) error) error {
		most.Store(max(most.Load(), reading.Add(1)))
		defer reading.Add(-1)
		select {
		case <-stop:
			return f(stockedBook())
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	var work sync.WaitGroup
	ask := func(times int, client, path string) {
		for range times {
			work.Go(func() {
				r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
				r.RemoteAddr = client + ":1"
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, r)
				switch {
				case w.Code == http.StatusOK:
					answered.Add(1)
				case w.Code == http.StatusServiceUnavailable && w.Header().Get("Retry-After") != "":
					refused.Add(1)
				default:
					t.Errorf("%s of %s: %d", path, client, w.Code)
				}
			})
		}
	}
	expect := func(what string, reads, turnedAway int32) {
		t.Helper()
		within(t, what, func() bool { return reading.Load() == reads && refused.Load() == turnedAway })
	}
	ask(300, "198.51.100.7", "/api/v1/storage") // 5 read, 250 wait
	expect("one client, one kind", 5, 45)
	for _, path := range []string{"/api/v1/search", "/v1/search", "/status", "/activity"} {
		ask(5, "198.51.100.7", path)
	}
	expect("one client, all kinds", 10, 45)
	ask(1, "198.51.100.8", "/api/v1/storage")
	expect("another client, the same kind", 11, 45)
	release()
	work.Wait()
	if n := most.Load(); n != 11 {
		t.Errorf("%d requests read at once, want 11", n)
	}
	if n := answered.Load(); n != 300-45+20+1 {
		t.Errorf("%d requests were answered in the end, want all that waited", n)
	}
}

// The version is read at the same rate for many waiting requests as for one. Once it
// has arrived, each request reads its own answer once.
func TestWaitersShareOneLook(t *testing.T) {
	t.Parallel()
	const waiters = 90
	var number, reads, searches atomic.Int64
	number.Store(7)
	s := serve(t, &book{}, func(c *web.Config) {
		c.Read = func(_ context.Context, _ indexer.Asker, f func(answer.Book) error) error {
			reads.Add(1)
			return f(&counting{&book{version: indexer.Version{Epoch: "e", Number: number.Load()}}, &searches})
		}
	})
	began := time.Now()
	var work sync.WaitGroup
	for range waiters {
		work.Go(func() {
			if resp, body := get(t, s.URL+"/api/v1/search?min_version=e.8"); resp.StatusCode != 200 || resp.Header.Get("Portbook-Version") != "e.8" {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
		})
	}
	within(t, "ten looks", func() bool { return reads.Load() >= 10 })
	number.Store(8)
	work.Wait()
	looks := reads.Load() - searches.Load()
	if most := int64(time.Since(began)/(50*time.Millisecond)) + 2; looks > most || searches.Load() != waiters {
		t.Errorf("%d version queries and %d searches for %d requests that waited %v, want at most %d version queries", looks, searches.Load(), waiters, time.Since(began), most)
	}
	quiet := reads.Load()
	within(t, "nobody looks when nobody waits", func() bool {
		before := quiet
		quiet = reads.Load()
		<-time.After(150 * time.Millisecond) // the time of three reads of the version
		return before == quiet && reads.Load() == quiet
	})
}

// A counting is a book that counts searches.
type counting struct {
	*book
	searches *atomic.Int64
}

func (b *counting) Search(ctx context.Context, q query.Query) (indexer.Results, error) {
	b.searches.Add(1)
	return b.book.Search(ctx, q)
}

// One client must not use all places for requests that wait for a version or listen
// to /live. A reverse proxy names its clients in X-Forwarded-For; from other
// connections the field is ignored.
func TestPlacesOfOneClient(t *testing.T) {
	t.Parallel()
	for path, each := range map[string]int{"/api/v1/search?min_version=e1.8": 100, "/live": 50} {
		stopping := make(chan struct{})
		var b = &book{}
		handler := web.New(web.Config{WebUI: true, Read: b.read, Stopping: stopping})
		var busy, refused atomic.Int32
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		ask := func(remote, forwarded string) {
			work.Go(func() {
				r := httptest.NewRequestWithContext(ctx, "GET", path, nil)
				r.RemoteAddr = remote
				r.Header.Set("X-Forwarded-For", forwarded)
				w := httptest.NewRecorder()
				busy.Add(1)
				handler.ServeHTTP(w, r)
				busy.Add(-1)
				if w.Code == http.StatusServiceUnavailable && strings.Contains(w.Body.String(), "address") {
					refused.Add(1)
				}
			})
		}
		expect := func(what string, waiting, turnedAway int) {
			t.Helper()
			within(t, path+": "+what, func() bool { return int(busy.Load()) == waiting && int(refused.Load()) == turnedAway })
		}
		for i := range each + 5 { // from outside: X-Forwarded-For is ignored
			ask("198.51.100.7:1", fmt.Sprint("192.0.2.", i))
		}
		expect("one client", each, 5)
		for i := range each + 5 { // through a reverse proxy
			ask("172.18.0.2:1", fmt.Sprintf("%d.0.0.1, 192.0.2.1", i+1))
			ask("127.0.0.1:1", fmt.Sprintf("2001:db8:0:1::%x", i))
		}
		expect("two behind a front", 3*each, 15)
		cancel()
		close(stopping)
		work.Wait()
	}
}
