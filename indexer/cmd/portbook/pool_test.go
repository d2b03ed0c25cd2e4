package main_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/registry/push"
)

// PostgreSQL must see the documented defaults of the pool: at most 25 connections for
// any number of clients, few while there are no requests, and 5 after the clients are
// gone.
func TestPoolDefaults(t *testing.T) {
	t.Parallel()
	f := launch(t)
	pool := f.pool()
	if _, err := pool.Exec(t.Context(), "CREATE ROLE db_app LOGIN"); err != nil {
		t.Fatal(err)
	}
	var indexer *indexerProcess
	fresh := f.watchBackends(pool, "db_app", func() {
		indexer = f.indexer(f.address, "PORTBOOK_DATABASE_MIGRATIONUSER=portbook",
			"PORTBOOK_DATABASE_POSTGRES_URL="+strings.Replace(f.database, "portbook@", "db_app@", 1))
		within(t, patience, "the indexer leads", indexer.leads)
		within(t, patience, "the scan is finished", func() bool { return f.query(pool, "SELECT count(*) FROM scan WHERE finished_at IS NOT NULL") > 0 })
		time.Sleep(time.Second) // backends does not count newer connections
	})
	if fresh > 11 || fresh == 0 { // 10 to update the book, and one for the copy in memory
		t.Errorf("got %d connections of an idle writer, want 1 to 11", fresh)
	}
	most := f.watchBackends(pool, "db_app", func() { searchAll(t, indexer, 100, 3*time.Second) })
	if most > 25 || most < 10 {
		t.Errorf("got %d connections while 100 clients search, want 10 to 25", most)
	}
	start := time.Now()
	// Connections close after 10 s in which at most 5 were in use: a busy machine has no such
	// seconds for a while.
	within(t, 3*patience, "5 connections are left", func() bool { return f.backends(pool, "db_app") <= 5 })
	if n := f.watchBackends(pool, "db_app", func() { time.Sleep(2 * time.Second) }); n > 6 { // one may be in use
		t.Errorf("got %d connections again without requests", n)
	}
	t.Logf("%d connections of an idle writer, %d while 100 clients search, 5 after %v", fresh, most, time.Since(start).Round(time.Second))
}

