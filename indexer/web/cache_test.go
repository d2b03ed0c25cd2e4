package web_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
)

// cachedPaths are paths whose answers may be cached.
var cachedPaths = []string{"/v1/search?q=x", "/v1/search?query=x", "/v0/search", "/index/static", "/index/dynamic", "/", "/?q=x", "/?sort=name", "/r/app", "/r/app:v1", "/compare", "/compare?a=app:v1&b=app:v1",
	"/api/v1/search?q=x&limit=1", "/api/v1/facets", "/api/v1/suggest?q=x", "/api/v1/repositories", "/api/v1/repositories/app",
	"/api/v1/repositories/app/-/tags", "/api/v1/repositories/app/-/notices", "/api/v1/repositories/app/-/manifests/v1", "/api/v1/repositories/app/-/manifests/v1/raw",
	"/api/v1/history", "/api/v1/digests/" + dgst("a").String(), "/v2/app/referrers/" + dgst("a").String(),
	"/activity", "/activity.atom", "/n/team", "/storage", "/api/v1/storage", "/api/v1/repositories/app/-/history",
	"/api/v1/repositories/app/-/tags/v1/history", "/api/v1/repositories/app/-/manifests/v1/layers",
	"/api/v1/repositories/app/-/manifests/v1/referrers", "/api/v1/repositories/app/-/manifests/v1/storage",
	"/api/v1/repositories/app/-/storage", "/api/v1/namespaces/team/storage"}

// notCached are the routes without an answer that may be cached by its ETag.
var notCached = map[string]string{
	"GET /api/v1":                             "redirects",
	"GET /api/v1/":                            "depends on the program alone",
	"GET /api/v1/config":                      "depends on the settings alone",
	"GET /api/v1/dump":                        "is sent while it is read",
	"GET /api/v1/health":                      "is about this moment",
	"GET /api/v1/openapi.json":                "depends on the program alone",
	"GET /api/v1/status":                      "is about this moment",
	"GET /api/v1/repositories/{name}/-/usage": "tells what is stale at this moment",
	"GET /health":                             "is about this moment",
	"GET /readiness":                          "is about this moment",
	"GET /version":                            "depends on the program alone",
	"GET /live":                               "is a stream of events",
	"GET /opensearch.xml":                     "depends on the settings alone",
	"GET /repositories":                       "redirects",
	"GET /settings":                           "depends on the settings alone",
	"GET /static/{name}":                      "depends on the program alone",
	"GET /status":                             "is about this moment",
	"GET /v1/_ping":                           "reads nothing",
	"POST /assert":                            "answers a POST",
	"POST /events":                            "answers a POST",
	"POST /index/dynamic":                     "answers a POST",
	"POST /index/static":                      "answers a POST",
}

// Every route is in one of the two lists, so that a new one is either tested or has
// a reason for not being tested.
func TestEveryRouteIsCachedOrNot(t *testing.T) {
	t.Parallel()
	h := web.New(web.Config{Read: fullBook().read, PublicURL: "/", WebUI: true, AssertEndpoint: true})
	used := map[string]bool{}
	for _, a := range addresses(t, h) {
		route := a.method + " " + a.path
		pattern := regexp.MustCompile("^" + variable.ReplaceAllString(regexp.QuoteMeta(a.path), "[^/]+") + "$")
		cached := a.method == http.MethodGet && slices.ContainsFunc(cachedPaths, func(path string) bool {
			path, _, _ = strings.Cut(path, "?")
			return pattern.MatchString(path)
		})
		why, not := notCached[route]
		if used[route] = true; cached == (not && why != "") {
			t.Errorf("%s: in cachedPaths %v, in notCached %v; want one of them", route, cached, not)
		}
	}
	for route := range notCached {
		if !used[route] {
			t.Errorf("notCached has %s, which is not a route", route)
		}
	}
}

// variable matches a variable in the path of a route, quoted for a regular
// expression.
var variable = regexp.MustCompile(`\\\{[^}]*\}`)

func fullBook() *book {
	return &book{
		results:      indexer.Results{Total: 1, Items: []indexer.Result{{Repository: indexer.Repository{Name: "team/app", UpdatedAt: day}}}},
		repositories: []indexer.Repository{{Name: "app", UpdatedAt: day}},
		tags:         []indexer.Tag{{Name: "v1", Digest: dgst("a")}},
		manifest:     &indexer.Manifest{Repository: "app", Digest: dgst("a"), Body: []byte(`{}`)},
	}
}

