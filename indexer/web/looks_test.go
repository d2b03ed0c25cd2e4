package web_test

import (
	"compress/gzip"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web"
)

// Descriptions are formatted, and contain only elements that we allow.
func TestDescriptions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"a **b** `c`":                          "<p>a <strong>b</strong> <code>c</code></p>",
		"# One\n## Two\n#### Four\n# One":      "<h3>One</h3>\n<h4>Two</h4>\n<h5>Four</h5>\n<h3>One</h3>",
		"#### Deep":                            "<h3>Deep</h3>",
		"- a\n- b":                             "<ul>\n<li>a</li>\n<li>b</li>\n</ul>",
		"|a|\n|-|\n|b|":                        "<table>\n<thead>\n<tr>\n<th>a</th>\n</tr>\n</thead>\n<tbody>\n<tr>\n<td>b</td>\n</tr>\n</tbody>\n</table>",
		"[a](https://x.example/b)":             `<p><a href="https://x.example/b" rel="nofollow noreferrer">a</a></p>`,
		"see https://x.example/b":              `<p>see <a href="https://x.example/b" rel="nofollow noreferrer">https://x.example/b</a></p>`,
		"[a](javascript:alert(1))":             "<p>a</p>",
		"[a](/r/other) [b](//x.example/)":      "<p>a b</p>",
		"[a](https://u:p@x.example/)":          "<p>a</p>",
		"![a](https://x.example/b.png)":        "<p></p>",
		"<b onclick=x>a</b><script>x</script>": "<p>ax</p>",
		"a < b & c":                            "<p>a &lt; b &amp; c</p>",
	} {
		b := stocked("x")
		b.repositories[0].Description = text
		_, page := get(t, serve(t, b).URL+"/r/app")
		m := regexp.MustCompile(`(?s)Description</h2>(.*?)</section>`).FindStringSubmatch(page)
		if m == nil || strings.TrimSpace(m[1]) != want {
			t.Errorf("%q becomes %q, want %q", text, m, want)
		}
	}
}

// A list shows the text of a description without its formatting.
func TestDescriptionsInLists(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"A small tug & more":           "A small tug &amp; more",
		"# Tug\n\nA **small** `tug`.":  "Tug\nA small tug.",
		"<i>x</i> <script>y</script>":  "x y",
		"[manual](https://x.example/)": "manual",
	} {
		b := stocked("x")
		b.results.Items[0].Description = text
		_, page := get(t, serve(t, b).URL+"/")
		m := regexp.MustCompile(`(?s)<p class="description">(.*?)</p>`).FindStringSubmatch(page)
		if m == nil || strings.TrimSpace(m[1]) != want {
			t.Errorf("%q becomes %q, want %q", text, m, want)
		}
	}
}

// The first page must be small, with everything it loads: a list of 50 repositories,
// with everything that a row can show.
func TestFirstViewWeight(t *testing.T) {
	t.Parallel()
	b := stocked("x")
	item := b.results.Items[0]
	b.results.Items = nil
	for i := range 50 {
		item.Name, item.Title = fmt.Sprintf("team-%d/application-%d", i%7, i*7919), fmt.Sprintf("Application %d", i*31)
		item.Description = strings.Repeat(fmt.Sprintf("It does thing %d for team %d. ", i*104729, i*31), 12)
		b.results.Items = append(b.results.Items, item)
	}
	s := serve(t, b)
	resp, body := get(t, s.URL+"/", "Accept-Encoding", "gzip")
	weight := len(body)
	z, err := gzip.NewReader(strings.NewReader(body))
	if err != nil || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Fatalf("%v, %v", err, resp.Header)
	}
	page, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	assets := regexp.MustCompile(`(?:href|src)="(/static/[^"]+)"`).FindAllStringSubmatch(string(page), -1)
	if len(assets) != 3 {
		t.Fatalf("the page has the assets %q", assets)
	}
	for _, a := range assets {
		resp, body := get(t, s.URL+a[1], "Accept-Encoding", "gzip")
		if resp.StatusCode != 200 || resp.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: %d %v", a[1], resp.StatusCode, resp.Header)
		}
		weight += len(body)
		again, _ := get(t, s.URL+a[1], "Accept-Encoding", "gzip", "If-None-Match", resp.Header.Get("ETag"))
		if plain, _ := get(t, s.URL+a[1]); again.StatusCode != 304 || plain.Header.Get("ETag") == resp.Header.Get("ETag") {
			t.Errorf("%s: %d again, and the ETag %s is also that of the plain one", a[1], again.StatusCode, plain.Header.Get("ETag"))
		}
	}
	if weight > 60_000 {
		t.Errorf("the first view weighs %d bytes", weight)
	}
	t.Logf("the first view weighs %d bytes", weight)
}

