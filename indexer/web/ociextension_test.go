package web_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web"
)

// The extensions of the registry's API are served only if they are configured, say that they are
// experimental, and page.
func TestExtensions(t *testing.T) {
	t.Parallel()
	at := func(day int) time.Time { return time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC) }
	b := &book{
		repositories: []indexer.Repository{{Name: "team/app"}},
		tags: []indexer.Tag{
			{Name: "v1", Digest: dgst("1"), MediaType: "m", MovedAt: at(1)}, {Name: "v2", Digest: dgst("2"), MediaType: "m", MovedAt: at(2)},
			{Name: "v3", Digest: dgst("3"), MediaType: "m", MovedAt: at(3)}, {Name: "v4", Problem: "it cannot be shown"},
		},
		moves: []indexer.Move{
			{ID: 9, Repository: "team/app", Tag: "v1", From: dgst("1"), SeenAt: at(3)},
			{ID: 5, Repository: "team/app", Tag: "v1", From: dgst("8"), To: dgst("1"), SeenAt: at(2)},
			{ID: 4, Repository: "team/app", Tag: "v1", To: dgst("8"), SeenAt: at(1)},
		},
	}
	entry := func(about, d, event string, day int) string {
		return "{" + about + `"digest":"` + dgst(d).String() + `","annotations":{"org.opencontainers.distribution.tag.` + event +
			`":"` + at(day).Format(time.RFC3339) + `"}}`
	}
	const about = `"mediaType":"m","size":7,`
	deleted, created := "["+entry(about, "1", "deleted", 3), entry(about, "1", "created", 2)
	lost := entry("", "8", "created", 1) // the book no longer holds the manifest
	off := serve(t, b)
	if resp, _ := get(t, off.URL+"/v2/team/app/_oci/tags"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("off: %s", resp.Status)
	}
	on := serve(t, b, func(c *web.Config) { c.ExperimentalOCI = true })
	for _, c := range []struct {
		path   string
		status int
		want   string
		next   string
	}{
		{"/v2/team/app/_oci/tags", 200, `{"name":"team/app","tags":[{"name":"v1","mediaType":"m","digest":"` + dgst("1").String() +
			`","updated":"2026-01-01T00:00:00Z"},{"name":"v2"`, ""},
		{"/v2/team/app/_oci/tags?updated-since=2026-01-03T00:00:00Z", 200, `"tags":[{"name":"v3"`, ""},
		{"/v2/team/app/_oci/tags?updated-since=2026-01-02T00:00:00Z&n=1", 200, `"tags":[{"name":"v2"`,
			"/v2/team/app/_oci/tags?last=v2&n=1&updated-since=2026-01-02T00%3A00%3A00Z"},
		{"/v2/team/app/_oci/tags?last=v2&n=1&updated-since=2026-01-02T00%3A00%3A00Z", 200, `"tags":[{"name":"v3"`,
			"/v2/team/app/_oci/tags?last=v3&n=1&updated-since=2026-01-02T00%3A00%3A00Z"},
		{"/v2/team/app/_oci/tags?last=v3", 200, `"tags":[]`, ""},
		{"/v2/team/app/_oci/tags?updated-since=yesterday", 400, "updated-since", ""},
		{"/v2/team/app/_oci/tags?n=0", 400, "n is", ""},
		{"/v2/team/none/_oci/tags", 404, "errors", ""},
		{"/v2/team/app/_oci/tag-history/v1", 200, deleted + "," + created + "," + lost + "]", ""},
		{"/v2/team/app/_oci/tag-history/v1?n=1", 200, deleted + "]", "/v2/team/app/_oci/tag-history/v1?last=9&n=1"},
		{"/v2/team/app/_oci/tag-history/v1?last=9&n=1", 200, "[" + created + "]", "/v2/team/app/_oci/tag-history/v1?last=5&n=1"},
		{"/v2/team/app/_oci/tag-history/v1?last=5&n=1", 200, "[" + lost + "]", ""},
		{"/v2/team/app/_oci/tag-history/v1?before=2026-01-03T00:00:00Z&n=1", 200, "[" + created + "]",
			"/v2/team/app/_oci/tag-history/v1?last=5&n=1"},
		{"/v2/team/app/_oci/tag-history/v1?before=2026-01-02T00:00:00Z", 200, "[" + lost + "]", ""},
		{"/v2/team/app/_oci/tag-history/v1?n=0", 200, "[]", ""},
		{"/v2/team/app/_oci/tag-history/v1?n=-1", 400, "n is", ""},
		{"/v2/team/app/_oci/tag-history/v1?last=x", 400, "last", ""},
		{"/v2/team/app/_oci/tag-history/v1?before=x", 400, "before", ""},
		{"/v2/team/app/_oci/tag-history/v1?digest=" + dgst("1").String(), 200, deleted + "," + created + "]", ""},
		{"/v2/team/app/_oci/tag-history/v1?digest=" + dgst("1").String() + "&n=1", 200, deleted + "]",
			"/v2/team/app/_oci/tag-history/v1?digest=" + url.QueryEscape(dgst("1").String()) + "&last=9&n=1"},
		{"/v2/team/app/_oci/tag-history/v1?digest=" + dgst("2").String(), 400, "is not in the history", ""},
		{"/v2/team/app/_oci/tag-history/v1?digest=x", 400, "digest", ""},
		{"/v2/team/app/_oci/tag-history/none", 200, "[]", ""},
		{"/v2/team/none/_oci/tag-history/none", 404, "errors", ""},
		{"/v2/_oci/ext/discover", 200, `"_oci/tag-history"`, ""},
	} {
		resp, body := get(t, on.URL+c.path)
		link, _, _ := strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
		if resp.StatusCode != c.status || !strings.Contains(body, c.want) || link != c.next {
			t.Errorf("%s: %s %q\n%s\nwant %s %q", c.path, resp.Status, link, body, c.want, c.next)
		}
		if c.status == 200 && resp.Header.Get("X-Experimental") == "" {
			t.Errorf("%s: it does not say that it is experimental", c.path)
		}
	}
}
