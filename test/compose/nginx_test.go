package compose

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// nginxConf returns the text of nginx.conf.
func nginxConf(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "deploy", "nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var serverLine = regexp.MustCompile(`(?m)^\s*server ([^ {;]+)`)

// upstreams returns host:port of all servers in nginx.conf.
func upstreams(t *testing.T) []string {
	t.Helper()
	var addresses []string
	for _, m := range serverLine.FindAllStringSubmatch(nginxConf(t), -1) {
		addresses = append(addresses, m[1])
	}
	if len(addresses) != 4 {
		t.Fatalf("got servers %v in nginx.conf, want one registry, two readers and a writer", addresses)
	}
	return addresses
}

// A backend simulates a registry or a reader, and counts requests.
type backend struct {
	*httptest.Server
	asked  atomic.Int64 // requests
	answer atomic.Pointer[http.HandlerFunc]
}

func newBackend(t *testing.T) *backend {
	b := &backend{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.asked.Add(1)
		(*b.answer.Load())(w, r)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *backend) answers(f http.HandlerFunc) { b.answer.Store(&f) }

// A front is nginx with our configuration and backends of a test.
type front struct {
	url              string
	registry         *backend
	readers          [2]*backend
	writer           *backend
	requestsToReader func() int64
	accessLog        string // the path of the file
}

// startFront runs nginx with nginx.conf, in which only addresses and directories are
// replaced, and replacements: pairs of texts.
func startFront(t *testing.T, replacements ...string) *front {
	t.Helper()
	nginx := findNginx(t)
	f := &front{registry: newBackend(t), readers: [2]*backend{newBackend(t), newBackend(t)}, writer: newBackend(t)}
	f.requestsToReader = func() int64 { return f.readers[0].asked.Load() + f.readers[1].asked.Load() }

	dir, listen := t.TempDir(), freeAddress(t)
	f.url = "http://" + listen
	at := upstreams(t)
	f.accessLog = filepath.Join(dir, "access.log")
	conf := strings.NewReplacer(append([]string{
		"server " + at[0], "server " + f.registry.Listener.Addr().String(),
		"server " + at[1], "server " + f.readers[0].Listener.Addr().String(),
		"server " + at[2], "server " + f.readers[1].Listener.Addr().String(),
		"server " + at[3], "server " + f.writer.Listener.Addr().String(),
		"listen 8080", "listen " + listen,
		"/var/cache/nginx", dir, "/etc/nginx/front", dir,
		"/tmp/nginx.pid", filepath.Join(dir, "nginx.pid"),
		"/dev/stdout", f.accessLog,
	}, replacements...)...).Replace(nginxConf(t))
	name := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(name, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	writeToken(t, dir)
	run(t, f.url, nginx, "-c", name, "-g", globals())
	return f
}

// frontToken is the token by which nginx proves that it may ask.
const frontToken = "567890ab"

// writeToken writes the file with the token, as the image of nginx does.
func writeToken(t *testing.T, dir string) {
	t.Helper()
	template, err := os.ReadFile(filepath.Join(root, "deploy", "front-token.conf.template"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(template), "${FRONT_TOKEN}", frontToken)
	if err := os.WriteFile(filepath.Join(dir, "token.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// globals returns directives that keep nginx in the foreground and, for root, let its
// workers use the test's directory, which belongs to root.
func globals() string {
	if os.Geteuid() == 0 {
		return "daemon off; user root;"
	}
	return "daemon off;"
}

func findNginx(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"nginx", "/usr/sbin/nginx"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const message = "nginx is not installed: apt-get install nginx"
	if os.Getenv("CI") != "" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// run starts nginx and waits until it listens. nginx stops when the test ends.
func run(t *testing.T, url, nginx string, args ...string) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command(nginx, args...)
	cmd.Stderr = &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			t.Logf("log of nginx:\n%s", &log)
		}
	})
	eventually(t, "nginx listens", func() bool {
		select {
		case <-ended:
			t.Fatalf("nginx ended: %s", &log)
		default:
		}
		resp, err := http.Get(url + "/events") // needs no backend
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
}

// eventually waits until ok returns true, for at most 10 s.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("timeout after 10 s: %s", what)
		case <-tick.C:
		}
	}
}

// get returns the body of an answer and its X-Cache-Status.
func (f *front) get(t *testing.T, path string, header ...string) (body, cache string) {
	t.Helper()
	resp := f.do(t, http.MethodGet, path, nil, header...)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Errorf("GET %s: %s", path, resp.Status)
	}
	return string(b), resp.Header.Get("X-Cache-Status")
}

func (f *front) do(t *testing.T, method, path string, body io.Reader, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, f.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// book is a handler that answers with a text, an ETag and a max-age in seconds. It
// counts full answers and those with 304.
type book struct {
	mu        sync.Mutex
	text      string
	maxAge    int
	unchanged int
	full      int
}

func (b *book) set(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = text
}

func (b *book) counts() (full, unchanged int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.full, b.unchanged
}

func (b *book) serve(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	tag := fmt.Sprintf("%q", b.text)
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", b.maxAge))
	if r.Header.Get("If-None-Match") == tag {
		b.unchanged++
		w.WriteHeader(http.StatusNotModified)
		return
	}
	b.full++
	io.WriteString(w, b.text)
}

func (f *front) readersAnswer(h http.HandlerFunc) {
	for _, r := range f.readers {
		r.answers(h)
	}
}

// nginx must cache an answer for the max-age in its Cache-Control, and send no request
// to a reader meanwhile.
func TestCache(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	b := &book{text: "one", maxAge: 3600}
	f.readersAnswer(b.serve)
	for i, want := range []string{"MISS", "HIT", "HIT"} {
		if body, cache := f.get(t, "/v1/search?q=a"); body != "one" || cache != want {
			t.Errorf("request %d: got %q, %s, want one, %s", i, body, cache, want)
		}
	}
	if _, cache := f.get(t, "/v1/search?q=b"); cache != "MISS" {
		t.Errorf("another query: got %s, want MISS", cache)
	}
	if got := f.requestsToReader(); got != 2 {
		t.Errorf("the readers got %d requests, want 2", got)
	}
}

// nginx must not cache an answer whose Cache-Control forbids it or is missing.
func TestNoCache(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	for _, control := range []string{"", "no-cache", "no-store", "private, max-age=60", "max-age=0"} {
		f.readersAnswer(func(w http.ResponseWriter, r *http.Request) {
			if control != "" {
				w.Header().Set("Cache-Control", control)
			}
			io.WriteString(w, "x")
		})
		path := "/?" + strings.ReplaceAll(control, " ", "")
		for range 2 {
			if _, cache := f.get(t, path); cache != "MISS" {
				t.Errorf("Cache-Control %q: got %s, want MISS", control, cache)
			}
		}
	}
}

// Requests for referrers must go to readers and be cached. All other requests below
// /v2/ must go to the registry and not be cached.
func TestReferrers(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	answer := func(who string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=3600")
			io.WriteString(w, who)
		}
	}
	f.readersAnswer(answer("reader"))
	f.registry.answers(answer("registry"))
	for path, want := range map[string]string{
		"/v2/team/app/referrers/sha256:0":                 "reader",
		"/v2/app/referrers/sha256:0?artifactType=a%2Fb":   "reader",
		"/v2/app/referrers/sha256:1?min_version=e.1":      "reader",
		"/v2/team/app/manifests/v1":                       "registry",
		"/v2/team/referrers/tags/list":                    "registry",
		"/v2/":                                            "registry",
		"/api/v1/repositories/team%2Fapp/-/tags?limit=10": "reader",
	} {
		for _, cache := range []string{"MISS", "HIT"} {
			if want == "registry" {
				cache = ""
			}
			if body, got := f.get(t, path); body != want || got != cache {
				t.Errorf("%s: %s, %q, want %s, %q", path, body, got, want, cache)
			}
		}
	}
}

// Only requests for paths below /v2/ may reach the registry, however the path is
// written, and its answers must forbid browsers to run scripts.
func TestRegistryStaysBelowV2(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	f.readersAnswer(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "reader") })
	f.registry.answers(func(w http.ResponseWriter, r *http.Request) {
		if decoded, err := url.PathUnescape(r.RequestURI); err != nil || !strings.HasPrefix(path.Clean(decoded)+"/", "/v2/") {
			t.Errorf("the registry got a request for %s", r.RequestURI)
		}
		w.Header().Set("X-Content-Type-Options", "nosniff") // our registry's configuration sets it
		w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	})
	for _, address := range []string{"/v2/../admin", "/v2/..%2fadmin", "/v2/x/%2e%2e/%2e%2e/admin", "/v2/x/../../admin", "/v2/%2e%2e%2fadmin", "//v2/../admin", "/v2//../../admin",
		"/v2/", "/x/../v2/a/blobs/b", "/v2/a/manifests/v1"} {
		resp := f.do(t, http.MethodGet, address, nil)
		resp.Body.Close()
		if resp.Header.Get("Docker-Distribution-Api-Version") == "" {
			continue // not from the registry
		}
		if h := resp.Header; len(h.Values("X-Content-Type-Options")) != 1 || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") != "default-src 'none'; sandbox" {
			t.Errorf("%s: %v", address, h)
		}
	}
	if f.registry.asked.Load() < 2 {
		t.Error("the registry got fewer than 2 requests, so nothing was tested")
	}
}

