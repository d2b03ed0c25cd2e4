package web_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

// Without X-Docker-Registry-Standalone docker sends an empty name and password over
// https.
func TestPing(t *testing.T) {
	t.Parallel()
	resp, body := get(t, serve(t, &book{}).URL+"/v1/_ping")
	if resp.StatusCode != 200 || body != "true" || resp.Header.Get("X-Docker-Registry-Standalone") != "false" {
		t.Errorf("%d %q %v", resp.StatusCode, body, resp.Header)
	}
}

func TestDockerSearchParameters(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		query               string
		text                string
		limit, offset, page int
	}{
		{"", "", 25, 0, 1},
		{"q=", "", 25, 0, 1},
		{"q=demo%2Falpha&n=25", "demo/alpha", 25, 0, 1},
		{"q=a+b%25c%26d", "a b%c&d", 25, 0, 1},
		{"q=%C3%A9%2A", "é*", 25, 0, 1},
		{"q=%FF%FE", "", 25, 0, 1},
		{"n=5", "", 5, 0, 1},
		{"n=100", "", 100, 0, 1},
		{"n=500", "", 100, 0, 1}, // podman --limit 500
		{"n=0", "", 25, 0, 1},
		{"n=-3", "", 25, 0, 1},
		{"n=99999999999999999999", "", 100, 0, 1},
		{"n=-99999999999999999999", "", 25, 0, 1},
		{"n=x", "", 25, 0, 1},
		{"n=", "", 25, 0, 1},
		{"n=5.5", "", 25, 0, 1},
		{"n=10&page=3", "", 10, 20, 3},
		{"page=0", "", 25, 0, 1},
		{"page=-1", "", 25, 0, 1},
		{"page=x", "", 25, 0, 1},
		{"page=41", "", 25, 1000, 41},
		{"page=42", "", 25, 1000, 41},
		{"page=99999999999999999999&n=7", "", 7, 994, 143},
		{"bogus=1&n=5&n=7", "", 5, 0, 1},
		{"n=%zz", "", 25, 0, 1},
	} {
		b := &book{}
		resp, body := get(t, serve(t, b).URL+"/v1/search?"+test.query)
		if resp.StatusCode != 200 {
			t.Errorf("%q: status %d", test.query, resp.StatusCode)
		}
		got := b.query
		if got.Text != test.text || got.Limit != test.limit || got.Offset != test.offset {
			t.Errorf("%q: asked for %+v, want %+v", test.query, got, test)
		}
		var answer struct {
			Page     int `json:"page"`
			PageSize int `json:"page_size"`
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		if answer.Page != test.page || answer.PageSize != test.limit {
			t.Errorf("%q: answered %+v, want page %d of %d", test.query, answer, test.page, test.limit)
		}
	}
}

func TestDockerSearchAnswer(t *testing.T) {
	t.Parallel()
	b := &book{results: indexer.Results{Total: 27, Items: []indexer.Result{
		{Repository: indexer.Repository{
			Name: "demo/alpha", Title: "Alpha",
			Description: "An \x1b[31malpha\x1b[0m\r\nimage\tof\x00 \u202Egpj\u202C \u009bours\xff",
		}, Stars: 7, Official: true},
		{Repository: indexer.Repository{Name: "demo/beta"}},
	}}}
	_, body := get(t, serve(t, b).URL+"/v1/search?q=demo&n=25")
	var got any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"query": "demo", "num_results": 27.0, "num_pages": 2.0, "page": 1.0, "page_size": 25.0,
		"results": []any{
			map[string]any{"name": "demo/alpha", "description": "An [31malpha[0m  image of gpj ours\uFFFD",
				"star_count": 7.0, "is_official": true, "is_automated": false, "is_trusted": false},
			map[string]any{"name": "demo/beta", "description": "",
				"star_count": 0.0, "is_official": false, "is_automated": false, "is_trusted": false},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// docker prints every result it receives, however many it requested.
func TestDockerSearchCuts(t *testing.T) {
	t.Parallel()
	b := &book{results: indexer.Results{Total: 60, Items: make([]indexer.Result, 60)}}
	_, body := get(t, serve(t, b).URL+"/v1/search?q=x&n=5")
	if n := strings.Count(body, `"name"`); n != 5 {
		t.Errorf("%d results, want 5", n)
	}
}

func TestDockerSearchNothing(t *testing.T) {
	t.Parallel()
	_, body := get(t, serve(t, &book{}).URL+"/v1/search?q=x")
	if !strings.Contains(body, `"results":[]`) {
		t.Errorf("results must be an empty list: %s", body)
	}
}

// A client that requests all pages that we announce must not receive a page twice.
func TestDockerSearchPagesEnd(t *testing.T) {
	t.Parallel()
	_, body := get(t, serve(t, &book{results: indexer.Results{Total: 10000}}).URL+"/v1/search?n=25&page=400")
	if !strings.Contains(body, `"num_pages":41,"page":41`) {
		t.Errorf("%s", body)
	}
}

// A long description must not make a page of megabytes.
func TestDockerSearchLongDescription(t *testing.T) {
	t.Parallel()
	b := &book{results: indexer.Results{Total: 1, Items: []indexer.Result{
		{Repository: indexer.Repository{Name: "x", Description: strings.Repeat("é", 1<<20)}},
	}}}
	_, body := get(t, serve(t, b).URL+"/v1/search")
	if len(body) > 2000 {
		t.Errorf("%d bytes", len(body))
	}
}

// Credentials have no effect: docker sends empty ones.
func TestDockerSearchIsAnonymous(t *testing.T) {
	t.Parallel()
	resp, _ := get(t, serve(t, &book{}).URL+"/v1/search?q="+url.QueryEscape("x"), "Authorization", "Basic Og==", "X-Docker-Token", "true")
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Set-Cookie") != "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

// A misspelt search, or one that is not a valid query, must not look like a
// successful one, and must not end in an empty table without an explanation.
func TestDockerSearchNearMisses(t *testing.T) {
	t.Parallel()
	found := indexer.Results{Total: 1, Items: []indexer.Result{{Repository: indexer.Repository{Name: "library/nginx", Description: "A proxy"}}}}
	type answer struct {
		Query, Asked string
		NumResults   int `json:"num_results"`
		Results      []struct{ Name, Description string }
	}
	for _, test := range []struct {
		what, q, correct string
		finds            string // the query that finds something
		want             answer
	}{
		{"misspelt", "ngnix", "nginx", "nginx", answer{Query: "nginx", Asked: "ngnix", NumResults: 1}},
		{"nothing is near", "ngnix", "", "nginx", answer{Query: "ngnix"}},
		{"what is near is no query", "ngnix", "size:x", "nginx", answer{Query: "ngnix"}},
		{"no query", "size:x nginx", "", "size:x nginx", answer{Query: "size:x nginx", NumResults: 1}},
		{"as it is", "nginx", "other", "nginx", answer{Query: "nginx", NumResults: 1}},
	} {
		b := &book{correct: test.correct, finds: func(q query.Query) indexer.Results {
			if q.Text == test.finds {
				return found
			}
			return indexer.Results{}
		}}
		_, got := getJSON[answer](t, serve(t, b).URL+"/v1/search?q="+url.QueryEscape(test.q))
		description := map[string]string{"misspelt": "Did you mean nginx? A proxy", "no query": "(Read as words.) A proxy", "as it is": "A proxy"}[test.what]
		if len(got.Results) != test.want.NumResults || description != "" && got.Results[0].Description != description {
			t.Errorf("%s: got %+v, want the description %q", test.what, got.Results, description)
		}
		got.Results = nil
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.what, diff)
		}
	}
}
