package web_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
)

// A bookFor is a book as one asker sees it.
type bookFor struct {
	*book
	asker indexer.Asker
}

func (s bookFor) Asker() indexer.Asker { return s.asker }

// withoutBook are the routes that do not read the book.
var withoutBook = []string{
	"GET /v1/_ping", "GET /health", "GET /readiness", "GET /version", "POST /events", "GET /opensearch.xml", "GET /settings", "GET /repositories", "GET /live",
	"GET /static/{name}", "GET /", "GET /api/v1/health", "GET /api/v1/config", "GET /api/v1/openapi.json", "GET /api/v1", "GET /api/v1/{$}", "/",
}

// A route must read the book for the asker of its request; for any other asker, it
// could show what is hidden from this one. Only the version may be read without the
// request's asker.
func TestEveryRouteReadsAsItsAsker(t *testing.T) {
	t.Parallel()
	b := stockedBook()
	var nobody indexer.Asker
	reads := 0
	c := web.Config{WebUI: true, AssertEndpoint: true,
		Asker: func(*http.Request) (indexer.Asker, error) { return nobody, nil },
		Read: func(_ context.Context, asker indexer.Asker, f func(answer.Book) error) error {
			if asker == nobody {
				reads++
				return f(bookFor{b, asker})
			}
			// Not b: the version is also read beside the requests.
			other := stockedBook()
			err := f(bookFor{other, asker})
			if other.questions > 0 {
				t.Errorf("the book was read for asker %q", asker)
			}
			return err
		}}
	h := web.New(c)
	for _, pattern := range web.Routes(c) {
		method, path, found := strings.Cut(pattern, " ")
		if !found {
			method, path = "GET", "/api/v1/none"
		}
		if ofDeploys(path) {
			continue
		}
		if path == "/" { // any path without another route
			path = "/none"
		}
		reads = 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if path == "/live" { // it does not end by itself
			cancel()
		}
		r := httptest.NewRequestWithContext(ctx, method, fill(strings.ReplaceAll(path, "{$}", ""), "", ""), strings.NewReader(bodyOf(path)))
		h.ServeHTTP(httptest.NewRecorder(), r)
		if reads == 0 && !slices.Contains(withoutBook, pattern) {
			t.Errorf("%s did not read the book as its asker: if it reads none, name it in withoutBook", pattern)
		}
		if reads > 0 && slices.Contains(withoutBook, pattern) {
			t.Errorf("%s reads the book: take it out of withoutBook", pattern)
		}
	}
}

// bodyOf returns a request body that a route accepts.
func bodyOf(path string) string {
	if path == "/assert" {
		return `{"Query": {}, "Assertions": []}`
	}
	return ""
}

// Two askers must never share a cached answer, neither here nor in a cache on the
// way.
func TestAnswersAreOfTheirAsker(t *testing.T) {
	t.Parallel()
	b := stockedBook()
	c := web.Config{WebUI: true, MaxAgeIndex: time.Minute, MaxAgeHTML: time.Minute,
		Asker: func(r *http.Request) (indexer.Asker, error) {
			if r.Header.Get("Authorization") == "" {
				return indexer.Everyone, nil
			}
			return indexer.Asker{}, nil
		},
		Read: func(_ context.Context, asker indexer.Asker, f func(answer.Book) error) error {
			return f(bookFor{b, asker})
		}}
	h := web.New(c)
	ask := func(path, authorization string) http.Header {
		r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Header()
	}
	for _, path := range []string{"/", "/v1/search?q=a", "/index/static", "/api/v1/repositories", "/r/team/app"} {
		b.questions = 0
		public, asked := ask(path, ""), b.questions
		b.questions = 0
		private := ask(path, "Bearer x")
		if public.Get("ETag") == "" || public.Get("ETag") == private.Get("ETag") {
			t.Errorf("%s has the ETags %s and %s for two askers", path, public.Get("ETag"), private.Get("ETag"))
		}
		if got := public.Get("Cache-Control"); got != "max-age=60" {
			t.Errorf("%s for everyone has Cache-Control %q", path, got)
		}
		if got := private.Get("Cache-Control"); got != "private, max-age=60" {
			t.Errorf("%s for one asker has Cache-Control %q", path, got)
		}
		if got := public.Get("Vary"); !strings.Contains(got, "Authorization") {
			t.Errorf("%s varies by %q, want Authorization in it", path, got)
		}
		if b.questions != asked {
			t.Errorf("%s asked the book %d times for one asker and %d times for the next: it kept an answer", path, asked, b.questions)
		}
	}
}
