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

// nginxConf reads the configuration.
func nginxConf(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "deploy", "nginx.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

var serverLine = regexp.MustCompile(`(?m)^\s*server ([^ {;]+)`)

// upstreams are the host:port of all servers in the configuration.
func upstreams(t *testing.T) []string {
	t.Helper()
	var addresses []string
	for _, m := range serverLine.FindAllStringSubmatch(nginxConf(t), -1) {
		addresses = append(addresses, m[1])
	}
	if len(addresses) != 3 {
		t.Fatalf("nginx.conf has the servers %v, want a registry and two readers", addresses)
	}
	return addresses
}

// A backend answers as a registry or a reader would, and counts what it is
// asked.
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

// A front is nginx on our configuration, before backends of this test.
type front struct {
	url              string
	registry         *backend
	readers          [2]*backend
	requestsToReader func() int64
	accessLog        string // a file
}

// startFront runs nginx with nothing changed but addresses and directories.
func startFront(t *testing.T) *front {
	t.Helper()
	nginx := findNginx(t)
	f := &front{registry: newBackend(t), readers: [2]*backend{newBackend(t), newBackend(t)}}
	f.requestsToReader = func() int64 { return f.readers[0].asked.Load() + f.readers[1].asked.Load() }

	dir, listen := t.TempDir(), freeAddress(t)
	f.url = "http://" + listen
	at := upstreams(t)
	f.accessLog = filepath.Join(dir, "access.log")
	conf := strings.NewReplacer(
		"server "+at[0], "server "+f.registry.Listener.Addr().String(),
		"server "+at[1], "server "+f.readers[0].Listener.Addr().String(),
		"server "+at[2], "server "+f.readers[1].Listener.Addr().String(),
		"listen 8080", "listen "+listen,
		"/var/cache/nginx", dir,
		"/tmp/nginx.pid", filepath.Join(dir, "nginx.pid"),
		"/dev/stdout", f.accessLog,
	).Replace(nginxConf(t))
	name := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(name, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, f.url, nginx, "-c", name, "-g", globals())
	return f
}

// globals keep nginx in the foreground, and let its workers, if we are root,
// into the test's directory, which is root's.
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

// run starts nginx, waits until it listens and ends it with the test.
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
			t.Logf("nginx says:\n%s", &log)
		}
	})
	eventually(t, "nginx listens", func() bool {
		select {
		case <-ended:
			t.Fatalf("nginx ended: %s", &log)
		default:
		}
		resp, err := http.Get(url + "/events") // answered without a backend
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not after 10 s: %s", what)
		case <-tick.C:
		}
	}
}

// get gives the answer's body and how the cache took part in it.
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

// book is a reader's answer: text that may be kept for maxAge seconds, and an
// ETag. It counts how often it could say that nothing changed.
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

// An answer is kept as long as its Cache-Control says, and with it a reader is
// not asked.
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
		t.Errorf("the readers were asked %d times, want 2", got)
	}
}

// An answer that may not be kept must never be.
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

// The referrers are the readers', and cached; all else below /v2/ is the
// registry's, and never is.
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

// Of whatever address somebody writes, the registry sees what is below /v2/, and a
// browser runs nothing of what comes from there.
func TestRegistryStaysBelowV2(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	f.readersAnswer(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "reader") })
	f.registry.answers(func(w http.ResponseWriter, r *http.Request) {
		if decoded, err := url.PathUnescape(r.RequestURI); err != nil || !strings.HasPrefix(path.Clean(decoded)+"/", "/v2/") {
			t.Errorf("the registry was asked for %s", r.RequestURI)
		}
		w.Header().Set("X-Content-Type-Options", "nosniff") // as a registry may be configured to
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
		t.Error("the registry was asked for nothing: nothing was tested")
	}
}

// One who waits for a version that never comes must not take the readers away
// from the others.
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
			t.Errorf("who waits hears %s", resp.Status)
		}
		f.get(t, "/api/v1/search")
	}
	if got := f.requestsToReader(); got != 10 {
		t.Errorf("the readers were asked %d times, want 10", got)
	}
}

