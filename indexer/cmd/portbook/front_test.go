package main_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/schema/localpg/process"
)

// A front is nginx with deploy/nginx.conf as a proxy of two readers.
type front struct {
	url string
	log string // path of the log

	mu   sync.Mutex
	sent []string // paths
}

// front starts nginx with deploy/nginx.conf. It changes only addresses and directories.
func (f *fleet) front(one, two *indexerProcess) *front {
	f.t.Helper()
	nginx := ""
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			nginx = path
		}
	}
	if nginx == "" {
		if os.Getenv("CI") != "" {
			f.t.Fatal("nginx is not installed: apt-get install nginx")
		}
		f.t.Skip("nginx is not installed: apt-get install nginx")
	}
	conf, err := os.ReadFile("../../../deploy/nginx.conf")
	if err != nil {
		f.t.Fatal(err)
	}
	dir, address := f.t.TempDir(), freeAddress(f.t)
	text := strings.NewReplacer(
		"server registry:5000", "server "+strings.TrimPrefix(f.registry.URL, "http://"),
		"server reader-1:8080", "server "+one.address,
		"server reader-2:8080", "server "+two.address,
		"server indexer:8080", "server "+f.address,
		"listen 8080", "listen "+address,
		"/var/cache/nginx", dir, "/etc/nginx/front", dir, "/tmp/nginx.pid", filepath.Join(dir, "nginx.pid"), "/dev/stdout", filepath.Join(dir, "access.log"),
	).Replace(string(conf))
	name := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	template, err := os.ReadFile("../../../deploy/front-token.conf.template")
	if err != nil {
		f.t.Fatal(err)
	}
	known := bytes.ReplaceAll(template, []byte("${FRONT_TOKEN}"), []byte(frontToken))
	if err := os.WriteFile(filepath.Join(dir, "token.conf"), known, 0o600); err != nil {
		f.t.Fatal(err)
	}
	globals := "daemon off;"
	if os.Geteuid() == 0 {
		globals += " user root;" // its workers must enter the test's directory, which belongs to root
	}
	p, err := process.Start(exec.Command(nginx, "-c", name, "-g", globals), nil, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	// Its workers would outlive a master that is killed, and hold its output for 10 s.
	f.t.Cleanup(func() { p.Stop(syscall.SIGTERM, patience) })
	n := &front{url: "http://" + address, log: filepath.Join(dir, "access.log")}
	within(f.t, 10*time.Second, "nginx answers", func() bool {
		select {
		case <-p.Done():
			f.t.Fatalf("nginx ended: %s", p.Tail())
		default:
		}
		return status(n.url+"/events") == http.StatusForbidden // nginx itself answers this
	})
	return n
}

// frontToken is the token that nginx sends.
const frontToken = "a token of the front"

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// An exchange is a line of nginx's log, with the status of the cache and of the readers
// as nginx writes them.
type exchange struct{ path, cache, readers, answered string }

var logLine = regexp.MustCompile(`"GET (\S+) [^"]*" .* cache=(\S+) reader=(.+) answered=(.+) seconds=`)

// exchanges returns the lines of the log for all paths that begin with path. nginx
// writes a line after the client has the answer, so exchanges waits for the last ones.
func (n *front) exchanges(t *testing.T, path string) (list []exchange) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	sent := 0
	for _, p := range n.sent {
		if strings.HasPrefix(p, path) {
			sent++
		}
	}
	within(t, 5*time.Second, "the log has all requests", func() bool {
		b, err := os.ReadFile(n.log)
		if err != nil {
			t.Fatal(err)
		}
		list = nil
		for _, m := range logLine.FindAllStringSubmatch(string(b), -1) {
			if strings.HasPrefix(m[1], path) {
				list = append(list, exchange{m[1], m[2], m[3], m[4]})
			}
		}
		return len(list) >= sent
	})
	return list
}

// readerRequests returns the number of requests to readers.
func (n *front) readerRequests(t *testing.T, path string) (count int) {
	t.Helper()
	for _, e := range n.exchanges(t, path) {
		if e.readers != "-" {
			count += 1 + strings.Count(e.readers, ",")
		}
	}
	return count
}

// clientAt returns a client with an IP address of its own, which nginx distinguishes.
func clientAt(t *testing.T, ip string) *http.Client {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// A sender counts the requests that were sent.
type sender struct {
	http.RoundTripper
	sent *atomic.Int64
}

func (s sender) RoundTrip(r *http.Request) (*http.Response, error) {
	trace := &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { s.sent.Add(1) }}
	return s.RoundTripper.RoundTrip(r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
}

// A reply is an answer through the front.
type reply struct {
	code         int
	cache, etag  string
	coding, body string // the body after decoding
}

func (n *front) get(t *testing.T, c *http.Client, path string, header ...string) (a reply) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	n.mu.Lock()
	n.sent = append(n.sent, path)
	n.mu.Unlock()
	resp, err := c.Do(r)
	if err != nil {
		t.Error(err)
		return a
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if resp.Header.Get("Content-Encoding") == "gzip" && err == nil {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(b)); err == nil {
			b, err = io.ReadAll(z)
		}
	}
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	return reply{resp.StatusCode, resp.Header.Get("X-Cache-Status"), resp.Header.Get("ETag"), resp.Header.Get("Content-Encoding"), string(b)}
}