// After 503 for a request with min_version, nginx must still use both readers.
func TestWaitingIsNoFailure(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	f.readersAnswer(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		if r.URL.Query().Has("min_version") {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	for range 5 {
		resp := f.do(t, http.MethodGet, "/api/v1/search?min_version=e.999", nil)
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("request with min_version: status %s, want 503", resp.Status)
		}
		f.get(t, "/api/v1/search")
	}
	if got := f.requestsToReader(); got != 10 {
		t.Errorf("the readers got %d requests, want 10", got)
	}
}

// nginx must not cache the answer to a request with Authorization.
func TestNoCacheForAuthorized(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	f.readersAnswer(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		io.WriteString(w, "for "+r.Header.Get("Authorization"))
	})
	if body, cache := f.get(t, "/", "Authorization", "Bearer alice"); body != "for Bearer alice" || cache != "BYPASS" {
		t.Errorf("alice: got %q, %s, want hers, BYPASS", body, cache)
	}
	if body, cache := f.get(t, "/"); body != "for " || cache != "MISS" {
		t.Errorf("without Authorization: got %q, %s, want nobody's, MISS", body, cache)
	}
	if body, _ := f.get(t, "/", "Authorization", "Bearer bob"); body != "for Bearer bob" {
		t.Errorf("bob: got %q, want his", body)
	}
}