// Two servers may for a moment have different states with the same number: the ETag
// of one must not match that of the other.
func TestEqualNumbersAreNotEqualETags(t *testing.T) {
	t.Parallel()
	for _, path := range cachedPaths {
		etags := map[string]bool{}
		for state := range uint64(2) {
			b := fullBook()
			b.version = indexer.Version{Epoch: "e", Number: 7, State: state}
			resp, _ := get(t, serve(t, b).URL+path)
			etags[resp.Header.Get("ETag")] = true
		}
		if len(etags) != 2 {
			t.Errorf("%s: two states have the ETag %v", path, etags)
		}
	}
}

// A client that already has the answer must receive 304 without any query, and with
// the headers that make flatpak revalidate.
func TestNotModified(t *testing.T) {
	t.Parallel()
	for _, path := range cachedPaths {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			b := fullBook()
			s := serve(t, b, func(c *web.Config) { c.MaxAgeIndex, c.MaxAgeHTML = 90*time.Second, 90*time.Second })
			first, _ := get(t, s.URL+path)
			etag := first.Header.Get("ETag")
			if first.StatusCode != http.StatusOK || etag == "" {
				t.Fatalf("status %d, ETag %q", first.StatusCode, etag)
			}
			before := b.questions
			again, body := get(t, s.URL+path, "If-None-Match", etag)
			if again.StatusCode != http.StatusNotModified || body != "" {
				t.Errorf("status %d, body %q", again.StatusCode, body)
			}
			if b.questions != before {
				t.Errorf("%d questions were asked for a 304", b.questions-before)
			}
			for _, name := range []string{"ETag", "Cache-Control", "Vary"} {
				if got, want := again.Header.Get(name), first.Header.Get(name); got != want {
					t.Errorf("%s of the 304 is %q, was %q", name, got, want)
				}
			}
			wantAge := "max-age=90"
			if path == "/index/dynamic" {
				wantAge = "no-store, no-cache"
			}
			if got := again.Header.Get("Cache-Control"); got != wantAge {
				t.Errorf("Cache-Control %q, want %q", got, wantAge)
			}
		})
	}
}

func TestIfNoneMatch(t *testing.T) {
	t.Parallel()
	b := fullBook()
	s := serve(t, b)
	first, _ := get(t, s.URL+"/index/static")
	etag := first.Header.Get("ETag")
	for _, test := range []struct {
		field string
		want  int
	}{
		{etag, 304},
		{"W/" + etag, 304},
		{" \t" + etag + " ", 304},
		{`"other", ` + etag, 304},
		{`"other" ,W/` + etag + `,"more"`, 304},
		{`,, ` + etag, 304},
		{`"with, comma", ` + etag, 304},
		{`junk, ` + etag, 304},
		{`junk "x" y, ` + etag, 304},
		{"*", 304},
		{" * ", 304},
		{"", 200},
		{"junk", 200},
		{`"`, 200},
		{`W/`, 200},
		{`w/` + etag, 200}, // W/ is case-sensitive (RFC 9110, 8.8.3)
		{`*, "x"`, 200},
		{strings.Trim(etag, `"`), 200},
		{`"x` + etag, 200},
		{etag + `"`, 200},
		{`"other"`, 200},
		{strings.Repeat(`"x",`, 1000), 200},
	} {
		resp, _ := get(t, s.URL+"/index/static", "If-None-Match", test.field)
		if resp.StatusCode != test.want {
			t.Errorf("If-None-Match %.80q: %d, want %d", test.field, resp.StatusCode, test.want)
		}
	}
	resp, _ := get(t, s.URL+"/index/static", "If-None-Match", `"a"`, "If-None-Match", etag)
	if resp.StatusCode != 304 {
		t.Errorf("two fields: %d, want 304", resp.StatusCode)
	}
}

// "*" means "if it exists"; it does not match what does not exist.
func TestIfNoneMatchStarOfNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, &book{})
	resp, _ := get(t, s.URL+"/r/absent", "If-None-Match", "*")
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("status %d, want 404", resp.StatusCode)
	}
}

