package web_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
)

// getJSON returns an answer of the API, whose status must be 200.
func getJSON[T any](t testing.TB, url string) (http.Header, T) {
	t.Helper()
	resp, body := get(t, url)
	var v T
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s", url, resp.StatusCode, body)
	}
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%s: %v: %s", url, err, body)
	}
	return resp.Header, v
}

// A names has the fields of an answer that most tests check.
type names struct {
	Results      []struct{ Name string }
	Repositories []string
	Tags         []struct{ Name string }
	Moves        []struct{ ID int64 }
	Uses         []struct{ Repository string }
	Total        *int
	TotalIsFloor bool   `json:"total_is_floor"`
	DidYouMean   string `json:"did_you_mean"`
	Count        *int
	Next         string
}

func problemOf(t testing.TB, body string) (p struct {
	Type, Title, Detail, Query, Problem string
	Status                              int
	Offset, Length                      *int
}) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &p); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return p
}

// Scripts written for the forked registry must find the same JSON.
func TestAPIShapes(t *testing.T) {
	t.Parallel()
	s := serve(t, stockedBook(), func(c *web.Config) { c.Revision, c.LogLevel, c.Address = "abc", "info", "127.0.0.1:8080" })
	for path, want := range map[string]map[string]any{
		"/api/v1/health":       {"status": "ok"},
		"/api/v1/config":       {"version": "v1", "log": map[string]any{"level": "info"}, "http": map[string]any{"addr": "127.0.0.1:8080"}},
		"/api/v1/repositories": {"repositories": []any{"team/app"}, "count": 1.0},
	} {
		if _, got := getJSON[map[string]any](t, s.URL+path); cmp.Diff(want, got) != "" {
			t.Errorf("%s (-want +got):\n%s", path, cmp.Diff(want, got))
		}
	}
	header, status := getJSON[map[string]any](t, s.URL+"/api/v1/status")
	at, err := time.Parse(time.RFC3339, fmt.Sprint(status["timestamp"]))
	if status["status"] != "healthy" || status["version"] != "v1" || status["revision"] != "abc" || err != nil || time.Since(at) > time.Minute || status["catalogue"] != "e1.7" {
		t.Errorf("status: %v", status)
	}
	if header.Get("Cache-Control") != "no-store" {
		t.Errorf("the status may be cached: %v", header)
	}
}

// A name with slashes is one name, however a client encodes it.
func TestAPINames(t *testing.T) {
	t.Parallel()
	b := stockedBook()
	b.repositories = append(b.repositories, indexer.Repository{Name: "x"}, indexer.Repository{Name: "team/tags"})
	s := serve(t, b)
	for path, want := range map[string]int{
		"/api/v1/repositories/team/app":                                   200,
		"/api/v1/repositories/team%2Fapp":                                 200,
		"/api/v1/repositories/team%2fapp/-/tags":                          200,
		"/api/v1/repositories/team/tags":                                  200,
		"/api/v1/repositories/x":                                          200,
		"/api/v1/repositories/x/-/history":                                200,
		"/api/v1/repositories/team/app/-/tags/v1/history":                 200,
		"/api/v1/repositories/team/app/-/manifests/v1":                    200,
		"/api/v1/repositories/team/app/-/manifests/" + dgst("a").String(): 200,
		"/api/v1/repositories/team/app/-/manifests/v2":                    404,
		"/api/v1/repositories/team/app/-/manifests/" + dgst("b").String(): 404,
		"/api/v1/repositories/team/app/-/manifests/sha256:a":              400,
		"/api/v1/repositories/team/app/-/manifests/v1/":                   404,
		"/api/v1/repositories/team/app/-/nothing":                         404,
		"/api/v1/repositories/team/app/-/":                                404,
		"/api/v1/repositories/team/app/-":                                 400,
		"/api/v1/repositories/absent":                                     404,
		"/api/v1/repositories/absent/-/tags":                              200, // the test's book has tags for every repository
		"/api/v1/repositories/UPPER":                                      400,
		"/api/v1/repositories/UPPER/-/tags":                               400,
		"/api/v1/repositories/a%00b":                                      400,
		"/api/v1/repositories/":                                           404,
		"/api/v1/digests/sha256:a":                                        400,
		"/api/v1/absent":                                                  404,
	} {
		resp, body := get(t, s.URL+path)
		if resp.StatusCode != want {
			t.Errorf("%s: %d %s, want %d", path, resp.StatusCode, body, want)
		}
		if want != 200 && (resp.Header.Get("Content-Type") != "application/problem+json" || problemOf(t, body).Status != want || problemOf(t, body).Detail == "") {
			t.Errorf("%s is not a problem document: %v %s", path, resp.Header, body)
		}
	}
}