// nginx must revalidate an expired answer by its ETag, so that a reader need not send
// it again. If it has changed, nginx must serve the new one at once.
func TestRevalidate(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	b := &book{text: "one", maxAge: 1}
	f.readersAnswer(b.serve)
	f.get(t, "/index/static")
	eventually(t, "the answer is revalidated", func() bool {
		body, cache := f.get(t, "/index/static")
		if body != "one" {
			t.Errorf("got %q, want one", body)
		}
		return cache == "REVALIDATED"
	})
	if full, unchanged := b.counts(); full != 1 || unchanged != 1 {
		t.Errorf("the readers sent the answer %d times and 304 %d times, want 1 and 1", full, unchanged)
	}
	b.set("two")
	eventually(t, "the new answer is served", func() bool {
		body, cache := f.get(t, "/index/static")
		if cache == "STALE" || cache == "UPDATING" {
			t.Errorf("got %q, %s: want no stale answer while readers are up", body, cache)
		}
		return body == "two"
	})
}

// A 304 must have ETag and Cache-Control. Without Cache-Control, flatpak would not
// revalidate for half an hour.
func TestNotModified(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	f.readersAnswer((&book{text: "one", maxAge: 3600}).serve)
	f.get(t, "/index/static")
	resp := f.do(t, http.MethodGet, "/index/static", nil, "If-None-Match", `"one"`)
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotModified || resp.Header.Get("ETag") != `"one"` || resp.Header.Get("Cache-Control") != "public, max-age=3600" {
		t.Errorf("got %s %v, want 304 with ETag and Cache-Control", resp.Status, resp.Header)
	}
}