// A browser accepts absolute URLs only. One that is made from the request's Host
// must not be cached for others.
func TestOpenSearch(t *testing.T) {
	t.Parallel()
	type description struct {
		Url []struct {
			Type     string `xml:"type,attr"`
			Template string `xml:"template,attr"`
		}
	}
	for public, want := range map[string]string{"https://r.example": "https://r.example/?q={searchTerms}", "/": "http://127.0.0.1"} {
		resp, body := get(t, serve(t, &book{}, func(c *web.Config) { c.PublicURL = public }).URL+"/opensearch.xml")
		var d description
		if err := xml.Unmarshal([]byte(body), &d); err != nil || len(d.Url) == 0 || !strings.HasPrefix(d.Url[0].Template, want) {
			t.Errorf("%s: %v, %s", public, err, body)
		}
		if kept := resp.Header.Get("Cache-Control") != "no-store"; kept != (public != "/") {
			t.Errorf("%s: Cache-Control %q", public, resp.Header.Get("Cache-Control"))
		}
	}
}

// Artifacts are shown with their type, and with the commands that pull them.
func TestArtifacts(t *testing.T) {
	t.Parallel()
	for artifactType, want := range map[string][]string{
		"application/vnd.cncf.helm.config.v1+json": {"Helm chart", "helm pull oci://r.example/app --version v1", "oras pull r.example/app:v1"},
		"application/vnd.wasm.config.v0+json":      {"WebAssembly", "oras pull r.example/app:v1"},
		"application/spdx+json":                    {"SPDX SBOM"},
		"application/vnd.example.thing":            {"application/vnd.example.thing"},
		"":                                         {"Artifact", "oras pull"},
	} {
		b := stocked("x")
		b.manifest.Kind, b.manifest.ArtifactType, b.manifest.ConfigBody, b.manifest.Entries = indexer.KindArtifact, artifactType, nil, nil
		b.manifest.Layers[0].Digest = dgst("f")
		b.manifest.Layers[0].Annotations = map[string]string{"org.opencontainers.image.title": "a <file>"}
		_, page := get(t, serve(t, b, func(c *web.Config) { c.PublicURL = "https://r.example" }).URL+"/r/app:v1")
		for _, w := range append(want, "a &lt;file&gt;", `href="/v2/app/blobs/`+dgst("f").String()+`"`, ">Content</h2>") {
			if !strings.Contains(page, w) {
				t.Errorf("%q: %q is not on the page", artifactType, w)
			}
		}
		if strings.Contains(page, "docker pull") {
			t.Errorf("%q: the page has a docker command", artifactType)
		}
	}
}

// Filters are counted once for all pages and sort orders of a query, and again after
// any change.
func TestFacetsAreCountedOnce(t *testing.T) {
	t.Parallel()
	b := stocked("x")
	s := serve(t, b)
	count := func(path string) string {
		_, page := get(t, s.URL+path)
		return regexp.MustCompile(`title="linux"[^>]*>linux</a> <span class="n">([^<]*)<`).FindString(page)
	}
	first := count("/?q=a")
	b.facets = indexer.Facets{Facets: []indexer.Facet{{Name: "os", Values: []indexer.FacetValue{{Value: "linux", Count: 77}}}}}
	if again := count("/?q=a&page=2&sort=size"); again != first || !strings.Contains(first, "1,000") {
		t.Errorf("one query and version: %q, then %q", first, again)
	}
	if other := count("/?q=b"); !strings.Contains(other, "77") {
		t.Errorf("another query: %q", other)
	}
	b.version = indexer.Version{Epoch: "e1", Number: 8}
	if later := count("/?q=a"); !strings.Contains(later, "77") {
		t.Errorf("a later version: %q", later)
	}
}

// The number beside a filter is how many results its link finds: with "+" if there
// may be more, and no number if the link removes the condition.
func TestFacetNumbers(t *testing.T) {
	t.Parallel()
	s := serve(t, stocked("x"))
	for query, want := range map[string]string{"": ">1,000+<", "os:linux": ""} {
		_, page := get(t, s.URL+"/?q="+query)
		line := regexp.MustCompile(`title="linux".*?</li>`).FindString(page)
		if got := regexp.MustCompile(`class="n">([^<]*)<`).FindString(line); line == "" || !strings.HasSuffix(got, want) || want == "" && got != "" {
			t.Errorf("beside %q: %q in %q, want %q", query, got, line, want)
		}
	}
	_, answer := get(t, s.URL+"/api/v1/facets")
	if !strings.Contains(answer, `"count":1000,"count_is_floor":true`) {
		t.Errorf("the API does not say that 1,000 is a lower bound: %s", answer)
	}
}

// The page of a tag that the registry lists but cannot show says why.
func TestBrokenTagPage(t *testing.T) {
	t.Parallel()
	b := stocked("the disk is full")
	b.manifest = nil
	resp, page := get(t, serve(t, b).URL+"/r/app:broken")
	if resp.StatusCode != 404 || !strings.Contains(page, "cannot show it: the disk is full") || !strings.Contains(page, `href="/r/app"`) {
		t.Errorf("%d %s", resp.StatusCode, page)
	}
	if _, page = get(t, serve(t, b).URL+"/r/app:absent"); strings.Contains(page, "cannot show it") {
		t.Error("an absent tag has a problem")
	}
}