// A client that follows next must reach an end, and pages must not exceed the
// maximum offset.
func TestAPISearchPages(t *testing.T) {
	t.Parallel()
	b := &book{results: indexer.Results{Total: query.MaxTotal, AtLeast: true, Items: make([]indexer.Result, 100)}}
	for i := range b.results.Items {
		b.results.Items[i].Name = fmt.Sprintf("r%02d", i)
	}
	s := serve(t, b)
	next, offsets := "/api/v1/search?q=x+y&limit=100", []int{}
	for next != "" {
		header, page := getJSON[names](t, s.URL+next)
		offsets = append(offsets, b.query.Offset)
		if b.query.Text != "x y" || b.query.Limit != 100 || *page.Total != query.MaxTotal || !page.TotalIsFloor {
			t.Errorf("%s: asked %+v, total %d", next, b.query, *page.Total)
		}
		if link := header.Get("Link"); page.Next != "" && link != "<"+page.Next+`>; rel="next"` {
			t.Errorf("%s: Link %q, next %q", next, link, page.Next)
		}
		next = page.Next
	}
	if want := []int{0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000}; !slices.Equal(offsets, want) {
		t.Errorf("pages at %v, want %v", offsets, want)
	}

	b.results.AtLeast = false
	_, page := getJSON[names](t, s.URL+"/api/v1/search?sort=name&limit=100")
	if page.TotalIsFloor {
		t.Error("an exact total is a lower bound")
	}
	_, second := getJSON[names](t, s.URL+page.Next)
	if b.query.After != "r99" || b.query.Offset != 0 || second.Total != nil || second.Next == "" {
		t.Errorf("by name: asked %+v, got %+v", b.query, second)
	}
	b.results = indexer.Results{Items: b.results.Items[:7]}
	if _, last := getJSON[names](t, s.URL+second.Next); last.Next != "" || len(last.Results) != 7 {
		t.Errorf("the last page: %+v", last)
	}
	for _, cursor := range []string{"x", "bzI1LQ", "bzk5OTk5", "blVQUEVS", "bnIwMQ", strings.Repeat("x", 5000)} { // o25-, o99999, nUPPER, nr01 (of another sort)
		if resp, body := get(t, s.URL+"/api/v1/search?cursor="+cursor); resp.StatusCode != 400 || !strings.Contains(body, "cursor") {
			t.Errorf("cursor %.20s: %d %s", cursor, resp.StatusCode, body)
		}
	}
}

// A correction is searched for only if nothing was found, because it costs more than
// the search.
func TestAPIDidYouMean(t *testing.T) {
	t.Parallel()
	b := &book{correct: "nginx"}
	s := serve(t, b)
	if _, a := getJSON[names](t, s.URL+"/api/v1/search?q=ngnix"); a.DidYouMean != "nginx" || *a.Total != 0 {
		t.Errorf("%+v", a)
	}
	if _, a := getJSON[names](t, s.URL+"/api/v1/search"); a.DidYouMean != "" {
		t.Errorf("without a query: %+v", a)
	}
	b.results = indexer.Results{Total: 1, Items: []indexer.Result{{}}}
	if _, a := getJSON[names](t, s.URL+"/api/v1/search?q=ngnix"); a.DidYouMean != "" {
		t.Errorf("with results: %+v", a)
	}
}

