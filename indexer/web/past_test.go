package web_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
)

// A page of the past says so and leads to the present, and its links stay in the past.
func TestPastPages(t *testing.T) {
	t.Parallel()
	b := stocked("x")
	b.past = indexer.PastResults{Next: "app", Items: []indexer.PastRepository{{Name: "app", Tags: 2, Leading: "v1", MovedAt: day}}}
	s := serve(t, b)
	for path, want := range map[string][]string{
		"/?at=2026-03-05&q=team":            {`<a href="/?q=team">Show it as it is now</a>`, `href="/r/app?at=2026-03-05T00%3A00%3A00Z"`, `/?after=app&amp;at=2026-03-05T00%3A00%3A00Z&amp;q=team`},
		"/r/app?at=2026-03-05T01:02":        {`<a href="/r/app">Show it as it is now</a>`, `href="/r/app:v1?at=2026-03-05T01%3A02%3A00Z"`},
		"/r/app:v1?at=2026-03-05T01:02:03Z": {`<a href="/r/app:v1">Show it as it is now</a>`, `href="/r/app?at=2026-03-05T01%3A02%3A03Z"`, dgst("a").String()},
	} {
		resp, body := get(t, s.URL+path)
		for _, text := range append(want, "This is the past") {
			if resp.StatusCode != http.StatusOK || !strings.Contains(body, text) {
				t.Errorf("%s: %d, %q is not in\n%s", path, resp.StatusCode, text, body)
			}
		}
		if resp.Header.Get("ETag") == "" {
			t.Errorf("%s has no ETag", path)
		}
	}
	for _, path := range []string{"/?at=yesterday", "/?at=2999-01-01", "/r/app?at=1960-01-01", "/r/app:v1?at=x", "/?at=2026-03-05&after=UPPER", "/r/app?at=2026-03-05&platform=linux/amd64"} {
		if resp, body := get(t, s.URL+path); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}

// What was there before the history begins is unknown, and not nothing.
func TestBeforeTheHistory(t *testing.T) {
	t.Parallel()
	b := stockedBook()
	b.historyBegins = day
	s := serve(t, b)
	const at = "at=2026-03-04T05:06:06Z"
	for _, path := range []string{"/", "/r/team/app", "/r/team/app:v1", "/api/v1/search", "/api/v1/repositories", "/api/v1/repositories/team/app",
		"/api/v1/repositories/team/app/-/tags", "/api/v1/repositories/team/app/-/manifests/v1", "/api/v1/history"} {
		resp, body := get(t, s.URL+path+"?"+at)
		if resp.StatusCode != http.StatusNotFound || !strings.Contains(body, "the history of tags begins at 2026-03-04T05:06:07Z") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}

// A search in the past has its own results, in order of name.
func TestAPISearchAt(t *testing.T) {
	t.Parallel()
	b := stockedBook()
	b.past = indexer.PastResults{Next: "team/app", Incomplete: true, Items: []indexer.PastRepository{{Name: "team/app", Digest: dgst("a"), Incomplete: true}}}
	s := serve(t, b)
	type answer struct {
		Past       []struct{ Name, Digest string }
		Results    []struct{}
		Total      *int
		Next       string
		Incomplete bool
	}
	header, a := getJSON[answer](t, s.URL+"/api/v1/search?q=team+pushed:%3C1d&at=2026-03-05T00:00:00Z")
	if len(a.Past) != 1 || a.Past[0].Digest != dgst("a").String() || len(a.Results) != 0 || a.Total != nil || !a.Incomplete || a.Next == "" || header.Get("Link") == "" {
		t.Errorf("got %+v", a)
	}
	if want := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC); !b.query.Clauses[1][0].From.Equal(want) {
		t.Errorf("an age counts from %v, want %v", b.query.Clauses[1][0].From, want)
	}
	if getJSON[answer](t, s.URL+a.Next); b.query.After != "team/app" {
		t.Errorf("the next page begins after %q", b.query.After)
	}
	if resp, body := get(t, s.URL+"/api/v1/search?sort=size&at=2026-03-05T00:00:00Z"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("by size: %d %s", resp.StatusCode, body)
	}
}

// What deleting frees is said with what else happens; an answer that is not whole is not
// stored.
func TestHolding(t *testing.T) {
	t.Parallel()
	b := stocked("x")
	b.holding = indexer.Holding{Own: 1000, Shared: 2048, Frees: indexer.Freed{Frees: 1500, Manifests: 3, Part: true}, Manifest: &indexer.ManifestHolding{
		Digest: dgst("a"), Tags: []string{"latest", "v1"}, ListedBy: 2, Attached: 1, Alone: indexer.Freed{Frees: 500, Manifests: 1}, All: indexer.Freed{Frees: 1600, Manifests: 4}}}
	s := serve(t, b)
	_, body := get(t, s.URL+"/r/app:v1")
	for _, want := range []string{"at most 1000 B that nothing else uses", "at least 2.00 KiB that others use too", "at most 1.46 KiB if it is deleted with the 2 manifests that only it needs; 500 B without",
		"1.56 KiB with what is attached too", "Deleting it also deletes the tag latest.", "2 image indexes list it", "To untag v1 frees nothing"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in\n%s", want, body)
		}
	}
	path := s.URL + "/api/v1/repositories/app/-/manifests/v1/storage"
	if resp, _ := get(t, path); strings.Contains(resp.Header.Get("Cache-Control"), "no-store") {
		t.Errorf("a whole answer is %s", resp.Header.Get("Cache-Control"))
	}
	b.holding.Frees.AddUnknown(7)
	if resp, body := get(t, path); !strings.Contains(resp.Header.Get("Cache-Control"), "no-store") || !strings.Contains(body, `"unknown":7`) {
		t.Errorf("an answer that is not whole is %s: %s", resp.Header.Get("Cache-Control"), body)
	}
	if resp, _ := get(t, s.URL+"/api/v1/namespaces/-/storage"); resp.StatusCode != http.StatusOK {
		t.Errorf("names without a slash: %d", resp.StatusCode)
	}
	if resp, _ := get(t, s.URL+"/api/v1/namespaces/a%2Fb/storage"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a name with a slash: %d", resp.StatusCode)
	}
}