// If one reader is down, nginx must use the other. If both are down, it must serve
// stale answers.
func TestReadersDown(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	b := &book{text: "one", maxAge: 1}
	f.readersAnswer(b.serve)
	f.get(t, "/")

	f.readers[0].Close()
	for i := range 4 {
		if body, cache := f.get(t, fmt.Sprintf("/?n=%d", i)); body != "one" || cache != "MISS" {
			t.Errorf("one reader is down: got %q, %s, want one, MISS", body, cache)
		}
	}

	f.readers[1].Close()
	eventually(t, "a stale answer is served", func() bool {
		body, cache := f.get(t, "/")
		if body != "one" {
			t.Errorf("both readers are down: got %q, want one", body)
		}
		return cache == "STALE"
	})
}

// If both readers answer 503, nginx must serve stale answers, and new ones as soon as
// the readers can answer.
func TestReadersUnavailable(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	b := &book{text: "one", maxAge: 1}
	f.readersAnswer(b.serve)
	f.get(t, "/")
	f.readersAnswer(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	eventually(t, "a stale answer is served", func() bool {
		body, cache := f.get(t, "/")
		if body != "one" {
			t.Errorf("both readers answer 503: got %q, want one", body)
		}
		return cache == "STALE"
	})
	b.set("two")
	f.readersAnswer(b.serve)
	eventually(t, "the new answer is served", func() bool {
		body, _ := f.get(t, "/")
		return body == "two"
	})
}

// Concurrent requests for one page must become one request to a reader.
func TestOneQuestion(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	asked, answer := make(chan struct{}, 100), make(chan struct{})
	f.readersAnswer(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-answer
		w.Header().Set("Cache-Control", "max-age=3600")
		io.WriteString(w, "one")
	})
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			resp, err := http.Get(f.url + "/")
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	<-asked
	close(answer)
	all.Wait()
	if got := f.requestsToReader(); got != 1 {
		t.Errorf("the readers got %d requests, want 1", got)
	}
}

// Signing in goes to the writer, and the catalogue of the registry to a reader, unless the
// reader has none for the one who asks. No answer for somebody is stored or served to others.
func TestLogins(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	says := func(text string, status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Vary", "Authorization, Cookie")
			w.WriteHeader(status)
			io.WriteString(w, text+r.Header.Get("Authorization")+r.Header.Get("Cookie"))
		}
	}
	f.registry.answers(says("registry", 200))
	f.writer.answers(says("writer", 200))
	f.readersAnswer(says("reader", 200))
	ask := func(method, path string, header ...string) string {
		t.Helper()
		resp := f.do(t, method, path, nil, header...)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, c := range [][]string{
		{"writer", "GET", "/account"}, {"writer", "POST", "/account/sign-in"}, {"writer", "POST", "/account/tokens"},
		{"reader", "GET", "/v2/_catalog"}, {"reader", "POST", "/auth/token"}, {"reader", "GET", "/auth/token"},
		{"reader", "GET", "/"}, {"readerBasic eA==", "GET", "/", "Authorization", "Basic eA=="}, {"reader", "GET", "/"},
		{"readerportbook_session=x", "GET", "/", "Cookie", "portbook_session=x"}, {"reader", "GET", "/"},
		{"readerportbook_session=y", "GET", "/", "Cookie", "portbook_session=y"},
		{"reader", "GET", "/v1/search?q=x"}, {"reader", "GET", "/v1/search?q=x", "User-Agent", "containers/5.23.1"},
	} {
		if got := ask(c[1], c[2], c[3:]...); got != c[0] {
			t.Errorf("%q: got %q from %q", c[1:], got, c[0])
		}
	}
	if got := f.requestsToReader(); got != 9 { // two of / are from the cache
		t.Errorf("the readers got %d requests", got)
	}
	f.readersAnswer(says("none", 404))
	if got := ask("GET", "/v2/_catalog?n=3"); got != "registry" {
		t.Errorf("without logins the catalogue is from %q", got)
	}
}