// nginx with two real readers must behave as doc/operations.md says about the cache.
// The parts depend on their order: the last ones stop the readers.
func TestFront(t *testing.T) {
	t.Parallel()
	f := launch(t)
	f.indexer(f.address)
	const maxAge = 2 * time.Second
	ages := []string{"PORTBOOK_ROLE=reader", "PORTBOOK_CACHE_MAX_AGE_INDEX=2s", "PORTBOOK_CACHE_MAX_AGE_HTML=2s"}
	readers := []*indexerProcess{f.reader(f.postgres, ages...), f.reader(f.postgres, ages...)}
	for i := range 6 {
		if _, err := f.registry.Push.Image(t.Context(), fmt.Sprintf("ship/no-%d", i), "v1", push.ImageSpec{}); err != nil {
			t.Fatal(err)
		}
	}
	f.equal(20 * time.Second)
	n := f.front(readers[0], readers[1])
	// shown waits until both readers show an image.
	shown := func(name string) {
		t.Helper()
		if _, err := f.registry.Push.Image(t.Context(), name, "v1", push.ImageSpec{}); err != nil {
			t.Fatal(err)
		}
		for _, r := range readers {
			within(t, patience, "a reader shows "+name, func() bool {
				return strings.Contains(body("http://"+r.address+"/v1/search?n=100&q=ship"), name)
			})
		}
	}

	t.Run("hit rate", func(t *testing.T) {
		// Clients request 40 searches, some of them often. With 10 ms between two
		// requests, a client stays below the limit of 100 a second.
		const clients, each, searches = 8, 120, 40
		start := time.Now()
		var asking sync.WaitGroup
		for i := range clients {
			asking.Go(func() {
				c := clientAt(t, fmt.Sprintf("127.0.1.%d", i+1))
				tick := time.NewTicker(10 * time.Millisecond)
				defer tick.Stop()
				for range each {
					<-tick.C
					search := min(rand.IntN(searches), rand.IntN(searches))
					if a := n.get(t, c, fmt.Sprintf("/v1/search?n=%d&q=ship", search+1)); a.code != http.StatusOK {
						t.Errorf("search %d: got %d %s", search, a.code, a.body)
					}
				}
			})
		}
		asking.Wait()
		took := time.Since(start)
		requests := n.readerRequests(t, "/v1/search?n=")
		rate := 1 - float64(requests)/(clients*each)
		t.Logf("%d requests in %v, %d of them to readers: hit rate %.1f %%", clients*each, took.Round(time.Millisecond), requests, 100*rate)
		// The readers get each search once when it is new, and once each time it
		// becomes stale.
		if most := searches * (1 + int(took/maxAge)); requests > most {
			t.Errorf("the readers received %d requests in %v, want at most %d", requests, took, most)
		}
		if rate < 0.75 {
			t.Errorf("got hit rate %.3f, want at least 0.75", rate)
		}
	})

	t.Run("one search at the same time", func(t *testing.T) {
		// The table is locked until all clients have sent their requests, so that the
		// first answer takes long enough.
		const path, clients = "/api/v1/search?q=ship&limit=2", 40
		pool := f.pool()
		lock, err := pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = lock.Rollback(t.Context()) }()
		if _, err := lock.Exec(t.Context(), "LOCK TABLE catalogue_version"); err != nil {
			t.Fatal(err)
		}
		var sent atomic.Int64
		bodies := make([]string, clients)
		var asking sync.WaitGroup
		for i := range clients {
			asking.Go(func() {
				c := clientAt(t, fmt.Sprintf("127.0.2.%d", i+1))
				c.Transport = sender{c.Transport, &sent}
				a := n.get(t, c, path)
				if a.code != http.StatusOK {
					t.Errorf("%d %s", a.code, a.body)
				}
				bodies[i] = a.body
			})
		}
		waiting := f.pool()
		within(t, 4*time.Second, "all requests are sent, and one waits for the table", func() bool {
			return sent.Load() == clients && f.query(waiting, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'catalogue_version'::regclass") > 0
		})
		if err := lock.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		asking.Wait()
		for _, b := range bodies {
			if b != bodies[0] || !strings.Contains(b, "ship/no-") {
				t.Errorf("got different answers: %s and %s", bodies[0], b)
			}
		}
		if requests := n.readerRequests(t, path); requests != 1 {
			t.Errorf("the readers received %d requests for %d concurrent clients, want 1", requests, clients)
		}
	})

	t.Run("codings", func(t *testing.T) {
		const path = "/api/v1/search?q=ship&limit=3"
		c := clientAt(t, "127.0.3.1")
		etags, misses := map[string]string{}, 0
		plain := body("http://" + readers[0].address + path)
		for range 5 {
			for accept, want := range map[string]string{
				"gzip": "gzip", "gzip, deflate, br": "gzip", "deflate, gzip;q=0.8": "gzip", "identity": "", "br": "", "gzip;q=0": "",
			} {
				a := n.get(t, c, path, "Accept-Encoding", accept)
				if a.code != http.StatusOK || a.coding != want || a.body != plain {
					t.Errorf("Accept-Encoding %q: got %+v, want coding %q and the body %s", accept, a, want, plain)
				}
				if a.cache == "MISS" {
					misses++
				}
				if other, known := etags[want]; known && other != a.etag {
					t.Errorf("Accept-Encoding %q: got ETag %s, want %s", accept, a.etag, other)
				}
				etags[want] = a.etag
				if again := n.get(t, c, path, "Accept-Encoding", accept, "If-None-Match", a.etag); again.code != http.StatusNotModified || again.body != "" {
					t.Errorf("Accept-Encoding %q: with its ETag: got %+v, want 304", accept, again)
				}
			}
		}
		if misses != 2 || etags["gzip"] == etags[""] {
			t.Errorf("got %d misses and the ETags %v, want 2, one for each coding", misses, etags)
		}
	})

	t.Run("expiry", func(t *testing.T) {
		const path = "/v1/search?q=ship&n=99"
		c := clientAt(t, "127.0.3.2")
		n.get(t, c, path)
		within(t, maxAge+5*time.Second, "the answer is requested again", func() bool {
			return n.get(t, c, path).cache == "REVALIDATED"
		})
		for _, e := range n.exchanges(t, path) {
			if e.cache == "REVALIDATED" && e.answered != "304" {
				t.Errorf("repeated request to a reader: got status %s, want 304", e.answered)
			}
		}
		n.get(t, c, path)
		shown("ship/new")
		changed := time.Now()
		for {
			start := time.Now()
			a := n.get(t, c, path)
			if strings.Contains(a.body, "ship/new") {
				break
			}
			// nginx counts in whole seconds, so an answer becomes stale up to a
			// second late.
			if age := start.Sub(changed); age > maxAge+time.Second {
				t.Fatalf("%v after the change: got the old answer (%s)", age, a.cache)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})

	t.Run("too slow", func(t *testing.T) {
		const known, fresh = "/v1/search?q=ship&n=98", "/v1/search?q=ship&n=97"
		c := clientAt(t, "127.0.3.3")
		old := n.get(t, c, known)
		lock, err := f.pool().Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = lock.Rollback(t.Context()) }()
		if _, err := lock.Exec(t.Context(), "LOCK TABLE catalogue_version"); err != nil {
			t.Fatal(err)
		}
		if a := n.get(t, c, fresh); a.code != http.StatusServiceUnavailable || !strings.Contains(a.body, "took too long") {
			t.Errorf("slow request: got %d %s, want 503 and the reason", a.code, a.body)
		}
		if requests := n.readerRequests(t, fresh); requests != 1 {
			t.Errorf("%d readers received the slow request, want 1", requests)
		}
		// It is stale by now, and the readers only get a conditional request.
		if a := n.get(t, c, known); a.code != http.StatusOK || a.body != old.body {
			t.Errorf("cached request: got %+v", a)
		}
		if err := lock.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		at := map[string]bool{}
		for i := range 8 {
			n.get(t, c, fmt.Sprintf("/v1/search?q=after-%d", i))
		}
		for _, e := range n.exchanges(t, "/v1/search?q=after-") {
			at[e.readers] = true
		}
		if len(at) != 2 {
			t.Errorf("after the slow request: got requests to %v, want both readers", at)
		}
	})

	t.Run("readers down", func(t *testing.T) {
		const known = "/v1/search?q=ship&n=96"
		c := clientAt(t, "127.0.3.4")
		old := n.get(t, c, known)
		readers[0].process.Kill()
		for i := range 6 {
			if a := n.get(t, c, fmt.Sprintf("/v1/search?q=down-%d", i)); a.code != http.StatusOK {
				t.Errorf("one reader down, new search: got %+v", a)
			}
		}
		within(t, maxAge+5*time.Second, "the other reader receives the request", func() bool {
			a := n.get(t, c, known)
			if a.code != http.StatusOK || a.body != old.body || a.cache == "STALE" {
				t.Errorf("one reader down, cached search: got %+v", a)
			}
			return a.cache == "REVALIDATED"
		})
		readers[1].process.Kill()
		within(t, maxAge+5*time.Second, "a stale answer is served", func() bool {
			a := n.get(t, c, known)
			if a.code != http.StatusOK || a.body != old.body {
				t.Errorf("both readers down, cached search: got %+v", a)
			}
			return a.cache == "STALE"
		})
		if a := n.get(t, c, "/v1/search?q=never"); a.code != http.StatusBadGateway {
			t.Errorf("both readers down, new search: got %+v, want 502", a)
		}
		for i, r := range readers {
			readers[i] = f.indexer(r.address, append([]string{"PORTBOOK_EVENTS_TOKEN="}, ages...)...)
		}
		shown("ship/late")
		within(t, maxAge+5*time.Second, "the readers receive requests again", func() bool {
			return strings.Contains(n.get(t, c, known).body, "ship/late")
		})
	})
}