func TestAPIPages(t *testing.T) {
	t.Parallel()
	b := stockedBook()
	b.repositories = []indexer.Repository{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	b.tags = []indexer.Tag{{Name: "1"}, {Name: "2"}}
	b.uses = append(b.uses, indexer.Use{Repository: "z", Digest: dgst("f")})
	s := serve(t, b)
	for path, want := range map[string]string{
		"/api/v1/repositories?limit=2":                           "/api/v1/repositories?after=b&limit=2",
		"/api/v1/repositories?limit=2&at=2026-01-01T00:00:00Z":   "/api/v1/repositories?after=b&at=2026-01-01T00%3A00%3A00Z&limit=2",
		"/api/v1/repositories/x/-/tags?limit=1&min_version=e1.7": "/api/v1/repositories/x/-/tags?after=1&limit=1",
		"/api/v1/repositories/team/app/-/history?limit=1":        "/api/v1/repositories/team%2Fapp/-/history?before=2&limit=1",
		"/api/v1/history?limit=1":                                "/api/v1/history?before=2&limit=1",
		"/api/v1/digests/" + dgst("a").String() + "?limit=1":     "/api/v1/digests/" + dgst("a").String() + "?after=" + url.QueryEscape("team/app@"+dgst("a").String()) + "&limit=1",
		"/api/v1/repositories":                                   "",
		"/api/v1/history":                                        "",
		"/api/v1/history?before=2":                               "",
	} {
		header, _ := getJSON[names](t, s.URL+path)
		if want != "" {
			want = "<" + want + `>; rel="next"`
		}
		if got := header.Get("Link"); got != want {
			t.Errorf("%s: Link %s, want %s", path, got, want)
		}
	}
	if _, page := getJSON[names](t, s.URL+"/api/v1/repositories?limit=2&after=a"); !slices.Equal(page.Repositories, []string{"b", "c"}) || *page.Count != 3 {
		t.Errorf("after a: %+v", page)
	}
	if _, page := getJSON[names](t, s.URL+"/api/v1/history?before=2"); len(page.Moves) != 1 || page.Moves[0].ID != 1 {
		t.Errorf("before 2: %+v", page)
	}
}

func TestAPIAt(t *testing.T) {
	t.Parallel()
	b := stockedBook()
	s := serve(t, b)
	at := day.Add(-time.Minute).Format(time.RFC3339)
	_, page := getJSON[names](t, s.URL+"/api/v1/repositories?at="+at)
	if !b.at.Equal(day.Add(-time.Minute)) || page.Count != nil || len(page.Repositories) != 1 {
		t.Errorf("repositories: asked %v, got %+v", b.at, page)
	}
	b.at = time.Time{}
	if getJSON[names](t, s.URL+"/api/v1/repositories/team/app/-/tags?at="+url.QueryEscape(day.Add(-time.Minute).In(time.FixedZone("", 3600)).Format(time.RFC3339))); !b.at.Equal(day.Add(-time.Minute)) {
		t.Errorf("tags: asked %v", b.at)
	}
	if _, page := getJSON[names](t, s.URL+"/api/v1/history?at="+at); len(page.Moves) != 1 || page.Moves[0].ID != 1 {
		t.Errorf("history: %+v", page)
	}
	for _, wrong := range []string{time.Now().Add(time.Hour).UTC().Format(time.RFC3339), "0001-01-01T00:00:00Z", "0000-01-01T00:00:00%2B23:59", "yesterday", "2026-01-01", "2026-01-01T00:00:00+01:00"} {
		resp, body := get(t, s.URL+"/api/v1/history?at="+wrong)
		if resp.StatusCode != 400 || !strings.Contains(problemOf(t, body).Detail, "at is") {
			t.Errorf("at=%s: %d %s", wrong, resp.StatusCode, body)
		}
	}
}

// The error of an invalid query must contain its position, in characters as people
// count them.
func TestAPIWrongQuery(t *testing.T) {
	t.Parallel()
	s := serve(t, &book{})
	for _, path := range []string{"/api/v1/search", "/api/v1/facets"} {
		resp, body := get(t, s.URL+path+"?q="+url.QueryEscape("é created:30d x"))
		p := problemOf(t, body)
		if resp.StatusCode != 400 || p.Type != "/api/v1/#query" || p.Offset == nil || *p.Offset != 2 || *p.Length != len("created:30d") ||
			p.Query != "é created:30d x" || !strings.Contains(p.Problem, "write created:") || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	for query, want := range map[string]string{
		"limit=0": "from 1 to 100", "limit=101": "from 1 to 100", "limit=x": "from 1 to 100", "sort=best": "relevance, name", "q=%zz": "cannot be parsed",
	} {
		if resp, body := get(t, s.URL+"/api/v1/search?"+query); resp.StatusCode != 400 || !strings.Contains(problemOf(t, body).Detail, want) {
			t.Errorf("%s: %d %s", query, resp.StatusCode, body)
		}
	}
}

// Every answer from the book must tell how fresh it is, also a 304.
func TestFreshness(t *testing.T) {
	t.Parallel()
	b := stockedBook()
	b.manifest = &b.manifests[0]
	s := serve(t, b)
	for _, path := range append([]string{"/api/v1/search", "/api/v1/repositories", "/api/v1/status", "/api/v1/dump", "/v0/search", "/v1/search?query=",
		"/v2/team/app/referrers/" + dgst("a").String()}, "/v1/search?q=x", "/index/static", "/index/dynamic", "/", "/?q=x", "/r/team/app", "/r/team/app:v1", "/status") {
		first, _ := get(t, s.URL+path)
		again, _ := get(t, s.URL+path, "If-None-Match", first.Header.Get("ETag"))
		for _, resp := range []*http.Response{first, again} {
			if resp.Header.Get("Portbook-Version") != "e1.7" || resp.Header.Get("Portbook-Scanned") != day.Format(time.RFC3339) || resp.Header.Get("Last-Modified") != "" {
				t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
			}
		}
		if etag := first.Header.Get("ETag"); (again.StatusCode == 304) != (etag != "") {
			t.Errorf("%s: ETag %q, then %d", path, etag, again.StatusCode)
		}
	}
}

// min_version must wait for the version, but no longer than needed, and return an
// error if the version never arrives.
func TestMinVersion(t *testing.T) {
	t.Parallel()
	b := stockedBook()
	s := serve(t, b)
	for query, want := range map[string]int{
		"e1.7": 200, "e1.0": 200, "e2.7": 409, "e1": 400, "7": 400, ".7": 400, "e1.": 400, "e1.-7": 400, "e1.x": 400,
	} {
		for _, path := range []string{"/api/v1/search", "/v1/search", "/index/static", "/", "/api/v1/dump", "/v2/a/referrers/" + dgst("a").String()} {
			resp, body := get(t, s.URL+path+"?min_version="+query)
			if resp.StatusCode != want || want == 409 && !strings.Contains(body, "epoch") {
				t.Errorf("%s?min_version=%s: %d %.200s, want %d", path, query, resp.StatusCode, body, want)
			}
		}
	}

	began := time.Now()
	time.AfterFunc(200*time.Millisecond, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.version = indexer.Version{Epoch: "e1", Number: 9}
	})
	resp, _ := get(t, s.URL+"/api/v1/search?min_version=e1.8")
	if resp.StatusCode != 200 || resp.Header.Get("Portbook-Version") != "e1.9" || time.Since(began) > 5*time.Second {
		t.Errorf("status %d with version %s after %v", resp.StatusCode, resp.Header.Get("Portbook-Version"), time.Since(began))
	}
}

func TestMinVersionNeverComes(t *testing.T) {
	t.Parallel()
	resp, body := get(t, serve(t, &book{}).URL+"/api/v1/search?min_version=e1.8")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "e1.7") || !strings.Contains(body, "e1.8") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// An age is relative to now: the same address must not have the same ETag in another
// minute, and must not be cached beyond the minute.
func TestAgesAreOfTheirMinute(t *testing.T) {
	t.Parallel()
	s := serve(t, stockedBook(), func(c *web.Config) { c.MaxAgeIndex, c.MaxAgeHTML = time.Hour, time.Hour })
	for _, path := range []string{"/api/v1/search?q=", "/api/v1/facets?q=", "/v1/search?q=", "/v0/search?query=", "/?q="} {
		dated, _ := get(t, s.URL+path+"created:>2026-01-01")
		if got := dated.Header.Get("Cache-Control"); got != "max-age=3600" {
			t.Errorf("%s with a date: %s", path, got)
		}
		aged, _ := get(t, s.URL+path+"created:<30d")
		var age int
		fmt.Sscanf(aged.Header.Get("Cache-Control"), "max-age=%d", &age) // 0 if it is no-cache, in the last second
		if age > 60 {
			t.Errorf("%s with an age: %s", path, aged.Header.Get("Cache-Control"))
		}
		if aged.Header.Get("ETag") == dated.Header.Get("ETag") {
			t.Errorf("%s: the ETag of a query with an age does not depend on the minute", path)
		}
	}
}

// lines returns the records of a dump.
func lines(t testing.TB, body string) (list []map[string]any) {
	t.Helper()
	for line := range strings.Lines(body) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		list = append(list, v)
	}
	return list
}