// nginx must refuse events from clients and requests for jobs, however the path is written.
func TestEventsDenied(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	f.readersAnswer(func(w http.ResponseWriter, r *http.Request) { t.Errorf("a reader got a request for %s", r.URL) })
	f.writer.answers(func(w http.ResponseWriter, r *http.Request) { t.Errorf("the writer got a request for %s", r.URL) })
	for _, path := range []string{
		"/events", "//events", "/./events", "/x/../events", "/%65vents", "/events?x=1",
		"/internal/runAll", "//internal/runAll", "/x/../internal/runAll", "/%69nternal/runBlobGC",
		"/internal/runAll?min_version=e.1",
	} {
		resp := f.do(t, http.MethodPost, path, strings.NewReader("{}"))
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("POST %s: got %s, want 403", path, resp.Status)
		}
	}
}

// nginx must set the forwarded headers, from which the registry builds the Location of
// an upload, and must not pass on those of the client.
func TestForwarded(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	seen := make(chan http.Header, 1)
	answer := func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Host", r.Host)
		seen <- r.Header
	}
	f.registry.answers(answer)
	f.readersAnswer(answer)
	for _, path := range []string{"/v2/", "/"} {
		for _, test := range []struct{ sent, want string }{{"", "http"}, {"https", "https"}, {"gopher", "http"}} {
			resp := f.do(t, http.MethodGet, path, nil, "X-Forwarded-Proto", test.sent,
				"X-Forwarded-Host", "evil.example", "X-Forwarded-For", "192.0.2.1",
				"Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABk")
			resp.Body.Close()
			h := <-seen
			if got := h.Get("X-Forwarded-Proto"); got != test.want {
				t.Errorf("%s: X-Forwarded-Proto: got %q, want %q", path, got, test.want)
			}
			if got, want := h.Get("Host"), strings.TrimPrefix(f.url, "http://"); got != want {
				t.Errorf("%s: Host: got %q, want %q", path, got, want)
			}
			if got := h.Get("X-Forwarded-For"); got != "127.0.0.1" {
				t.Errorf("%s: X-Forwarded-For: got %q, want 127.0.0.1", path, got)
			}
			for _, name := range []string{"X-Forwarded-Host", "Upgrade", "HTTP2-Settings"} {
				if got := h.Get(name); got != "" {
					t.Errorf("%s: %s: got %q, want none", path, name, got)
				}
			}
		}
	}
}

// nginx must stream an upload of any size to the registry without buffering.
func TestUploadStreams(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	arrived := make(chan struct{})
	f.registry.answers(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadFull(r.Body, make([]byte, 8<<10)); err != nil {
			t.Error(err)
		}
		close(arrived)
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v", n, err)
	})
	const size = 8 << 20 // nginx's default limit is 1 MB
	body, pipe := io.Pipe()
	go func() {
		_, err := io.CopyN(pipe, rand.Reader, 16<<10)
		<-arrived // the registry has the first bytes before the last are sent
		if err == nil {
			_, err = io.CopyN(pipe, rand.Reader, size)
		}
		pipe.CloseWithError(err)
	}()
	resp := f.do(t, http.MethodPatch, "/v2/big/blobs/uploads/1", body)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if want := fmt.Sprintf("%d <nil>", size+8<<10); string(got) != want || err != nil {
		t.Errorf("the registry read %q (%s, %v), want %s", got, resp.Status, err, want)
	}
}

