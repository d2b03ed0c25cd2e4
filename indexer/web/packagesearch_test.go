package web_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

// One path serves two protocols: a client of one must not receive the format of the
// other.
func TestPackageSearchIsTold(t *testing.T) {
	t.Parallel()
	s := serve(t, stockedBook())
	for path, want := range map[string]string{
		"/v1/search":                  "num_results",
		"/v1/search?q=x":              "num_results",
		"/v1/search?q=x&n=5&page=2":   "num_results",
		"/v1/search?query=":           "data",
		"/v1/search?query=x":          "data",
		"/v1/search?offset=50":        "data",
		"/v1/search?q=x&offset=0":     "data",
		"/v0/search":                  "data",
		"/v0/search?query=x&offset=5": "data",
	} {
		if _, got := getJSON[map[string]any](t, s.URL+path); got[want] == nil {
			t.Errorf("%s: %v, want %s", path, got, want)
		}
	}
}

func TestPackageSearch(t *testing.T) {
	t.Parallel()
	b := stockedBook()
	b.versions = []string{"1.9.0", "v1.10.0", "1.2"}
	b.results.Items[0].Facts = append(b.results.Items[0].Facts, "platform:linux/arm", "platform:linux/amd64", "platform:linux/amd64")
	s := serve(t, b)
	_, got := getJSON[map[string]any](t, s.URL+"/v0/search?query=+an+app+&offset=50")
	want := map[string]any{"count": 10000.0, "data": []any{map[string]any{
		"name": "team/app", "version": "v1.10.0", "description": "An app", "published_at": "2026-03-04T05:06:07Z", "license": "MIT",
		"targets": []any{map[string]any{"kind": "linux_amd64", "lib": false, "bin": true}, map[string]any{"kind": "linux_arm_v7", "lib": false, "bin": true}},
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if b.query.Text != "an app" || b.query.Limit != 50 || b.query.Offset != 50 {
		t.Errorf("asked for %+v", b.query)
	}
	// A query without words is sorted newest first.
	if getJSON[any](t, s.URL+"/v0/search?query="); len(b.query.Clauses) != 0 || b.query.Sort != query.SortRelevance {
		t.Errorf("asked for %+v", b.query)
	}
}

// A client that requests pages until one is empty must reach an end.
func TestPackageSearchEnds(t *testing.T) {
	t.Parallel()
	s := serve(t, stockedBook())
	for _, offset := range []string{"1001", "99999999999999999999"} {
		_, got := getJSON[map[string]any](t, s.URL+"/v0/search?offset="+offset)
		if data, _ := got["data"].([]any); data == nil || len(data) != 0 || got["count"] != 10000.0 {
			t.Errorf("offset %s: %v", offset, got)
		}
	}
}

func TestPackageSearchErrors(t *testing.T) {
	t.Parallel()
	s := serve(t, &book{})
	for query, want := range map[string]string{
		"query=" + url.QueryEscape(`"open`): "failed to parse query: ",
		"query=size:x":                      "failed to parse query: ",
		"query=x&offset=-1":                 "offset",
		"query=x&offset=y":                  "offset",
		"query=x&min_version=y":             "min_version",
	} {
		for _, path := range []string{"/v0/search?", "/v1/search?"} {
			resp, body := get(t, s.URL+path+query)
			var got map[string]string
			if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != 400 || !strings.HasPrefix(got["error"], want) {
				t.Errorf("%s%s: %d %s, want %s", path, query, resp.StatusCode, body, want)
			}
		}
	}
}

// A word also matches within names if the search finds little otherwise.
func TestPackageSearchSubstrings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		query string
		total int
		want  string // the text of the last query
	}{
		{"arbo", 0, "arbo OR repo:*arbo*"},
		{"arbo", 49, "arbo OR repo:*arbo*"},
		{"arbo", 50, "arbo"},
		{"Arbo Ship", 0, "arbo OR repo:*arbo* ship OR repo:*ship*"},
		{`"a b"`, 0, `"a b"`},
		{"-x y", 0, "-x y"},
		{"os:linux y", 0, "os:linux y"},
		{"", 0, ""},
	} {
		b := &book{results: indexer.Results{Total: test.total}}
		getJSON[any](t, serve(t, b).URL+"/v0/search?query="+url.QueryEscape(test.query))
		if b.query.Text != test.want || b.query.Limit != 50 {
			t.Errorf("%q of %d: asked for %q, want %q", test.query, test.total, b.query.Text, test.want)
		}
	}
}
