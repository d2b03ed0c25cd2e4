package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
)

const (
	fromFront    = "127.0.0.1:40000"
	fromStranger = "192.0.2.7:40000"
)

// An observed is a handler with an access log.
type observed struct {
	http.Handler
	log bytes.Buffer
}

// observe returns a handler of a book that logs to a buffer.
func observe(b *book, change ...func(*web.Config)) *observed {
	o := &observed{}
	c := web.Config{
		Read: b.read, PublicURL: "/", WebUI: true, AccessLog: true,
		Log: slog.New(withRequest{slog.NewTextHandler(&o.log, nil)}),
	}
	for _, f := range change {
		f(&c)
	}
	o.Handler = web.New(c)
	return o
}

// withRequest logs the request of the context, as the program does.
type withRequest struct{ slog.Handler }

func (h withRequest) Handle(ctx context.Context, r slog.Record) error {
	r.AddAttrs(slog.String("request", indexer.RequestOf(ctx)))
	return h.Handler.Handle(ctx, r)
}

// ask sends a request from an address. header is a list of key, value, key, value, ...
func (o *observed) ask(t *testing.T, method, target, from string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	r.RemoteAddr = from
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	o.ServeHTTP(w, r)
	return w
}

var newID = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// An id is taken only from a front, and only if it is valid. Otherwise a new one is
// made. The header, the problem document and the log must have the same id.
func TestRequestID(t *testing.T) {
	t.Parallel()
	const long = "0123456789abcdefABCDEF._:@/+=-"
	for _, test := range []struct {
		name, from string
		given      []string
		taken      bool
	}{
		{"from nginx", fromFront, []string{"4bf92f3577b34da6a3ce929d0e0e4736"}, true},
		{"private network", "10.1.2.3:1", []string{"7e57-1d"}, true},
		{"IPv6", "[fd00::1]:1", []string{"7e57-1d"}, true},
		{"all characters", fromFront, []string{long}, true},
		{"longest", fromFront, []string{strings.Repeat("a", 128)}, true},
		{"none", fromFront, nil, false},
		{"stranger", fromStranger, []string{"7e57-1d"}, false},
		{"too long", fromFront, []string{strings.Repeat("a", 129)}, false},
		{"empty", fromFront, []string{""}, false},
		{"space", fromFront, []string{"a b"}, false},
		{"quote", fromFront, []string{`a"b`}, false},
		{"apostrophe", fromFront, []string{"a'b"}, false},
		{"not ASCII", fromFront, []string{"é"}, false},
		{"line break", fromFront, []string{"a\nlevel=ERROR"}, false},
		{"two", fromFront, []string{"a", "b"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := observe(&book{})
			var header []string
			for _, v := range test.given {
				header = append(header, "X-Request-Id", v)
			}
			w := o.ask(t, "GET", "/api/v1/nothing", test.from, header...)
			id := strings.Join(w.Header().Values("X-Request-Id"), ", ")
			if test.taken && id != test.given[0] || !test.taken && !newID.MatchString(id) {
				t.Errorf("the header has the id %q", id)
			}
			var problem struct {
				Request string `json:"request_id"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil || problem.Request != id {
				t.Errorf("the problem has the id %q, the header %q: %v", problem.Request, id, err)
			}
			if !strings.Contains(o.log.String(), fmt.Sprintf("request=%s\n", quoted(id))) {
				t.Errorf("the log lacks the id %q: %s", id, &o.log)
			}
		})
	}
}

// quoted writes a value as slog's TextHandler does.
func quoted(s string) string {
	var b bytes.Buffer
	slog.New(slog.NewTextHandler(&b, nil)).Info("", "v", s)
	_, value, _ := strings.Cut(strings.TrimSpace(b.String()), "v=")
	return value
}

// Every kind of answer has an id, and no two requests have the same. A 304 has none:
// caches would write it into the answer that they have stored.
func TestEveryAnswerHasAnID(t *testing.T) {
	t.Parallel()
	o := observe(fullBook())
	seen := map[string]bool{}
	for _, path := range []string{"/", "/nothing", "/v1/search?q=a", "/api/v1/search", "/api/v1/search?q=created:", "/index/static",
		"/health", "/api/v1", "/static/none", "/v2/app/referrers/x", "/compare"} {
		for _, method := range []string{"GET", "HEAD", "DELETE"} {
			w := o.ask(t, method, path, fromStranger)
			id := w.Header().Get("X-Request-Id")
			if !newID.MatchString(id) || seen[id] {
				t.Errorf("%s %s: %d with the id %q", method, path, w.Code, id)
			}
			seen[id] = true
		}
	}
	etag := o.ask(t, "GET", "/api/v1/search", fromFront).Header().Get("ETag")
	w := o.ask(t, "GET", "/api/v1/search", fromFront, "If-None-Match", etag, "X-Request-Id", "second")
	if w.Code != 304 || w.Header()["X-Request-Id"] != nil || !strings.Contains(o.log.String(), "request=second") {
		t.Errorf("%d with the id %q, log %s", w.Code, w.Header().Get("X-Request-Id"), &o.log)
	}
}

// The lines about errors have the id, too, and so does the error page of a failure.
func TestErrorsHaveTheID(t *testing.T) {
	t.Parallel()
	for _, err := range []error{errors.New("x"), indexer.ErrUnavailable, indexer.ErrTooSlow} {
		o := observe(&book{err: err})
		w := o.ask(t, "GET", "/", fromFront, "X-Request-Id", "7e57-1d")
		if w.Code < 500 || !strings.Contains(w.Body.String(), "Request id: 7e57-1d") {
			t.Errorf("%v: %d %s", err, w.Code, w.Body)
		}
		lines := strings.Split(strings.TrimSpace(o.log.String()), "\n")
		if len(lines) != 2 {
			t.Errorf("%v: %d lines, want an error and the request: %s", err, len(lines), &o.log)
		}
		for _, line := range lines {
			if !strings.HasSuffix(line, " request=7e57-1d") {
				t.Errorf("%v: a line without the id: %s", err, line)
			}
		}
	}
}

// The registry is sent the id, and an answer of the registry has no other.
func TestProxyPassesID(t *testing.T) {
	t.Parallel()
	sent := make(chan []string, 1)
	registry := backend(t, func(w http.ResponseWriter, r *http.Request) {
		sent <- r.Header.Values("X-Request-Id")
		w.Header().Set("X-Request-Id", "of-the-registry")
	})
	u, err := url.Parse(registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	o := observe(&book{}, func(c *web.Config) { c.RegistryProxy = u })
	w := o.ask(t, "GET", "/v2/", fromStranger, "X-Request-Id", "forged")
	id, got := w.Header().Values("X-Request-Id"), <-sent
	if len(id) != 1 || !newID.MatchString(id[0]) || len(got) != 1 || got[0] != id[0] {
		t.Errorf("the registry got the ids %q, the client %q", got, id)
	}
	if !strings.Contains(o.log.String(), "route=/v2/ ") {
		t.Errorf("log: %s", &o.log)
	}
}

// The access log has what an operator needs, and nothing that is secret or private.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	o := observe(fullBook())
	w := o.ask(t, "GET", "/api/v1/repositories/team/app?limit=5&min_version=", fromFront, "X-Request-Id", "7e57-1d", "User-Agent", "test/1",
		"X-Forwarded-For", "198.51.100.4", "Authorization", "Bearer hidden", "Cookie", "a=hidden", "Referer", "http://hidden/")
	o.ask(t, "GET", "/v1/search?q=hidden", "[2001:db8::5]:1")
	line, rest, _ := strings.Cut(o.log.String(), "\n")
	want := fmt.Sprintf(`level=INFO msg=request method=GET route="GET /api/v1/repositories/{name}" path=/api/v1/repositories/team/app `+
		`status=%d bytes=%d seconds=S client=198.51.100.4 user_agent=test/1 request=7e57-1d`, w.Code, w.Body.Len())
	line = regexp.MustCompile(`seconds=[0-9.e-]+ `).ReplaceAllString(line, "seconds=S ")
	if _, got, _ := strings.Cut(line, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !strings.Contains(rest, " path=/v1/search ") || !strings.Contains(rest, " client=2001:db8::/64 ") {
		t.Errorf("the search: %s", rest)
	}
	if strings.Contains(o.log.String(), "hidden") {
		t.Errorf("the log tells a secret: %s", &o.log)
	}
}

// A HEAD request sends no bytes. Health checks are logged only if they fail.
func TestAccessLogOfHealth(t *testing.T) {
	t.Parallel()
	ready := error(nil)
	o := observe(&book{}, func(c *web.Config) { c.Ready = func(context.Context) error { return ready } })
	for _, path := range []string{"/health", "/readiness", "/version"} {
		o.ask(t, "GET", path, fromFront)
	}
	if o.log.Len() != 0 {
		t.Errorf("health is logged: %s", &o.log)
	}
	ready = errors.New("x")
	o.ask(t, "GET", "/readiness", fromFront)
	o.ask(t, "HEAD", "/", fromFront)
	if log := o.log.String(); !strings.Contains(log, " path=/readiness status=503 ") ||
		!strings.Contains(log, " path=/ status=200 bytes=0 ") {
		t.Errorf("log: %s", log)
	}
}

// Whatever a stranger sends, a request is one line of bounded size.
func TestAccessLogIsBounded(t *testing.T) {
	t.Parallel()
	const esc = "\x1b[2J\r\nlevel=ERROR msg=forged\x00\u202e\xff"
	for name, handler := range map[string]func(io.Writer) slog.Handler{
		"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		"json": func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
	} {
		var log bytes.Buffer
		o := observe(&book{err: indexer.ErrTooSlow}, func(c *web.Config) { c.Log = slog.New(handler(&log)) })
		for _, path := range []string{"/", "/v1/search", "/r/"} {
			log.Reset()
			r := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
			r.URL.Path = path + strings.Repeat(esc, 100_000/len(esc))
			if path == "/v1/search" {
				r.URL.Path, r.URL.RawQuery = path, "q=a"+strings.Repeat("&", 100_000)
			}
			r.Header.Set("User-Agent", strings.Repeat(esc, 1000))
			o.ServeHTTP(httptest.NewRecorder(), r)
			for line := range strings.Lines(log.String()) {
				if len(line) > 10_000 || !strings.HasSuffix(line, "\n") {
					t.Errorf("%s %s: a line of %d bytes: %.500q", name, path, len(line), line)
				}
				if !strings.HasPrefix(line, "time=") && !strings.HasPrefix(line, "{") || strings.ContainsAny(line, "\x1b\r\x00") {
					t.Errorf("%s %s: a forged line: %.500q", name, path, line)
				}
			}
		}
	}
}

// A panic closes the connection. The log has it with the id and the place.
func TestPanicIsLogged(t *testing.T) {
	t.Parallel()
	o := observe(&book{}, func(c *web.Config) {
		c.Read = func(context.Context, indexer.Asker, func(answer.Book) error) error { panic("out of order") }
	})
	func() {
		defer func() {
			if v := recover(); v != http.ErrAbortHandler {
				t.Errorf("recovered %v", v)
			}
		}()
		o.ask(t, "GET", "/v1/search?q=a", fromFront, "X-Request-Id", "7e57-1d")
	}()
	log := o.log.String()
	for _, want := range []string{"level=ERROR msg=panic value=\"out of order\"", "observe_test.go", "status=0 ", "aborted=true"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s: %s", want, log)
		}
	}
	if got := strings.Count(log, "request=7e57-1d\n"); got != 2 {
		t.Errorf("%d lines with the id, want 2: %s", got, log)
	}
}
