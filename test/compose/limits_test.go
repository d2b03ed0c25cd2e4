package compose

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clientAt returns a client with the source address ip, so that nginx counts its
// requests separately. All of 127.0.0.0/8 is this machine.
func clientAt(t *testing.T, ip string) *http.Client {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	transport := &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 32}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// If a reader answers 503 at once, nginx must send the request to the other one, and
// not use the first for a while.
func TestNextReader(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	f.readers[0].answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	f.readers[1].answers(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "one") })
	for range 10 {
		if body, _ := f.get(t, "/v1/search"); body != "one" {
			t.Errorf("got %q, want the other reader's", body)
		}
	}
	if got := f.readers[0].asked.Load(); got == 0 || got > 3 {
		t.Errorf("got %d requests to the reader that answers 503, want 1 to 3", got)
	}
}

// If a reader answers 503 after 5 s, because the database stopped the statement, nginx
// does not repeat the request, and still uses both readers: 5 s are more than
// proxy_next_upstream_timeout, which is shorter here.
func TestTooSlowIsNoFailure(t *testing.T) {
	t.Parallel()
	directive := regexp.MustCompile(`proxy_next_upstream_timeout (\d+)s;`).FindStringSubmatch(nginxConf(t))
	if len(directive) == 0 {
		t.Fatal("nginx.conf has no proxy_next_upstream_timeout in seconds")
	}
	if seconds, _ := strconv.Atoi(directive[1]); time.Duration(seconds)*time.Second >= statementTimeout(t) {
		t.Errorf("nginx repeats requests for %d s, want less than the statement timeout of a reader", seconds)
	}
	const limit = 200 * time.Millisecond
	f := startFront(t, directive[0], fmt.Sprintf("proxy_next_upstream_timeout %dms;", limit.Milliseconds()))
	var slow atomic.Int64
	f.readersAnswer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			slow.Add(1)
			time.Sleep(limit + limit/4)
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	resp := f.do(t, http.MethodGet, "/slow", nil)
	resp.Body.Close()
	if got := slow.Load(); resp.StatusCode != http.StatusServiceUnavailable || got != 1 {
		t.Errorf("got status %s after %d requests to readers, want 503 after 1", resp.Status, got)
	}
	before := [2]int64{f.readers[0].asked.Load(), f.readers[1].asked.Load()}
	for range 10 {
		f.get(t, "/")
	}
	for i, r := range f.readers {
		if r.asked.Load() == before[i] {
			t.Errorf("reader %d gets no more requests", i+1)
		}
	}
}

// statementTimeout returns the statement timeout of a reader.
func statementTimeout(t *testing.T) time.Duration {
	t.Helper()
	source, err := os.ReadFile(filepath.Join(root, "indexer/postgres/view.go"))
	if err != nil {
		t.Fatal(err)
	}
	seconds := regexp.MustCompile(`(?m)^const readTimeout = (\d+) \* time\.Second$`).FindSubmatch(source)
	if len(seconds) == 0 {
		t.Fatal("indexer/postgres/view.go has no readTimeout in seconds")
	}
	n, _ := strconv.Atoi(string(seconds[1]))
	return time.Duration(n) * time.Second
}

// nginx refuses a client that sends too many requests with 429 and an explanation, and
// serves other clients as before. It does not limit uploads and pulls.
func TestFlood(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	f.readersAnswer(func(w http.ResponseWriter, r *http.Request) {})
	f.registry.answers(func(w http.ResponseWriter, r *http.Request) {})
	flooder, other := clientAt(t, "127.0.0.2"), clientAt(t, "127.0.0.3")
	codes := func(c *http.Client, path string, n int) map[int]int {
		counts := map[int]int{}
		for range n {
			resp, err := c.Get(f.url + path)
			if err != nil {
				t.Error(err)
				continue
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			counts[resp.StatusCode]++
			if resp.StatusCode == http.StatusTooManyRequests &&
				(resp.Header.Get("Retry-After") != "1" || resp.Header.Get("Cache-Control") != "no-store" || !strings.Contains(string(text), "100 a second")) {
				t.Errorf("got refusal with %v, %s", resp.Header, text)
			}
		}
		return counts
	}
	start := time.Now()
	var flood sync.WaitGroup
	var taken, refused atomic.Int64
	for range 4 {
		flood.Go(func() {
			got := codes(flooder, "/v1/search", 400)
			taken.Add(int64(got[200]))
			refused.Add(int64(got[429]))
		})
	}
	if got := codes(other, "/v1/search", 50); got[200] != 50 {
		t.Errorf("other client: got statuses %v, want only 200", got)
	}
	flood.Wait()
	// nginx allows the first request, a burst of 200, and one more every 10 ms.
	most := 201 + int64(time.Since(start)/(10*time.Millisecond)) + 1
	if taken.Load() > most || refused.Load() == 0 {
		t.Errorf("got %d requests answered and %d refused, want at most %d answered", taken.Load(), refused.Load(), most)
	}
	if got := codes(flooder, "/v2/", 300); got[200] != 300 {
		t.Errorf("refused client below /v2/: got statuses %v, want only 200", got)
	}
}

// A client may have at most ten requests at a time, so that slow requests of one client
// do not use up the readers.
func TestCrowd(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	asked, answer := make(chan struct{}, 100), make(chan struct{})
	f.readersAnswer(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/slow") {
			asked <- struct{}{}
			<-answer
		}
	})
	f.registry.answers(func(w http.ResponseWriter, r *http.Request) {})
	crowd, other := clientAt(t, "127.0.0.4"), clientAt(t, "127.0.0.5")
	code := func(c *http.Client, path string) int {
		resp, err := c.Get(f.url + path)
		if err != nil {
			t.Error(err)
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	var running sync.WaitGroup
	for i := range 10 {
		running.Go(func() {
			if got := code(crowd, "/slow/"+string(rune('a'+i))); got != http.StatusOK {
				t.Errorf("one of ten requests: got status %d", got)
			}
		})
	}
	for range 10 {
		<-asked
	}
	for _, test := range []struct {
		client *http.Client
		path   string
		want   int
	}{
		{crowd, "/v1/search", 429},
		{crowd, "/v2/team/app/referrers/sha256:0", 429},
		{crowd, "/?min_version=e.1", 429},
		{crowd, "/v2/team/app/blobs/sha256:0", 200},
		{other, "/v1/search", 200},
	} {
		if got := code(test.client, test.path); got != test.want {
			t.Errorf("%s during ten requests: got status %d, want %d", test.path, got, test.want)
		}
	}
	close(answer)
	running.Wait()
}

// The cache has at most two forms of an answer, with gzip and without, for all values
// of Accept-Encoding.
func TestCodings(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	f.readersAnswer(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Vary", "Accept-Encoding")
		io.WriteString(w, r.Header.Get("Accept-Encoding"))
	})
	for accept, want := range map[string]string{
		"gzip": "gzip", "gzip, deflate, br, zstd": "gzip", "deflate,GZIP;q=0.5": "gzip", "br;q=1.0, gzip ; q=0.001": "gzip",
		"identity": "", "br": "", "gzip;q=0": "", "deflate, gzip; q=0.0, br": "", "x-gzip": "", "gzipped": "",
	} {
		resp := f.do(t, http.MethodGet, "/v1/search", nil, "Accept-Encoding", accept)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != want || resp.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: readers got %q, %v, want %q; Vary %q", accept, body, err, want, resp.Header.Get("Vary"))
		}
	}
	if got := f.requestsToReader(); got != 2 {
		t.Errorf("the readers got %d requests, want 2, one for each coding", got)
	}
}