// Everything that changes the bytes of an answer must change its ETag.
func TestETagDiffers(t *testing.T) {
	t.Parallel()
	etags := map[string]string{}
	see := func(what string, b *book, header []string, change ...func(*web.Config)) {
		t.Helper()
		resp, _ := get(t, serve(t, b, change...).URL+"/index/static", header...)
		etag := resp.Header.Get("ETag")
		if other, taken := etags[etag]; taken {
			t.Errorf("%s has the ETag of %s: %s", what, other, etag)
		}
		etags[etag] = what
	}
	see("the first", &book{}, nil)
	see("another version", &book{version: indexer.Version{Epoch: "e1", Number: 8}}, nil)
	see("another epoch", &book{version: indexer.Version{Epoch: "e2", Number: 7}}, nil)
	see("another program", &book{}, nil, func(c *web.Config) { c.Version = "v2" })
	see("another address", &book{}, nil, func(c *web.Config) { c.PublicURL = "https://r.example" })
	see("other settings", &book{}, nil, func(c *web.Config) { c.Settings = "library" })
	see("gzip", &book{}, []string{"Accept-Encoding", "gzip"})
}

func TestCacheControl(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]string{
		0:                      "no-cache",
		-time.Second:           "no-cache",
		500 * time.Millisecond: "no-cache",
		time.Second:            "max-age=1",
		time.Hour:              "max-age=3600",
	} {
		s := serve(t, fullBook(), func(c *web.Config) { c.MaxAgeIndex, c.MaxAgeHTML = age, age })
		for _, path := range []string{"/index/static", "/v1/search", "/", "/r/app"} {
			resp, _ := get(t, s.URL+path)
			if got := resp.Header.Get("Cache-Control"); got != want {
				t.Errorf("max age %v: Cache-Control of %s is %q, want %q", age, path, got, want)
			}
		}
	}
}

func TestHead(t *testing.T) {
	t.Parallel()
	s := serve(t, fullBook())
	for _, path := range append([]string{"/v1/_ping", "/status", "/static/style.css"}, cachedPaths...) {
		full, body := get(t, s.URL+path, "X-Request-Id", "both")
		head, nothing := do(t, http.MethodHead, s.URL+path, "", "X-Request-Id", "both")
		if head.StatusCode != http.StatusOK || nothing != "" {
			t.Errorf("HEAD %s: status %d, body %q", path, head.StatusCode, nothing)
		}
		full.Header.Del("Date")
		head.Header.Del("Date")
		if diff := cmp.Diff(full.Header, head.Header); diff != "" {
			t.Errorf("HEAD %s differs from GET (-get +head):\n%s", path, diff)
		}
		if got := full.Header.Get("Content-Length"); got != strconv.Itoa(len(body)) {
			t.Errorf("%s: Content-Length %q of %d bytes", path, got, len(body))
		}
	}
}

func TestGzip(t *testing.T) {
	t.Parallel()
	s := serve(t, &book{images: []indexer.RepositoryImages{{Name: "app", Images: []indexer.Image{{Digest: dgst("a")}}}}})
	_, plain := get(t, s.URL+"/index/static")
	for accept, want := range map[string]string{
		"":                     "",
		"identity":             "",
		"gzip;q=0":             "",
		"gzip; q=0.0":          "",
		"gzip;q=junk":          "",
		"br, deflate":          "",
		"gzip":                 "gzip",
		"GZIP":                 "gzip",
		"deflate, gzip;q=1.0":  "gzip",
		"br;q=1.0, gzip;q=0.5": "gzip",
	} {
		resp, body := get(t, s.URL+"/index/static", "Accept-Encoding", accept)
		if got := resp.Header.Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding %q: coding %q, want %q", accept, got, want)
			continue
		}
		if resp.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: Vary %q", accept, resp.Header.Get("Vary"))
		}
		if want == "gzip" {
			z, err := gzip.NewReader(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			body = string(b)
		}
		if body != plain {
			t.Errorf("Accept-Encoding %q: the body differs: %q", accept, body)
		}
	}
}