// nginx must stream a download without buffering.
func TestDownloadStreams(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	read := make(chan struct{})
	f.registry.answers(func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, 8<<10))
		w.(http.Flusher).Flush()
		select {
		case <-read:
		case <-r.Context().Done():
		}
	})
	resp := f.do(t, http.MethodGet, "/v2/big/blobs/sha256:0", nil)
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 8<<10)); err != nil {
		t.Error(err)
	}
	close(read)
}

// nginx -t must accept the configuration without a warning.
func TestConfigurationIsAccepted(t *testing.T) {
	t.Parallel()
	nginx := findNginx(t)
	dir := t.TempDir()
	writeToken(t, dir)
	conf := strings.NewReplacer("/var/cache/nginx", dir, "/etc/nginx/front", dir, "/tmp/nginx.pid", dir+"/nginx.pid").
		Replace(nginxConf(t))
	for _, address := range upstreams(t) {
		conf = strings.ReplaceAll(conf, "server "+address, "server 127.0.0.1:1") // the names resolve only in compose
	}
	name := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(name, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(nginx, "-t", "-c", name).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Errorf("nginx -t: %v", exit)
	}
	if bytes.Contains(out, []byte("[warn]")) || bytes.Contains(out, []byte("[emerg]")) {
		t.Errorf("nginx -t printed warnings or errors: %s", out)
	}
}

// The access log must have the queries of searches, but not the state of an upload,
// with which anybody could continue the upload.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	for _, path := range []string{"/v1/search?q=shown", "/v2/app/blobs/uploads/1?_state=hidden"} {
		f.do(t, http.MethodGet, path, nil).Body.Close()
	}
	var log string
	eventually(t, "both requests are logged", func() bool {
		b, err := os.ReadFile(f.accessLog)
		log = string(b)
		return err == nil && strings.Contains(log, "/v1/search") && strings.Contains(log, "/v2/app")
	})
	if !strings.Contains(log, `"GET /v1/search?q=shown HTTP/1.1"`) || !strings.Contains(log, `"GET /v2/app/blobs/uploads/1 HTTP/1.1"`) || strings.Contains(log, "hidden") {
		t.Errorf("got access log %s", log)
	}
}

// nginx gives each request an id of its own: the reader or registry, the client and the
// access log see the same one. An answer from the cache has the id of its own request,
// and not of the one that it was made for.
func TestRequestID(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	var got atomic.Value
	note := func(w http.ResponseWriter, r *http.Request) {
		got.Store(strings.Join(r.Header.Values("X-Request-Id"), ", "))
		w.Header().Set("X-Request-Id", "of the backend")
		w.Header().Set("Cache-Control", "max-age=3600")
	}
	f.readersAnswer(note)
	f.registry.answers(note)
	ask := func(path string) string {
		resp := f.do(t, http.MethodGet, path, nil, "X-Request-Id", "forged")
		resp.Body.Close()
		return strings.Join(resp.Header.Values("X-Request-Id"), ", ")
	}
	id := regexp.MustCompile("^[0-9a-f]{32}$")
	for _, path := range []string{"/v1/search?q=a", "/v2/app/manifests/v1", "/live", "/v1/search?q=a&min_version=e.1"} {
		if client := ask(path); !id.MatchString(client) || client != got.Load() {
			t.Errorf("%s: the client got the id %q, the backend %q", path, client, got.Load())
		}
	}
	before := got.Load()
	hit, refused := ask("/v1/search?q=a"), ask("/events")
	if !id.MatchString(hit) || hit == before || got.Load() != before || !id.MatchString(refused) {
		t.Errorf("the answer from the cache has the id %q, the one of nginx %q", hit, refused)
	}
	eventually(t, "the access log has the id", func() bool {
		b, err := os.ReadFile(f.accessLog)
		return err == nil && strings.Contains(string(b), " request="+hit+" ")
	})
}