// Requests that hang in the database must not keep pushes out of the book, must not
// block requests of another kind, and must be answered in the end.
func TestHangingRequests(t *testing.T) {
	t.Parallel()
	f := launch(t)
	pool := f.pool()
	indexer := f.indexer(f.address)
	within(t, patience, "the indexer leads", indexer.leads)
	tx, err := pool.Begin(t.Context()) // locks a table that /storage reads, and ingestion does not
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), "LOCK TABLE repository_storage IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	crowd := &http.Client{Timeout: 20 * time.Second}
	var work sync.WaitGroup
	defer work.Wait()
	var found atomic.Bool
	defer found.Store(true)
	for n := range 60 {
		work.Go(func() {
			for !found.Load() {
				resp, err := getAs(crowd, n, "http://"+indexer.address+"/api/v1/storage")
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
					t.Errorf("hanging request: got status %d", resp.StatusCode)
				}
			}
		})
	}
	hanging := func() int {
		return f.query(pool, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT name, own%'")
	}
	within(t, patience, "enough requests hang", func() bool { return hanging() >= 10 })
	if _, err := f.registry.Push.Image(t.Context(), "narrow/ship", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	within(t, patience, "search finds a push meanwhile", func() bool {
		if n := hanging(); n > 10 {
			t.Fatalf("got %d connections of one kind of request, want at most 10 of 25", n)
		}
		resp, err := crowd.Get("http://" + indexer.address + "/api/v1/repositories/narrow/ship")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// If the database receives queries but never answers, clients must get a 503 before any
// side closes the connection.
func TestDatabaseSwallowsEverything(t *testing.T) {
	t.Parallel()
	f := launch(t)
	address, swallow := swallowing(t, f.database)
	indexer := f.indexer(f.address, "PORTBOOK_DATABASE_POSTGRES_URL="+address)
	within(t, patience, "the indexer leads", indexer.leads)
	crowd := &http.Client{Timeout: 20 * time.Second}
	ask := func(path string) (*http.Response, error) { return crowd.Get("http://" + indexer.address + path) }
	if resp, err := ask("/v1/search?q=x"); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("before: %v %v", resp, err)
	}
	swallow()
	var work sync.WaitGroup
	for _, path := range []string{"/v1/search?q=y", "/api/v1/repositories", "/index/static", "/", "/status", "/live", "/v2/a/referrers/sha256:" + strings.Repeat("0", 64),
		"/api/v1/search?q=y", "/api/v1/search?q=y", "/api/v1/dump", "/api/v1/search?min_version=e.1"} {
		work.Go(func() {
			resp, err := ask(path)
			if err != nil {
				t.Errorf("%s: %v", path, err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
				t.Errorf("%s: %s, want 503 with Retry-After", path, resp.Status)
			}
		})
	}
	work.Wait()
}

// swallowing starts a proxy of a database. It returns the proxy's address, and a
// function after which the proxy discards everything that it receives.
func swallowing(t *testing.T, database string) (address string, swallow func()) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	target := u.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var swallows atomic.Bool
	ctx, end := context.WithCancel(context.Background())
	t.Cleanup(func() { end(); listener.Close() })
	pass := func(to, from net.Conn) {
		context.AfterFunc(ctx, func() { from.Close() })
		defer to.Close()
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			if swallows.Load() {
				continue
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				in.Close()
				continue
			}
			go pass(out, in)
			go pass(in, out)
		}
	}()
	u.Host = listener.Addr().String()
	return u.String(), func() { swallows.Store(true) }
}

// The limit of connections must hold for everything that the process does: migrations,
// the leader's session, the scan, events and searches. All of them must work with it.
func TestPoolFromEnvironment(t *testing.T) {
	t.Parallel()
	f := launch(t)
	pool := f.pool()
	if _, err := pool.Exec(t.Context(), "CREATE ROLE owner LOGIN SUPERUSER"); err != nil {
		t.Fatal(err)
	}
	url := "PORTBOOK_DATABASE_POSTGRES_URL=" + strings.Replace(f.database, "portbook@", "owner@", 1)
	most := f.watchBackends(pool, "owner", func() {
		indexer := f.indexer(f.address, url, "THV_REGISTRY_DATABASE_MAXOPENCONNS=3", "THV_REGISTRY_DATABASE_MAXIDLECONNS=1")
		within(t, patience, "the indexer leads", indexer.leads)
		var work sync.WaitGroup
		work.Go(func() { searchAll(t, indexer, 50, 2*time.Second) })
		for i := range 20 {
			if _, err := f.registry.Push.Image(t.Context(), fmt.Sprintf("narrow/ship-%d", i), "v1", push.ImageSpec{}); err != nil {
				t.Error(err)
			}
		}
		work.Wait()
		f.equal(patience)
	})
	if most > 3 || most < 2 {
		t.Errorf("got %d connections, want 3", most)
	}
}

// searchAll lets clients search concurrently for a duration.
func searchAll(t *testing.T, i *indexerProcess, clients int, d time.Duration) {
	crowd := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer crowd.CloseIdleConnections()
	end := time.Now().Add(d)
	var work sync.WaitGroup
	for n := range clients {
		work.Go(func() {
			for time.Now().Before(end) {
				resp, err := getAs(crowd, n, fmt.Sprintf("http://%s/v1/search?q=ship-%d", i.address, n))
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("search: got status %d", resp.StatusCode)
					return
				}
			}
		})
	}
	work.Wait()
}

// getAs sends a request as one of many clients, each with an address of its own.
func getAs(c *http.Client, client int, url string) (*http.Response, error) {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-Forwarded-For", fmt.Sprintf("198.51.100.%d", client))
	return c.Do(r)
}

// watchBackends returns the largest number of connections of a user while during ran.
// It does not count those of `portbook verify`, which is another process.
func (f *fleet) watchBackends(pool *pgxpool.Pool, user string, during func()) (most int) {
	f.t.Helper()
	ctx, stop := context.WithCancel(f.t.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for ctx.Err() == nil {
			most = max(most, f.backends(pool, user))
			time.Sleep(10 * time.Millisecond)
		}
	}()
	during()
	stop()
	<-watched
	return most
}

// backends returns the number of connections of a user, without the newest: a client
// that closes one and opens another does not wait until the server has ended the first.
func (f *fleet) backends(pool *pgxpool.Pool, user string) (n int) {
	const q = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND backend_start < clock_timestamp() - interval '0.3 s'"
	if err := pool.QueryRow(f.t.Context(), q, user).Scan(&n); err != nil {
		f.t.Error(err)
	}
	return n
}