// A dump must contain everything once, and can be continued from any place where it
// was interrupted.
func TestDump(t *testing.T) {
	t.Parallel()
	b := stockedBook()
	for i := range 1200 { // three batches
		b.allTags = append(b.allTags, indexer.TagOf{Repository: "team/app", Tag: indexer.Tag{Name: fmt.Sprintf("w%04d", i)}})
	}
	s := serve(t, b)
	resp, body := get(t, s.URL+"/api/v1/dump")
	whole := lines(t, body)
	if resp.Header.Get("Content-Type") != "application/x-ndjson" || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Portbook-Version") != "e1.7" {
		t.Errorf("%v", resp.Header)
	}
	head, _ := whole[0]["dump"].(map[string]any)
	if whole[0]["type"] != "dump" || head["catalogue"] != "e1.7" || head["form"] != 1.0 || head["time"] == nil {
		t.Errorf("the first line: %v", whole[0])
	}
	counts, records := map[any]int{}, []any{}
	var places []string
	for _, r := range whole[1:] {
		counts[r["type"]]++
		if r["type"] == "after" {
			places = append(places, r["after"].(string))
		} else if r["type"] != "end" {
			records = append(records, r)
		}
	}
	want := map[any]int{"repository": 1, "manifest": 1, "tag": 1201, "move": 2, "after": 6, "end": 1}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if last := whole[len(whole)-1]; last["type"] != "end" || last["records"] != 1205.0 {
		t.Errorf("the last line: %v", last)
	}
	for _, place := range places {
		_, body := get(t, s.URL+"/api/v1/dump?after="+url.QueryEscape(place))
		rest := []any{}
		for _, r := range lines(t, body)[1:] {
			if r["type"] != "after" && r["type"] != "end" {
				rest = append(rest, r)
			}
		}
		if diff := cmp.Diff(records[len(records)-len(rest):], rest); diff != "" {
			t.Errorf("after %s (-want +got):\n%.500s", place, diff)
		}
		before := 0
		for _, r := range whole[1:] {
			if r["after"] == place {
				break
			}
			if r["type"] != "after" {
				before++
			}
		}
		if before+len(rest) != len(records) {
			t.Errorf("after %s: %d records, and %d of %d before it", place, len(rest), before, len(records))
		}
	}
	for _, wrong := range []string{"x", "tag:", "tag:a", "tag:a@" + dgst("a").String(), "manifest:a:v1", "move:x", "move:0", "repository:UPPER", "repository:a:b", "dump:a"} {
		if resp, body := get(t, s.URL+"/api/v1/dump?after="+url.QueryEscape(wrong)); resp.StatusCode != 400 {
			t.Errorf("after=%s: %d %.100s", wrong, resp.StatusCode, body)
		}
	}
	if empty, packed := get(t, serve(t, &book{}).URL+"/api/v1/dump", "Accept-Encoding", "gzip"); empty.Header.Get("Content-Encoding") != "gzip" || packed == "" {
		t.Errorf("an empty book: %v", empty.Header)
	}
	zipped, packed := get(t, s.URL+"/api/v1/dump", "Accept-Encoding", "gzip")
	z, err := gzip.NewReader(strings.NewReader(packed))
	if err != nil || zipped.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("%v %v", err, zipped.Header)
	}
	if plain, err := io.ReadAll(z); err != nil || len(lines(t, string(plain))) != len(whole) {
		t.Errorf("compressed: %d bytes, %v", len(plain), err)
	}
}

