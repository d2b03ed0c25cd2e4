package web_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer"
)

// readingPaths are addresses that read the book: one for each error format, and one
// for each route outside the API. The API's table defines its own parameters.
var readingPaths = []string{"/v1/search", "/v1/search?query=x", "/v0/search?query=x", "/index/static", "/index/dynamic", "/api/v1/search", "/api/v1/status",
	"/v2/app/referrers/" + dgst("a").String(), "/", "/n/team", "/r/app", "/r/app:v1", "/compare?a=app:v1&b=app:v1", "/status", "/activity", "/activity.atom", "/storage"}

// The status code tells the kind of an error, so its Go text must not be at the end
// of a sentence.
func TestErrorsAreSentences(t *testing.T) {
	t.Parallel()
	for _, kind := range []error{indexer.ErrInvalid, indexer.ErrNotFound} {
		for _, path := range readingPaths {
			b := fullBook()
			b.err = fmt.Errorf("tag of %q: %w", "x", kind)
			resp, body := get(t, serve(t, b).URL+path)
			if resp.StatusCode < 400 {
				continue // some pages show what they can
			}
			if !strings.Contains(body, "tag of") && !strings.Contains(body, "app") {
				t.Errorf("%s, %v: %d %.300s", path, kind, resp.StatusCode, body)
			}
			if strings.Contains(body, ": invalid") || strings.Contains(body, ": not found") {
				t.Errorf("%s, %v: %d %.300s", path, kind, resp.StatusCode, body)
			}
		}
	}
	s := serve(t, fullBook())
	for _, path := range []string{"/r/UPPER", "/r/app:.x", "/r/app@sha256:1", "/n/UPPER", "/activity?repository=UPPER", "/storage?namespace=UPPER", "/absent",
		"/api/v1/repositories/UPPER", "/api/v1/repositories/app/-/manifests/.x", "/api/v1/repositories/app/-/tags/.x/history", "/api/v1/digests/x",
		"/api/v1/search?min_version=x", "/api/v1/search?cursor=x", "/v2/UPPER/referrers/x", "/v0/search?query=size:x", "/index/static?tag=%00", "/?min_version=x"} {
		resp, body := get(t, s.URL+path)
		if resp.StatusCode != http.StatusBadRequest && resp.StatusCode != http.StatusNotFound || strings.Contains(body, ": invalid") || strings.Contains(body, ": not found") {
			t.Errorf("%s: %d %.300s", path, resp.StatusCode, body)
		}
	}
}

// A route that does not support "at" must refuse it, because an answer about now
// could be taken for one about that time.
func TestAtIsRefused(t *testing.T) {
	t.Parallel()
	b := fullBook()
	s := serve(t, b)
	for _, path := range append(readingPaths, "/live") {
		if path == "/" || path == "/api/v1/search" || strings.HasPrefix(path, "/r/") {
			continue // they show the past
		}
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		before := b.questions
		for _, at := range []string{"at=2026-01-02T03:04:05Z", "%61t=x"} {
			resp, body := get(t, s.URL+path+sep+at)
			if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "at") || b.questions != before {
				t.Errorf("%s%s%s: %d %.200s", path, sep, at, resp.StatusCode, body)
			}
		}
		if resp, body := get(t, s.URL+"/index/static"); resp.StatusCode != 200 {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
	}
	for _, path := range []string{"/index/static", "/index/dynamic"} {
		resp, body := do(t, http.MethodPost, s.URL+path, "tag=latest&at=2026-01-02T03:04:05Z", "Content-Type", "application/x-www-form-urlencoded")
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "at ") {
			t.Errorf("POST %s: %d %.200s", path, resp.StatusCode, body)
		}
	}
}

// A parameter is recognised even if its name is percent-encoded.
func TestMinVersionEncoded(t *testing.T) {
	t.Parallel()
	s := serve(t, fullBook())
	for _, name := range []string{"min_version", "min%5fversion", "%6din_version", "min%5Fversion"} {
		resp, body := get(t, s.URL+"/?"+name+"=x")
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "min_version") {
			t.Errorf("%s: %d %.200s", name, resp.StatusCode, body)
		}
	}
}
