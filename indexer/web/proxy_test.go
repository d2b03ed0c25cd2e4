package web_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer/web"
)

// front returns a server that proxies /v2/ to backend.
func front(t *testing.T, backend string) *httptest.Server {
	t.Helper()
	u, err := url.Parse(backend)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, &book{}, func(c *web.Config) { c.RegistryProxy = u })
}

func backend(t *testing.T, f http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s
}

// A path below /v2/ must stay there, however it is encoded and however the registry
// decodes it.
func TestProxyStaysBelowV2(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	registry := backend(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.RequestURI
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<script>alert(1)</script>")
	})
	s := front(t, registry.URL)
	for path, code := range map[string]int{
		"/v2/../admin": 400, "/v2/..": 400, "/v2/..%2fadmin": 400, "/v2/%2e%2e/admin": 400, "/v2/x/%2e%2E/%2e./admin": 400, "/v2/x/./y": 400,
		"/v2/..%5cadmin": 400, "/v2/x%5c..%5cadmin": 400, "/v2/%252e%252e/admin": 400, "/v2/..;/admin": 400, "/v2/x/..;a=b/admin": 400, "/%76%32/../admin": 400,
		"/v2/": 200, "/v2": 200, "/v2/team/app/manifests/v1.2..3": 200, "/v2/team%2Fapp/tags/list?n=1&last=..%2f": 200,
		"/v2/a/blobs/uploads/0b7c?_state=a%2F..%2Fb%3D": 200,
	} {
		resp, body := get(t, s.URL+path)
		select {
		case got := <-seen:
			if code != 200 || got != path {
				t.Errorf("%s: the registry saw %s, want code %d", path, got, code)
			}
		default:
			if code == 200 || !strings.Contains(body, `{"errors":[{"code":`) {
				t.Errorf("%s: did not reach the registry: %d %s", path, resp.StatusCode, body)
			}
		}
		if resp.StatusCode != code {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, code)
		}
		if h := resp.Header; code == 200 && (h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") != "default-src 'none'; sandbox" || h.Get("Content-Type") != "text/html") {
			t.Errorf("%s: %v", path, h)
		}
	}
}

// A layer must be streamed: the registry receives its first bytes before the client
// has sent the last, and the same holds for a pull.
func TestProxyStreams(t *testing.T) {
	t.Parallel()
	arrived, answered := make(chan string, 1), make(chan struct{})
	registry := backend(t, func(w http.ResponseWriter, r *http.Request) {
		first := make([]byte, 5)
		if _, err := io.ReadFull(r.Body, first); err != nil {
			t.Error(err)
		}
		arrived <- string(first)
		rest, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Length", "9") // as for a layer; without it ReverseProxy streams anyway
		_, _ = w.Write(rest)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-answered: // the client has received what was written so far
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "end")
	})
	body, layer := io.Pipe()
	go func() {
		_, _ = io.WriteString(layer, "first")
		select {
		case got := <-arrived:
			if got != "first" {
				t.Errorf("received %q", got)
			}
		case <-time.After(10 * time.Second):
			t.Error("nothing arrived before the whole body was sent")
		}
		_, _ = io.WriteString(layer, "second")
		_ = layer.Close()
	}()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, front(t, registry.URL).URL+"/v2/a/blobs/uploads/1", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := make([]byte, 6)
	if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != "second" {
		t.Fatalf("%q, %v", got, err)
	}
	close(answered)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "end" {
		t.Errorf("%q, %v", rest, err)
	}
}

