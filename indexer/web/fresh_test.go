package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
)

// An echo is a book whose cached results contain the query: different queries have
// different results.
type echo struct{ *book }

func (e *echo) Facets(_ context.Context, q query.Query) (indexer.Facets, error) {
	q.Sort, q.Limit, q.Offset = "", 0, 0
	sum := int(crc32.ChecksumIEEE(fmt.Appendf(nil, "%#v", q)))
	return indexer.Facets{Counted: sum, Facets: []indexer.Facet{{Name: "os", Values: []indexer.FacetValue{{Value: fmt.Sprint("os-", sum), Count: sum}}}}}, nil
}

func (e *echo) Images(_ context.Context, q query.Images) ([]indexer.RepositoryImages, error) {
	return []indexer.RepositoryImages{{Name: fmt.Sprintf("%q", q)}}, nil
}

func (e *echo) ImagesState(_ context.Context, q query.Images) (string, error) {
	return fmt.Sprintf("%q", q), nil
}

// A server that has sent many answers must answer like a new one: one ETag never has
// two answers. The addresses are those of the OpenAPI document and of the pages,
// with each of their parameters alone and with all of them.
func TestWellUsedServerAnswersAsFreshOne(t *testing.T) {
	t.Parallel()
	handler := func() *httptest.Server {
		b := &echo{stockedBook()}
		s := httptest.NewServer(web.New(web.Config{WebUI: true, Version: "v1", PublicURL: "/", Read: func(_ context.Context, _ indexer.Asker, f func(answer.Book) error) error { return f(b) }}))
		t.Cleanup(s.Close)
		return s
	}
	used := handler()
	addresses := addressesOf(t, used.URL)
	for range 2 { // the second round may find what the first has cached
		for _, a := range addresses {
			get(t, used.URL+a)
		}
		slices.Reverse(addresses)
	}
	compared := 0
	for _, a := range addresses {
		old, oldBody := get(t, used.URL+a)
		fresh, freshBody := get(t, handler().URL+a)
		if etag := old.Header.Get("ETag"); etag != fresh.Header.Get("ETag") || old.StatusCode != fresh.StatusCode {
			t.Errorf("%s: %d %s, but a fresh server answers %d %s", a, old.StatusCode, etag, fresh.StatusCode, fresh.Header.Get("ETag"))
		} else if etag != "" {
			if compared++; oldBody != freshBody {
				t.Errorf("%s: the answer differs from that of a fresh server with the same ETag", a)
			}
		}
	}
	if compared < 100 {
		t.Errorf("only %d of %d addresses were compared", compared, len(addresses))
	}
}

// addressesOf returns addresses of everything that a server answers from the book.
func addressesOf(t *testing.T, server string) (addresses []string) {
	t.Helper()
	_, body := get(t, server+"/api/v1/openapi.json")
	var document struct {
		Paths map[string]struct {
			Get *struct {
				Parameters []struct {
					Name, In string
					Schema   struct{ Enum []string }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &document); err != nil {
		t.Fatal(err)
	}
	takes := map[string]map[string][]string{ // values by path and parameter name
		"/":                  {"q": nil, "sort": {"name", "updated"}, "after": nil, "page": nil},
		"/repositories":      {"q": nil, "after": nil},
		"/n/team":            {"after": nil, "sort": {"name", "updated"}, "page": nil},
		"/r/team/app":        {"after": nil, "tag": nil, "sort": {"name", "updated"}},
		"/r/team/app:v1":     {"platform": {"linux/amd64", "linux/arm64"}},
		"/compare":           {"a": {"team/app:v1", "team/app:v2"}, "b": {"team/app:v1", "team/app:v2"}},
		"/status":            nil,
		"/activity":          {"before": nil},
		"/activity.atom":     nil,
		"/storage":           {"sort": {"largest", "untagged"}, "after": nil},
		"/index/dynamic":     nil,
		"/api/v1/search?q=x": {"cursor": nil},
	}
	in := strings.NewReplacer("{name}", "team/app", "{namespace}", "team", "{reference}", "v1", "{tag}", "v1", "{digest}", dgst("a").String())
	for path, item := range document.Paths {
		if item.Get == nil {
			continue
		}
		parameters := map[string][]string{}
		for _, p := range item.Get.Parameters {
			if p.In == "query" {
				parameters[p.Name] = p.Schema.Enum
			}
		}
		if path != "/api/v1/dump" { // it contains the time, and has no ETag
			takes[in.Replace(path)] = parameters
		}
	}
	values := map[string][]string{"limit": {"1", "2"}, "page": {"1", "2"}, "n": {"1", "2"}, "offset": {"0", "1"}, "before": {"5", "6"}, "min_version": {"e1.6", "e1.7"},
		"at": {"2026-03-04T05:06:07Z", "2026-03-05T05:06:07Z"}, "q": {"app", "team size:>1"}, "query": {"app", "team"}}
	for path, parameters := range takes {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		addresses = append(addresses, path)
		for i := range 2 {
			all := url.Values{}
			for name, of := range parameters {
				if of == nil {
					if of = values[name]; of == nil {
						of = []string{"a", "b"}
					}
				}
				v := of[i%len(of)]
				all.Set(name, v)
				addresses = append(addresses, path+sep+url.Values{name: {v}}.Encode())
				if name == "after" && parameters["sort"] != nil {
					addresses = append(addresses, path+sep+url.Values{name: {v}, "sort": {"name"}}.Encode(), path+sep+url.Values{name: {v}, "sort": {"name"}, "q": {"app"}}.Encode())
				}
			}
			addresses = append(addresses, path+sep+all.Encode())
		}
	}
	slices.Sort(addresses)
	return slices.Compact(addresses)
}
