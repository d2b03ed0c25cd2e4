package compose

import (
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

// readerPosts are the routes that change nothing, although their method is POST.
var readerPosts = []string{"POST /auth/token", "POST /index/static", "POST /index/dynamic", "POST /assert"}

// writerRoutes returns the routes of doc/api.md, which another test compares with the
// program, that need the writer: all that change something, and the lists and elements
// of what they change, except in the book.
func writerRoutes(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("../../doc/api.md")
	if err != nil {
		t.Fatal(err)
	}
	var changes, reads []string
	changed := map[string]bool{"groups": true, "job-runs": true} // below /api/v1
	rows := strings.Join(regexp.MustCompile("(?m)^\\| `.*$").FindAllString(string(text), -1), "\n")
	routes := regexp.MustCompile("`(GET|POST|PUT|PATCH|DELETE) (/[^` ?]*)[^`]*`")
	for _, m := range routes.FindAllStringSubmatch(rows, -1) {
		path, inAPI := strings.CutPrefix(m[2], "/api/v1/")
		resource, _, _ := strings.Cut(path, "/")
		switch route := m[1] + " " + m[2]; {
		case route == "POST /events" || strings.HasPrefix(m[2], "/internal/"): // refused: TestEventsDenied
		case m[1] == "GET":
			reads = append(reads, route)
		case !strings.Contains(strings.Join(readerPosts, " ")+" ", route+" "):
			changes = append(changes, route)
			changed[resource] = changed[resource] || inAPI && resource != "repositories"
		}
	}
	for _, route := range reads {
		path, inAPI := strings.CutPrefix(strings.TrimPrefix(route, "GET "), "/api/v1/")
		resource, _, _ := strings.Cut(path, "/")
		pages := strings.HasPrefix(route, "GET /manage/") || strings.HasPrefix(route, "GET /account")
		if pages || inAPI && changed[resource] {
			changes = append(changes, route)
		}
	}
	if len(changes) < 60 {
		t.Fatalf("doc/api.md has only %d routes for the writer: %q", len(changes), changes)
	}
	return changes
}

// What changes something, and what only a writer can answer, must go to the writer once,
// even if the writer fails, and its answers must not be stored, even if they ask for it.
func TestWriterGetsChanges(t *testing.T) {
	t.Parallel()
	f := startFront(t, "rate=100r/s", "rate=10000r/s")
	f.readersAnswer(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "reader")
	})
	f.writer.answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "writer got "+r.Method+" "+r.URL.Path)
	})
	ask := func(method, path string) string {
		t.Helper()
		resp := f.do(t, method, path, nil)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, route := range writerRoutes(t) {
		method, path, _ := strings.Cut(route, " ")
		before := f.writer.asked.Load()
		for range 2 { // the second one would find what the first one stored
			if got := ask(method, path); got != "writer got "+route {
				t.Errorf("%s: got %q", route, got)
			}
		}
		if got := f.writer.asked.Load() - before; got != 2 {
			t.Errorf("%s: the writer got %d requests instead of 2", route, got)
		}
	}
	if n := f.requestsToReader(); n != 0 {
		t.Errorf("the readers got %d requests for the writer", n)
	}
	for _, route := range []string{
		"PUT /api/v1/repositories/team/app/-/tags/v1?min_version=e.1", // a change comes before waiting
		"DELETE /api/v1/repositories/team%2Fapp/-/yank?tag=v1", "POST /api/v1/repositories/team/app/-/later",
		"GET /api/v1/./plans/7", "GET /x/../manage/trash", "GET /%6danage/trash", "GET /api/v1/jobs",
	} {
		method, path, _ := strings.Cut(route, " ")
		if got := ask(method, path); !strings.HasPrefix(got, "writer got ") {
			t.Errorf("%s: got %q", route, got)
		}
	}
	for _, route := range append([]string{
		"GET /api/v1/repositories/team/app/-/tags", "GET /api/v1/storage", "GET /api/v1/history", "GET /api/v1/audit",
		"GET /managed", "GET /r/manage/trash", "GET /api/v1/jobsites",
	}, readerPosts...) {
		method, path, _ := strings.Cut(route, " ")
		if got := ask(method, path); got != "reader" {
			t.Errorf("%s: got %q", route, got)
		}
	}
}