// The registry makes its addresses from the headers about the outer connection.
func TestProxyForwarded(t *testing.T) {
	t.Parallel()
	registry := backend(t, func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-For", "Forwarded", "Upgrade", "Connection", "Accept-Encoding", "User-Agent"} {
			w.Header()["Saw-"+name] = r.Header[name]
		}
		w.Header().Set("Saw-Host", r.Host)
	})
	s := front(t, registry.URL)
	host := strings.TrimPrefix(s.URL, "http://")
	for _, test := range []struct {
		name   string
		header []string
		want   map[string]string
	}{
		{"nobody before us", nil, map[string]string{
			"Host": host, "X-Forwarded-Proto": "http", "X-Forwarded-Host": host, "X-Forwarded-For": "127.0.0.1", "Forwarded": "", "Accept-Encoding": "",
		}},
		{"a proxy before us", []string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "r.example", "X-Forwarded-For", "192.0.2.1"}, map[string]string{
			"Host": host, "X-Forwarded-Proto": "https", "X-Forwarded-Host": "r.example", "X-Forwarded-For": "192.0.2.1, 127.0.0.1",
		}},
		{"a modern proxy", []string{"Forwarded", "proto=https;host=r.example"}, map[string]string{"Forwarded": "proto=https;host=r.example"}},
		{"flatpak", []string{"Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABk", "User-Agent", "Flatpak 1.14.10"}, map[string]string{
			"Upgrade": "", "Connection": "", "User-Agent": "Flatpak 1.14.10",
		}},
	} {
		resp, _ := get(t, s.URL+"/v2/", test.header...)
		got := map[string]string{}
		for name := range test.want {
			got[name] = resp.Header.Get("Saw-" + name)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestProxyForwardedTLS(t *testing.T) {
	t.Parallel()
	registry := backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Forwarded-Proto"))
	})
	u, _ := url.Parse(registry.URL)
	s := httptest.NewTLSServer(web.New(web.Config{Read: (&book{}).read, RegistryProxy: u}))
	t.Cleanup(s.Close)
	resp, err := s.Client().Get(s.URL + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, _ := io.ReadAll(resp.Body); string(b) != "https" {
		t.Errorf("X-Forwarded-Proto %q", b)
	}
}

// Clients outside cannot reach an internal address, and crane refuses to; everything
// else is passed on unchanged.
func TestProxyAddresses(t *testing.T) {
	t.Parallel()
	var self string
	registry := backend(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch r.URL.Path {
		case "/v2/inside":
			h.Set("Location", self+"/v2/a/blobs/uploads/1?_state=x")
			h.Set("Link", "<"+self+`/v2/_catalog?last=a&n=1>; rel="next"`)
		case "/v2/outside":
			h.Set("Location", "https://s3.example/blob?X-Amz-Signature=1")
			h.Set("Link", `</v2/_catalog?last=a&n=1>; rel="next"`)
			w.WriteHeader(http.StatusTemporaryRedirect)
		default:
			h.Set("Location", "http://"+r.Host+r.RequestURI)
			w.WriteHeader(http.StatusMovedPermanently)
		}
	})
	self = registry.URL
	s := front(t, registry.URL)
	for path, want := range map[string][2]string{
		"/v2/inside":           {"/v2/a/blobs/uploads/1?_state=x", `</v2/_catalog?last=a&n=1>; rel="next"`},
		"/v2/outside":          {"https://s3.example/blob?X-Amz-Signature=1", `</v2/_catalog?last=a&n=1>; rel="next"`},
		"/v2":                  {s.URL + "/v2", ""},
		"/v2/a//b/":            {s.URL + "/v2/a//b/", ""},
		"/v2/a%2Fb?x=%zz&y=;":  {s.URL + "/v2/a%2Fb?x=%zz&y=;", ""},
		"/v2/a/blobs/uploads/": {s.URL + "/v2/a/blobs/uploads/", ""},
	} {
		resp, _ := get(t, s.URL+path)
		if got := [2]string{resp.Header.Get("Location"), resp.Header.Get("Link")}; got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
		if resp.Header.Get("Referrer-Policy") != "" {
			t.Errorf("%s: has headers of our pages: %v", path, resp.Header)
		}
	}
}

// The proxy neither compresses nor decompresses, because digests depend on the
// bytes.
func TestProxyLeavesBytes(t *testing.T) {
	t.Parallel()
	registry := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, "no gzip at all")
	})
	resp, body := get(t, front(t, registry.URL).URL+"/v2/a/blobs/x")
	if body != "no gzip at all" || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%q %v", body, resp.Header)
	}
}