// A failing book loses its database in the middle of a dump.
type failing struct{ *book }

func (failing) AllTags(context.Context, string, string, int) ([]indexer.TagOf, error) {
	return nil, fmt.Errorf("lost: %w", indexer.ErrUnavailable)
}

// A dump that ends in an error must not look complete, and a dump that is run again
// on another snapshot must not continue.
func TestDumpBreaksOff(t *testing.T) {
	t.Parallel()
	again := stockedBook()
	for what, read := range map[string]answer.ReadFunc{
		"an error": func(ctx context.Context, _ indexer.Asker, f func(answer.Book) error) error {
			return f(&failing{stockedBook()})
		},
		"another snapshot": func(ctx context.Context, _ indexer.Asker, f func(answer.Book) error) error {
			_ = f(again)
			return f(again)
		},
	} {
		s := serve(t, &book{}, func(c *web.Config) { c.Read = read })
		resp, err := client.Get(s.URL + "/api/v1/dump")
		if err != nil {
			continue // interrupted before the first bytes were sent
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil {
			t.Errorf("%s: the answer of %d bytes ends as if it were complete", what, len(body))
		}
	}
}

// Dumps are slow: they must not use all connections to the database, and one client
// must not use all dumps.
func TestDumpsAreFew(t *testing.T) {
	t.Parallel()
	var running atomic.Int32
	stop := make(chan struct{})
	s := serve(t, &book{}, func(c *web.Config) {
		c.Read = func(_ context.Context, _ indexer.Asker, f func(answer.Book) error) error {
			running.Add(1)
			<-stop
			return f(&book{}) // a Book is used by one goroutine at a time
		}
	})
	var once sync.Once
	release := func() { once.Do(func() { close(stop) }) }
	t.Cleanup(release) // before the server closes, which waits for requests
	dump := func(client string) (int, string) {
		resp, _ := get(t, s.URL+"/api/v1/dump", "X-Forwarded-For", client)
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	var work sync.WaitGroup
	for i, client := range []string{"192.0.2.1", "2001:db8::1"} {
		work.Go(func() {
			if code, _ := dump(client); code != 200 {
				t.Errorf("%s: %d", client, code)
			}
		})
		within(t, "a dump begins", func() bool { return running.Load() == int32(i+1) })
		if code, retry := dump(client); code != 429 || retry == "" {
			t.Errorf("the second request of %s: %d, Retry-After %q", client, code, retry)
		}
	}
	if code, retry := dump("192.0.2.3"); code != 429 || retry == "" {
		t.Errorf("the third client: %d, Retry-After %q", code, retry)
	}
	release()
	work.Wait()
	if code, _ := dump("192.0.2.1"); code != 200 {
		t.Errorf("after the other dumps ended: %d", code)
	}
}

// The bytes of a manifest must be what was pushed, and no browser may run them.
func TestAPIRaw(t *testing.T) {
	t.Parallel()
	b := stockedBook()
	s := serve(t, b)
	path := s.URL + "/api/v1/repositories/team/app/-/manifests/"
	resp, body := get(t, path+dgst("a").String()+"/raw")
	if body != `{"schemaVersion":2}` || resp.Header.Get("Content-Type") != b.manifests[0].MediaType ||
		resp.Header.Get("Docker-Content-Digest") != dgst("a").String() || resp.Header.Get("Last-Modified") != day.Format(http.TimeFormat) {
		t.Errorf("%q %v", body, resp.Header)
	}
	if resp, _ := get(t, path+"v1/raw"); resp.Header.Get("Last-Modified") != "" {
		t.Errorf("the manifest of a tag has a Last-Modified: %v", resp.Header)
	}
	for _, hostile := range []string{"text/html", "application/xhtml+xml", "image/svg+xml", "", "a b", "application/vnd.x\r\nX: y"} {
		b.manifests[0].MediaType = hostile
		if resp, _ := get(t, path+"v1/raw"); resp.Header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%q is sent as %q", hostile, resp.Header.Get("Content-Type"))
		}
	}
}

func TestAPILayers(t *testing.T) {
	t.Parallel()
	_, got := getJSON[struct {
		Layers []struct {
			Digest, CreatedBy string
			By                string `json:"created_by"`
		}
	}](t, serve(t, stockedBook()).URL+"/api/v1/repositories/team/app/-/manifests/v1/layers")
	if len(got.Layers) != 2 || got.Layers[0].By != "COPY" || got.Layers[1].By != "RUN" || got.Layers[1].Digest != dgst("e").String() {
		t.Errorf("%+v", got)
	}
}