// Only the text of errors of a known kind may be sent, and no error may be cached.
func TestErrors(t *testing.T) {
	t.Parallel()
	const secret = "password=hunter2"
	kind := func(k error) error { return fmt.Errorf("tag %q: %w", "x", k) }
	for _, test := range []struct {
		path string
		err  error
		want int
		text string
	}{
		{"/v1/search", kind(indexer.ErrNotFound), 404, `tag`},
		{"/v1/search", kind(indexer.ErrInvalid), 400, `tag`},
		{"/v1/search", fmt.Errorf("%s: %w", secret, indexer.ErrUnavailable), 503, "unavailable"},
		{"/v1/search", errors.New(secret), 500, "internal error"},
		{"/v1/search", fmt.Errorf("%s: %w", secret, context.Canceled), 500, "internal error"},
		{"/index/static", errors.New(secret), 503, "internal error"},
		{"/index/dynamic", fmt.Errorf("%s: %w", secret, indexer.ErrUnavailable), 503, "unavailable"},
		{"/", errors.New(secret), 500, "internal error"},
		{"/", fmt.Errorf("%s: %w", secret, indexer.ErrUnavailable), 503, "unavailable"},
		{"/r/app:v1", kind(indexer.ErrNotFound), 404, "tag"},
		{"/status", errors.New(secret), 500, "internal error"},
		{"/api/v1/search", errors.New(secret), 500, `"detail":"internal error"`},
		{"/api/v1/search", fmt.Errorf("%s: %w", secret, indexer.ErrUnavailable), 503, `"status":503`},
		{"/api/v1/status", fmt.Errorf("%s: %w", secret, indexer.ErrUnavailable), 503, `"status":503`},
		{"/api/v1/dump", fmt.Errorf("%s: %w", secret, indexer.ErrUnavailable), 503, `"status":503`},
		{"/api/v1/search", fmt.Errorf("%s: %w", secret, indexer.ErrTooSlow), 503, "took too long"},
		{"/v1/search", fmt.Errorf("%s: %w", secret, indexer.ErrTooSlow), 503, "took too long"},
		{"/v0/search", errors.New(secret), 500, `"error":"internal error"`},
		{"/v2/app/referrers/" + dgst("a").String(), errors.New(secret), 500, `"errors"`},
	} {
		b := fullBook()
		b.err = test.err
		resp, body := get(t, serve(t, b).URL+test.path, "Accept-Encoding", "gzip")
		if resp.StatusCode != test.want || !strings.Contains(body, test.text) || strings.Contains(body, secret) {
			t.Errorf("%s, %v: status %d, want %d, body %q", test.path, test.err, resp.StatusCode, test.want, body)
		}
		if got := resp.Header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("%s, %v: Cache-Control %q", test.path, test.err, got)
		}
		if resp.Header.Get("ETag") != "" {
			t.Errorf("%s, %v: an error has an ETag", test.path, test.err)
		}
		if retry := resp.Header.Get("Retry-After"); (retry == "1") != (test.want == 503) {
			t.Errorf("%s, %v: Retry-After %q", test.path, test.err, retry)
		}
	}
}

// A request whose context ends must not be answered with an empty 200, which
// net/http sends if a handler writes nothing.
func TestCancelledIsNoAnswer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h := web.New(web.Config{Read: func(ctx context.Context, _ indexer.Asker, _ func(answer.Book) error) error { return ctx.Err() }})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/index/static", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d, want 503", w.Code)
	}
}

func FuzzIfNoneMatch(f *testing.F) {
	b := &book{}
	h := web.New(web.Config{Read: b.read})
	ask := func(field string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, "/index/static", nil)
		if field != "" {
			r.Header.Set("If-None-Match", field)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	etag := ask("").Header().Get("ETag")
	for _, s := range []string{etag, "W/" + etag, "*", `"`, `W/"`, `"a", "b`, ",,,", `"a"b,` + etag} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		code := ask(field).Code
		mayMatch := strings.Contains(field, etag) || strings.Trim(field, " \t") == "*"
		if code != 200 && code != 304 || code == 304 && !mayMatch {
			t.Errorf("If-None-Match %q: %d", field, code)
		}
		if strings.ContainsAny(field, "\"") {
			return // an open quote may include what follows
		}
		if code := ask(field + "," + etag).Code; code != 304 {
			t.Errorf("If-None-Match %q and the ETag: %d", field, code)
		}
	})
}