func TestProxyErrors(t *testing.T) {
	t.Parallel()
	gone := backend(t, nil)
	gone.Close()
	breaks := backend(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for address, want := range map[string]int{gone.URL: 503, breaks.URL: 502} {
		resp, body := do(t, http.MethodPost, front(t, address).URL+"/v2/a/blobs/uploads/", "")
		if resp.StatusCode != want || !strings.HasPrefix(body, `{"errors":[{"code":"UNAVAILABLE"`) {
			t.Errorf("%d %q, want %d", resp.StatusCode, body, want)
		}
		if resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%v", resp.Header)
		}
		if strings.Contains(body, "127.0.0.1") {
			t.Errorf("the answer names internal hosts: %s", body)
		}
	}
}

// Without RegistryProxy, /v2/ is not served.
func TestNoProxy(t *testing.T) {
	t.Parallel()
	if resp, _ := get(t, serve(t, &book{}).URL+"/v2/"); resp.StatusCode != 404 {
		t.Errorf("status %d, want 404", resp.StatusCode)
	}
}

// The deadline of a page must not apply to a layer that is pushed later on the same
// connection.
func TestProxyHasNoDeadline(t *testing.T) {
	t.Parallel()
	deadlines := make(chan time.Time, 100)
	registry := backend(t, func(http.ResponseWriter, *http.Request) {})
	u, _ := url.Parse(registry.URL)
	s := httptest.NewUnstartedServer(web.New(web.Config{Read: (&book{}).read, RegistryProxy: u}))
	s.Listener = deadlineListener{s.Listener, deadlines}
	s.Start()
	t.Cleanup(s.Close)

	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	last := func(path string) (d time.Time, any bool) {
		if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		for {
			select {
			case d = <-deadlines:
				any = any || !d.IsZero()
			default:
				return d, any
			}
		}
	}
	if _, any := last("/v1/_ping"); !any {
		t.Error("our own answer has no deadline")
	}
	last("/v2/") // reads the deadlines that the end of the first answer has set
	if d, any := last("/v2/"); any {
		t.Errorf("the registry's answer has a deadline: %v", d)
	}
}

type deadlineListener struct {
	net.Listener
	seen chan time.Time
}

func (l deadlineListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return deadlineConn{c, l.seen}, err
}

type deadlineConn struct {
	net.Conn
	seen chan time.Time
}

func (c deadlineConn) SetWriteDeadline(d time.Time) error {
	c.seen <- d
	return c.Conn.SetWriteDeadline(d)
}

// If a client disconnects during a push, the answer must not be 200.
func TestProxyClientGone(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	registry := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	u, _ := url.Parse(registry.URL)
	h := web.New(web.Config{Read: (&book{}).read, RegistryProxy: u})
	defer func() {
		if r := recover(); r != http.ErrAbortHandler {
			t.Errorf("recovered %v", r)
		}
	}()
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, "/v2/", nil))
	t.Error("answered")
}

// If the registry's reply is not valid HTTP, its text must appear neither in the
// answer nor in the log.
func TestProxyTellsNoSecret(t *testing.T) {
	t.Parallel()
	const secret = "hunter2secret"
	for name, answer := range map[string]string{
		"no HTTP":   secret + "\r\n\r\n",
		"no status": "HTTP/1.1 " + secret + " x\r\n\r\n",
		"no header": "HTTP/1.1 200 OK\r\n" + secret + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := backend(t, func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(conn, answer) // the proxy may have gone
				conn.Close()
			})
			u, err := url.Parse(registry.URL)
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			s := serve(t, &book{}, func(c *web.Config) { c.RegistryProxy, c.Log = u, slog.New(slog.NewTextHandler(&log, nil)) })
			resp, body := get(t, s.URL+"/v2/app/manifests/v1")
			s.Close() // afterwards nothing is logged
			if resp.StatusCode != http.StatusBadGateway || !strings.Contains(log.String(), "/v2/app/manifests/v1") {
				t.Errorf("answered %s, and logged %s", resp.Status, log.String())
			}
			if text := body + fmt.Sprint(resp.Header) + log.String(); strings.Contains(text, secret) {
				t.Errorf("the answer or the log quotes the registry: %s", text)
			}
		})
	}
}