// An answer to somebody with a password must not be given to others.
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
		t.Errorf("nobody: got %q, %s, want nobody's, MISS", body, cache)
	}
	if body, _ := f.get(t, "/", "Authorization", "Bearer bob"); body != "for Bearer bob" {
		t.Errorf("bob: got %q, want his", body)
	}
}

// An old answer is asked for by its ETag, so that a reader need not send it
// again; when it changed, the new one is given at once.
func TestRevalidate(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	b := &book{text: "one", maxAge: 1}
	f.readersAnswer(b.serve)
	f.get(t, "/index/static")
	eventually(t, "the answer is asked for again", func() bool {
		body, cache := f.get(t, "/index/static")
		if body != "one" {
			t.Errorf("got %q, want one", body)
		}
		return cache == "REVALIDATED"
	})
	if full, unchanged := b.counts(); full != 1 || unchanged != 1 {
		t.Errorf("the readers sent it %d times and said unchanged %d times, want 1 and 1", full, unchanged)
	}
	b.set("two")
	eventually(t, "the new answer is given", func() bool {
		body, cache := f.get(t, "/index/static")
		if cache == "STALE" || cache == "UPDATING" {
			t.Errorf("got %q, %s: readers are there, so nobody need get an old answer", body, cache)
		}
		return body == "two"
	})
}

// A client that has the answer gets a 304 with what it needs to keep it: flatpak
// asks no more for half an hour after one without Cache-Control.
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

// With one reader down nobody notices; with both down an old answer is better
// than none.
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
	eventually(t, "an old answer is given", func() bool {
		body, cache := f.get(t, "/")
		if body != "one" {
			t.Errorf("both readers are down: got %q, want one", body)
		}
		return cache == "STALE"
	})
}

// Readers whose database is away are as good as down, and are asked again as soon
// as they can serve.
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
	eventually(t, "an old answer is given", func() bool {
		body, cache := f.get(t, "/")
		if body != "one" {
			t.Errorf("no reader can serve: got %q, want one", body)
		}
		return cache == "STALE"
	})
	b.set("two")
	f.readersAnswer(b.serve)
	eventually(t, "the new answer is given", func() bool {
		body, _ := f.get(t, "/")
		return body == "two"
	})
}

// Many who ask for the same at once are one question to the readers.
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
		t.Errorf("the readers were asked %d times, want once", got)
	}
}

// Nobody outside may send events, however the path is written.
func TestEventsDenied(t *testing.T) {
	t.Parallel()
	f := startFront(t)
	f.readersAnswer(func(w http.ResponseWriter, r *http.Request) { t.Errorf("a reader was asked for %s", r.URL) })
	for _, path := range []string{"/events", "//events", "/./events", "/x/../events", "/%65vents", "/events?x=1"} {
		resp := f.do(t, http.MethodPost, path, strings.NewReader("{}"))
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("POST %s: got %s, want 403", path, resp.Status)
		}
	}
}

// The registry builds the Location of an upload from these, and a client comes
// back to it.
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

// A layer must reach the registry while it is being sent, and whatever its
// size: nginx must not collect it first.
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
	const size = 8 << 20 // above nginx's default limit of 1 MB
	body, pipe := io.Pipe()
	go func() {
		_, err := io.CopyN(pipe, rand.Reader, 16<<10)
		<-arrived // the first bytes are there before the last are sent
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

// A pull must arrive while the registry still sends.
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

// nginx itself must find nothing to say about the configuration.
func TestConfigurationIsAccepted(t *testing.T) {
	t.Parallel()
	nginx := findNginx(t)
	dir := t.TempDir()
	conf := strings.NewReplacer("/var/cache/nginx", dir, "/tmp/nginx.pid", dir+"/nginx.pid").Replace(nginxConf(t))
	for _, address := range upstreams(t) {
		conf = strings.ReplaceAll(conf, "server "+address, "server 127.0.0.1:1") // names resolve in compose only
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
		t.Errorf("nginx -t says: %s", out)
	}
}

// The access log tells what was searched for, and not the state of an upload, which
// lets whoever has it go on with it.
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
		t.Errorf("the access log: %s", log)
	}
}
