package web_test

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web"
)

// stocked returns a book with which every page shows everything it can show. Every
// string from a stranger in it is s.
func stocked(s string) *book {
	config := &ocispec.Descriptor{MediaType: s, Digest: dgst("c"), Size: 700}
	quoted := fmt.Sprintf("%q", s)
	if !jsonSafe(s) {
		quoted = `"x"`
	}
	return &book{
		repositories: []indexer.Repository{{Name: "app", Title: s, Description: s, Tags: 2, Manifests: 3, UpdatedAt: day, Leading: "v1"}},
		results: indexer.Results{Total: 1234, Items: []indexer.Result{
			{Repository: indexer.Repository{Name: "app", Title: s, Description: s, Tags: 1, UpdatedAt: day, Leading: "v1",
				TagsWith: indexer.TagsWith{Of: 5, Signature: 2, SBOM: 1, Attestation: 5}}, Stars: 3, Size: 3 << 20, Pulls: 4321,
				Facts: []indexer.Fact{"has:sbom", "has:signature", "has:attestation", "platform:linux/amd64", "platform:linux/arm64", "platform:linux/arm64/v8",
					indexer.FactType.Fact("application/" + s), indexer.FactPlatform.Fact(s + "/x"), indexer.FactLicence.Fact(s), indexer.FactLabel.Fact(s)}},
		}},
		facets: indexer.Facets{Counted: 500, Facets: []indexer.Facet{
			{Name: "os", Values: []indexer.FacetValue{{Value: "linux", Count: 1000, AtLeast: true}, {Value: s, Count: 1}}},
			{Name: "type", Values: []indexer.FacetValue{{Value: s, Count: 1}}},
			{Name: "licence", Values: []indexer.FacetValue{{Value: "Apache-2.0", Count: 7}, {Value: s, Count: 1}}},
			{Name: "label", Values: []indexer.FacetValue{{Value: s, Count: 1}}},
		}},
		moves: []indexer.Move{
			{ID: 5, Repository: "app", Tag: "v1", From: dgst("b"), To: dgst("a"), SeenAt: day, SeenBy: "event"},
			{ID: 4, Repository: "app", Tag: "v1", To: dgst("b"), SeenAt: day.AddDate(0, -1, 0), SeenBy: indexer.SeenBy(s)},
			{ID: 3, Repository: "app", Tag: s, From: dgst("a"), SeenAt: day, SeenBy: indexer.SeenBy(s)},
			{ID: 2, Repository: s, Tag: s, From: digest.Digest(s), To: digest.Digest(s + "x"), SeenAt: day, SeenBy: "scan"},
			{ID: 1, Repository: "app", Tag: s, To: digest.Digest(s), SeenAt: day, SeenBy: "event"},
		},
		usage: indexer.Usage{
			Counting: indexer.Counting{Since: day.AddDate(0, -2, 0), Until: day}, Counts: indexer.Counts{Pulls: 1234, ScannerPulls: 56}, PulledAt: day,
			Days: []indexer.UsageDay{
				{Day: day.Truncate(24 * time.Hour), Counts: indexer.Counts{Pulls: 9}, By: map[indexer.ClientKind]int64{indexer.ByToken: 7, indexer.ByAnonymous: 2}},
				{Day: day.AddDate(0, 0, -9).Truncate(24 * time.Hour), Counts: indexer.Counts{Pulls: 30}, By: map[indexer.ClientKind]int64{indexer.ByPerson: 30}},
			},
		},
		uses: []indexer.Use{
			{Repository: "app", Digest: dgst("a"), As: "manifest", Tags: []string{"v1"}},
			{Repository: "other/app", Digest: dgst("a"), As: "manifest", Tags: []string{"v7"}},
			{Repository: "other/index", Digest: dgst("e"), As: "entry"},
		},
		tags: []indexer.Tag{
			{Name: "broken", Problem: s},
			{Name: "v1", Digest: dgst("a"), MediaType: s, Kind: indexer.KindImage, Platforms: []indexer.Platform{{OS: s, Architecture: s, Variant: s}}, Size: 3 << 20, CreatedAt: day, MovedAt: day, Has: []indexer.ReferrerKind{"referrer", "sbom", "signature"}},
		},
		manifest: &indexer.Manifest{
			Repository: "app", Digest: dgst("a"), MediaType: s, ArtifactType: s, Kind: indexer.KindImage,
			Platform: indexer.Platform{OS: s, Architecture: s}, Size: 500, ContentSize: 3 << 20, CreatedAt: day, SeenAt: day,
			Labels:      map[string]string{s: s, "org.opencontainers.image.source": "https://example.org/source"},
			Annotations: map[string]string{s: s},
			Subject:     digest.Digest(s),
			Config:      config,
			Layers:      []ocispec.Descriptor{{MediaType: s + ".tar", Digest: digest.Digest(s), Size: 12345}},
			Entries: []indexer.Entry{
				{Digest: dgst("d"), MediaType: s, Platform: indexer.Platform{OS: s, Architecture: s}, Present: true},
				{Digest: digest.Digest(s), MediaType: s, Annotations: map[string]string{"vnd.docker.reference.type": s}},
			},
			Problems: []string{s},
			Body:     []byte(`{"annotations":{"x":"` + s + `"}}`),
			ConfigBody: []byte(`{"config":{"User":` + quoted + `,"Env":[` + quoted + `],"Entrypoint":[` + quoted + `],"Cmd":[` + quoted +
				`],"ExposedPorts":{` + quoted + `:{}},"Volumes":{` + quoted + `:{}},"WorkingDir":` + quoted + `},"history":[{"created":` + quoted + `,"created_by":` + quoted + `}]}`),
		},
		storage:    indexer.Storage{Repositories: 1, Manifests: 3, Size: 9000, Own: 8000, Untagged: 1, UntaggedSize: 2000, CountedAt: day},
		namespaces: []indexer.NamespaceStorage{{Namespace: s, Repositories: 1, Own: 5000, Shared: 1000}, {Namespace: "", Repositories: 1, Own: 3000}},
		stored:     []indexer.RepositoryStorage{{Name: s, Own: 5000, Shared: 1000, Manifests: 3, Untagged: 1, UntaggedSize: 2000, PushedAt: day}},
		tagsOf:     []string{"v1"},
		past: indexer.PastResults{Next: "app", Incomplete: true, Items: []indexer.PastRepository{
			{Name: s, Title: s, Description: s, Tags: 2, Leading: s, Digest: dgst("a"), MovedAt: day, Incomplete: true}}},
		holding: indexer.Holding{Own: 1000, Shared: 2000, Frees: indexer.Freed{Frees: 1500, Manifests: 3, UnknownBlobs: 1, Unknown: 7},
			Manifest: &indexer.ManifestHolding{Digest: dgst("a"), Tags: []string{"v1", s}, ListedBy: 1, Attached: 2, Alone: indexer.Freed{Manifests: 1}}},
		referrers: []indexer.Referrer{{Digest: digest.Digest(s), MediaType: s, ArtifactType: s, Size: 99, Tag: s}},
		status: indexer.Status{
			Version:   indexer.Version{Epoch: "e1", Number: 7},
			LastScan:  &indexer.Scan{ID: 1, Reason: s, StartedAt: day, FinishedAt: day, Repositories: 5000},
			Running:   &indexer.Scan{ID: 2, Reason: s, StartedAt: day},
			TasksDue:  3,
			OldestDue: time.Minute,
			GivenUp:   1,
			Failures:  []indexer.TaskFailure{{Repository: s, Reference: indexer.TagOrDigest(s), Attempts: 3, Error: s, GivenUp: true}},
		},
		jobs: indexer.JobReport{Since: day, Jobs: []indexer.Job{{Name: s, LastBegin: day, LastEnd: day, LastError: s}}},
	}
}

func jsonSafe(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

var pagePaths = []string{"/", "/?q=x", "/?q=x+os:", "/?sort=name", "/n/team", "/r/app", "/r/app?tag=v", "/r/app?platform=linux/amd64", "/r/app:v1",
	"/r/app@" + dgst("a").String(), "/compare", "/compare?a=app:v1&b=app", "/compare?a=app:&b=app", "/status", "/activity", "/storage", "/storage?namespace=app", "/?at=2026-01-02", "/r/app?at=2026-01-02", "/r/app:v1?at=2026-01-02T03:04", "/absent", "/r/absent"}

// hostile are texts that would be harmful if they were not treated as text.
var hostile = []string{
	`<script>alert(1)</script>`,
	`"><img src=x onerror=alert(1)>`,
	`' onmouseover='alert(1)`,
	`javascript:alert(1)`,
	`JaVaScRiPt://example.org/%0aalert(1)`,
	`data:text/html,<script>alert(1)</script>`,
	`https://example.org/"onclick="alert(1)`,
	`//example.org/x`,
	`https://user:password@example.org/`,
	"\x1b[31mred\x00\x08\x7f \u009b31m \u202Egpj.exe\u2066 \u061C \u2028 \xff\xfe",
	`{{.Title}}</title></pre></details>`,
	strings.Repeat("long ", 5_000),
	"[click](javascript:alert(1)) ![x](http://example.org/x.png) <b onclick=alert(1)>b</b>",
	"[a](https://u:p@example.org/) <https://example.org/?q=\"><script>> [b](//example.org) [c](data:text/html,x)",
	"| a | b |\n|---|---|\n| <i>x</i> | `<u>` |\n\n# One\n\n~~gone~~ https://example.org/page",
	"> > > > [x]: javascript:alert(1)\n\n[x]\n\n```js\n<script>\n```",
	strings.Repeat("[", 5_000),
	strings.Repeat("> ", 5_000) + "x",
}

// What strangers push must appear on a page as text only.
func TestPagesEscape(t *testing.T) {
	t.Parallel()
	for _, s := range hostile {
		checkPages(t, s)
	}
}

func FuzzPages(f *testing.F) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(checkPages)
}

// checkPages checks all pages of a book full of s, and pages whose address contains
// s.
func checkPages(t *testing.T, s string) {
	server := serve(t, stocked(s))
	part := url.QueryEscape(s[:min(len(s), 1000)])
	own := []string{"/?q=" + part, "/r/" + strings.ReplaceAll(part, "+", "%20"), "/n/" + strings.ReplaceAll(part, "+", "%20"), "/?after=" + part, "/?sort=" + part,
		"/r/app?tag=" + part, "/r/app?platform=" + part, "/r/app:v1?platform=" + part, "/compare?a=" + part + "&b=" + part, "/compare?a=app:v1&b=app:v1&platform=" + part}
	for _, path := range append(own, pagePaths...) {
		resp, body := get(t, server.URL+path)
		if resp.StatusCode == 500 {
			t.Errorf("%.60s of %.40q: %d", path, s, resp.StatusCode)
		}
		checkPage(t, fmt.Sprintf("%.60s of %.40q", path, s), body)
	}
}

var (
	element   = regexp.MustCompile(`<(/?)([a-zA-Z0-9]+)([^>]*)>`)
	attribute = regexp.MustCompile(`\s([a-zA-Z-]+)="([^"]*)"`)
	// ourElements and ourAttributes are all that templates and descriptions use.
	ourElements = strings.Fields(`html head meta title link script body header a form input button nav main h1 h2 h3 h4 h5 h6 p pre code span ul ol li div
		table thead tbody tr th td dl dt dd details summary br hr time footer section aside figure figcaption svg path circle rect select option label kbd
		mark var em strong del blockquote b section progress`)
	ourAttributes = strings.Fields(`lang charset name content rel type href class action role value maxlength placeholder title scope datetime id src
		tabindex autocomplete autocapitalize spellcheck download data-copy data-open data-plain hidden data-filter data-live viewBox d cx cy r x y width height preserveAspectRatio label
		aria-label aria-labelledby aria-hidden aria-current max`)
	closedThemselves = strings.Fields("meta link input br hr path circle rect")
)

// checkPage checks that body is valid output of our templates: only their elements,
// properly nested, and only addresses to which a browser may be sent.
func checkPage(t *testing.T, what, body string) {
	t.Helper()
	if !strings.HasPrefix(body, "<!doctype html>") {
		return // plain text from the mux, for example for a path that it does not clean
	}
	var open []string
	for _, m := range element.FindAllStringSubmatch(body, -1) {
		closes, name := m[1] == "/", m[2]
		if !slices.Contains(ourElements, name) {
			t.Errorf("%s: element %q", what, m[0])
		}
		for _, a := range attribute.FindAllStringSubmatch(m[3], -1) {
			checkAttribute(t, what, a[1], html.UnescapeString(a[2]))
		}
		if name == "script" && !closes && !strings.HasPrefix(m[3], ` src="/static/app.js?v=`) {
			t.Errorf("%s: script %q", what, m[0])
		}
		switch {
		case slices.Contains(closedThemselves, name) && (name != "rect" || strings.HasSuffix(m[3], "/")):
		case !closes:
			open = append(open, name)
		case len(open) == 0 || open[len(open)-1] != name:
			t.Errorf("%s: %s closes %v", what, m[0], open)
			return
		default:
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		t.Errorf("%s: %v are open", what, open)
	}
	for _, r := range body {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) {
			t.Errorf("%s: %U is on the page", what, r)
			return
		}
	}
}

func checkAttribute(t *testing.T, what, name, value string) {
	t.Helper()
	if !slices.Contains(ourAttributes, name) {
		t.Errorf("%s: attribute %s", what, name)
	}
	if name != "href" && name != "action" && name != "src" {
		return
	}
	u, err := url.Parse(value)
	ours := err == nil && u.Scheme == "" && u.Host == "" && (strings.HasPrefix(value, "/") || strings.HasPrefix(value, "#"))
	theirs := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && name == "href"
	if !ours && !theirs {
		t.Errorf("%s: address %q", what, value)
	}
}

// Invisible characters that have an effect are shown.
func TestPagesShowControls(t *testing.T) {
	t.Parallel()
	_, body := get(t, serve(t, stocked("a\x1b[31mb\u202Ec\r\nd")).URL+"/r/app")
	if want := "a␛[31mb‹U+202E›c"; !strings.Contains(body, want) {
		t.Errorf("%q is not on the page", want)
	}
}

func TestPageHeaders(t *testing.T) {
	t.Parallel()
	s := serve(t, stocked("x"))
	for _, path := range append(pagePaths, "/static/style.css", "/static/absent", "/index/static", "/v1/search", "/r/UPPER") {
		resp, _ := get(t, s.URL+path)
		h := resp.Header
		for _, want := range []string{"default-src 'none'", "style-src 'self'", "img-src 'self' data:", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'"} {
			if !strings.Contains(h.Get("Content-Security-Policy"), want) {
				t.Errorf("%s: Content-Security-Policy %q lacks %s", path, h.Get("Content-Security-Policy"), want)
			}
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") == "" {
			t.Errorf("%s: %v", path, h)
		}
		if (resp.StatusCode != 200 || path == "/status") && (h.Get("Cache-Control") != "no-store" || h.Get("ETag") != "") {
			t.Errorf("%s: %d with Cache-Control %q", path, resp.StatusCode, h.Get("Cache-Control"))
		}
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	public := func(c *web.Config) { c.PublicURL = "https://r.example:5000" }
	stock := stocked("words")
	for _, test := range []struct {
		path string
		code int
		want []string
	}{
		{"/", 200, []string{`href="/r/app"`, "</svg>1 tag</span>", ">1 repository</p>", `<time datetime="2026-03-04T05:06:07Z" title="2026-03-04 05:06:07 UTC">2026-03-04 05:06 UTC</time>`,
			"3.00 MiB", "4,321 pulls", "2 of 5 tags have a signature</span>", "1 of 5 tags has an SBOM</span>", "5 of 5 tags have an attestation</span>", `<span class="platform">linux/arm64</span>`,
			`href="/?q=os%3Alinux"`, `href="/?sort=name"`, `aria-current="true">latest change</a>`, "only the best 500 repositories were counted",
			`href="/?q=licence%3AApache-2.0"`}},
		{"/?q=some+thing", 200, []string{`value="some thing"`, "1,234 repositories for “some thing”", `href="/?page=2&amp;q=some&#43;thing" rel="next"`,
			`aria-current="true">best match</a>`, `href="/?q=some&#43;thing&amp;sort=size"`, `href="/?q=os%3Alinux&#43;some&#43;thing"`}},
		{"/?q=x&page=3", 200, []string{`href="/?page=2&amp;q=x" rel="prev"`, `href="/?page=4&amp;q=x" rel="next"`}},
		{"/?q=os:linux+x", 200, []string{`href="/?q=x" rel="nofollow" title="linux" aria-current="true">linux</a>`}},
		{"/?q=x&sort=size", 200, []string{`href="/?page=2&amp;q=x&amp;sort=size" rel="next"`}},
		{"/?q=x&sort=bytes", 400, []string{"sort"}},
		{"/?q=a+siez:1+b", 400, []string{"a <mark>siez:1</mark> b", `value="a siez:1 b"`, "did you mean size?"}},
		{"/?q=%22a", 400, []string{`<mark>&#34;a</mark>`, `value="&#34;a"`}},
		{"/n/team", 200, []string{"<h1 id=\"heading\">team</h1>", `value="namespace:team "`, `href="/n/team?sort=size"`, `href="/n/team?page=2" rel="next"`,
			`href="/?q=os%3Alinux&#43;namespace%3Ateam"`}},
		{"/n/Team", 400, nil},
		{"/n/a/b", 404, nil},
		{"/compare", 200, []string{`name="a" value=""`, "latest"}},
		{"/compare?a=app:v1&b=app", 200, []string{`name="b" value="app"`, "both have 1 layer, 12.1 KiB", "No differences"}},
		{"/compare?a=app:v1&b=app:", 400, []string{`value="app:"`, "is not a tag"}},
		{"/compare?a=app:v1", 200, []string{`value="app:v1"`}},
		{"/r/app", 200, []string{`href="/r/app:v1"`, `href="/r/app@` + dgst("a").String() + `" title="` + dgst("a").String(), "aaaaaaaaaaaa", "3.00 MiB", "docker pull r.example:5000/app:v1", "skopeo copy docker://r.example:5000/app@sha256:",
			`<span class="problem">words`, `<a href="https://example.org/source" rel="noopener noreferrer nofollow">example.org/source</a>`, "4 pushes and moves of tags",
			`<title>week of 2026-03-02: 3</title>`, "2 of 5 tags have a signature</span>", "has signature</span>", "has SBOM</span>",
			"1,234 pulls of this repository, the last", "pulls before are unknown", "<title>2026-02-23: 30</title>", "39 pulls in the 90 days up to", "2 without a login, 30 people, 7 tokens",
			"56 pulls of scanners"}},
		{"/r/app?tag=V", 200, []string{`href="/r/app:v1"`, `value="V"`, "All tags", "1 of 2 tags"}},
		{"/r/app?tag=nothing", 200, []string{"No tag matches"}},
		{"/r/app?platform=words/words/words", 200, []string{`<option selected>words/words/words</option>`, `href="/r/app:v1"`}},
		{"/r/app:v1", 200, []string{"docker pull r.example:5000/app:v1", `href="https://example.org/source"`, "12.1 KiB", "missing", "&#34;words&#34;", "<details>",
			`aria-current="true">words/words</a>`, `href="/r/other/app:v7"`, "listed in the index", "History of this tag", "1,234 pulls of this tag", "1,234 of the manifest that it shows, by any tag or its digest", `href="/compare?a=app@sha256%3a` + dgst("b").Encoded() + `&amp;b=app@sha256%3aaaaa`}},
		{"/r/app@" + dgst("a").String(), 200, []string{"docker pull r.example:5000/app@" + dgst("a").String(), `href="/r/app:v1"`}},
		{"/status", 200, []string{"e1.7", "5,000", "1 min 0 s", "words", "given up"}},
		{"/r/absent", 404, []string{"repository &#34;absent&#34; is not in the book", "Did you mean", `href="/r/app"`}},
		{"/r/UPPER", 400, []string{"is not a repository name"}},
		{"/r/app:", 400, []string{"is not a tag"}},
		{"/r/app@sha256:0", 400, []string{"is not a digest"}},
		{"/r/%00", 400, nil},
		{"/r/", 400, nil},
		{"/r/app%2Fsub", 404, []string{"app/sub"}},
		{"/?after=%00", 400, nil},
		{"/r/app?after=a/b", 400, nil},
		{"/nothing", 404, []string{"<h1>"}},
		{"/events", 404, nil},
		{"/static/nothing", 404, nil},
		{"/static/../server.go", 404, nil},
	} {
		resp, body := get(t, serve(t, stock, public).URL+test.path)
		if resp.StatusCode != test.code && resp.StatusCode/100 != 3 {
			t.Errorf("%s: %d, want %d", test.path, resp.StatusCode, test.code)
		}
		for _, want := range test.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s: %q is not in %s", test.path, want, body)
			}
		}
		if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") && !strings.HasPrefix(body, "<!doctype html>") && resp.StatusCode/100 != 3 {
			t.Errorf("%s: begins with %.40q", test.path, body)
		}
		checkPage(t, test.path, body)
	}
}

// A cache sends a page to all its clients. So it must not contain a host name from a
// request; otherwise one client could make others pull from its own host.
func TestPagesAreOfNoHost(t *testing.T) {
	t.Parallel()
	for _, b := range []*book{stocked("x"), {}} {
		h := web.New(web.Config{Read: b.read, WebUI: true, PublicURL: "/"})
		for _, path := range pagePaths {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = "evil.example"
			for _, field := range []string{"X-Forwarded-Host", "X-Forwarded-Server", "Forwarded", "X-Original-Host"} {
				r.Header.Set(field, "host=evil.example")
			}
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); strings.Contains(w.Body.String(), "evil.example") {
				t.Errorf("%s has the host of the request", path)
			}
		}
	}
}

func TestEmptyCatalogue(t *testing.T) {
	t.Parallel()
	_, body := get(t, serve(t, &book{}).URL+"/")
	for _, want := range []string{"docker push <var>HOST</var>/", "skopeo copy", "stands for the address of this registry"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in %s", want, body)
		}
	}
	_, body = get(t, serve(t, &book{}, func(c *web.Config) { c.PublicURL = "https://r.example" }).URL+"/")
	if !strings.Contains(body, "docker push r.example/") || strings.Contains(body, "HOST") {
		t.Errorf("the address is not shown: %s", body)
	}
}

// A page has a link to the next page only if there is one.
func TestPaging(t *testing.T) {
	t.Parallel()
	many := &book{}
	for i := range 51 {
		many.repositories = append(many.repositories, indexer.Repository{Name: fmt.Sprintf("r%02d", i)})
		many.tags = append(many.tags, indexer.Tag{Name: fmt.Sprintf("t%02d", i), Digest: dgst("a")})
		many.results.Items = append(many.results.Items, indexer.Result{Repository: many.repositories[i]})
	}
	many.results.Items, many.results.Total = many.results.Items[:50], 51
	for path, next := range map[string]string{
		"/": "/?page=2", "/?sort=name": "/?after=r49&sort=name", "/?q=r&sort=name": "/?after=r49&q=r&sort=name",
		"/r/r00": "/r/r00?after=t49",
	} {
		_, body := get(t, serve(t, many).URL+path)
		if !strings.Contains(body, `href="`+html.EscapeString(next)+`" rel="next"`) || strings.Contains(body, "r50") || strings.Contains(body, "t50") || strings.Contains(body, `rel="prev"`) {
			t.Errorf("%s: the link %s is missing, or the page has too much", path, next)
		}
		_, body = get(t, serve(t, many).URL+next)
		if !strings.Contains(body, `rel="prev"`) {
			t.Errorf("%s has no link to the previous page", next)
		}
		if strings.Contains(path, "sort=name") && many.query.After != "r49" && path != "/r/r00" {
			t.Errorf("%s asks for names after %q", next, many.query.After)
		}
	}
	if _, body := get(t, serve(t, many).URL+"/r/r00?after=t49"); !strings.Contains(body, "r00:t50") || strings.Contains(body, "r00:t49\"") || strings.Contains(body, `rel="next"`) {
		t.Error("the page after t49 does not begin with t50")
	}
	for path, want := range map[string]string{"/n/team?sort=name": "team/", "/n/team?sort=name&after=team/x": "team/x"} {
		if get(t, serve(t, many).URL+path); many.query.After != want {
			t.Errorf("%s asks for names after %q, want %q", path, many.query.After, want)
		}
	}
	few := &book{repositories: many.repositories[:50], tags: many.tags[:50], results: indexer.Results{Total: 50, Items: many.results.Items}}
	for _, path := range []string{"/", "/?sort=name", "/r/r00"} {
		if _, body := get(t, serve(t, few).URL+path); strings.Contains(body, `rel="next"`) {
			t.Errorf("%s: the page links to a next page, but there is none", path)
		}
	}
	if _, body := get(t, serve(t, &book{}).URL+"/?after=z"); strings.Contains(body, "No images yet") {
		t.Error("a page after the last says that the catalogue is empty")
	}
}

// A page after the last one says so, and links to the last one.
func TestNoSuchPage(t *testing.T) {
	t.Parallel()
	many := func(total int) *book {
		b := &book{results: indexer.Results{Total: total}}
		for i := range total {
			b.repositories = append(b.repositories, indexer.Repository{Name: fmt.Sprintf("team/r%05d", i)})
		}
		return b
	}
	for path, want := range map[string]string{
		"/?page=99":           `There is no page 99; the last page is <a href="/?page=8">8</a>.`,
		"/?q=r&page=9":        `There is no page 9; the last page is <a href="/?page=8&amp;q=r">8</a>.`,
		"/n/team?page=99":     `There is no page 99; the last page is <a href="/n/team?page=8">8</a>.`,
		"/?sort=name&after=z": `Nothing comes after z. <a href="/?sort=name">`,
	} {
		_, body := get(t, serve(t, many(353)).URL+path)
		checkPage(t, path, body)
		if !strings.Contains(body, want) || strings.Contains(body, "Nothing found") || strings.Contains(body, `rel="prev"`) && strings.Contains(want, "page") {
			t.Errorf("%s: no %q in %s", path, want, body)
		}
	}
	if _, body := get(t, serve(t, many(5000)).URL+"/?page=99"); !strings.Contains(body, `the last page is <a href="/?page=21">21</a>. To see all results, sort by name`) {
		t.Errorf("more results than pages: %s", body)
	}
	if _, body := get(t, serve(t, &book{}).URL+"/?q=x&page=99"); !strings.Contains(body, "Nothing found") || strings.Contains(body, "no page") {
		t.Errorf("without results: %s", body)
	}
	if resp, _ := get(t, serve(t, &book{}).URL+"/n/team?page=99"); resp.StatusCode != 404 {
		t.Errorf("an absent namespace: %d", resp.StatusCode)
	}
}

// Versions are sorted by number, the newest first.
func TestTagOrder(t *testing.T) {
	t.Parallel()
	want := []string{"latest", "2.0", "v1.10.1", "1.10", "1.10-rc2", "1.10-alpine", "1.9", "edge", "main", "pr-9", "pr-10", "sha256-" + strings.Repeat("0", 64) + ".sig"}
	b := &book{repositories: []indexer.Repository{{Name: "app", Tags: 12}}}
	for _, name := range slices.Sorted(slices.Values(want)) {
		b.tags = append(b.tags, indexer.Tag{Name: name, Digest: dgst("a")})
	}
	_, body := get(t, serve(t, b).URL+"/r/app")
	var got []string
	for _, m := range regexp.MustCompile(`<th scope="row"><a href="/r/app:([^"]*)"`).FindAllStringSubmatch(body, -1) {
		got = append(got, m[1])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
}

// If there are too many tags to sort, they are paged in the order of the database; a
// prefix still filters them.
func TestManyTags(t *testing.T) {
	t.Parallel()
	b := &book{repositories: []indexer.Repository{{Name: "app", Tags: 1100}}}
	for i := range 1100 {
		b.tags = append(b.tags, indexer.Tag{Name: fmt.Sprintf("t%04d", i), Digest: dgst("a"), MovedAt: day.Add(time.Duration(i))})
	}
	s := serve(t, b)
	for path, want := range map[string][]string{
		"/r/app":             {"t0000", "t0049", "/r/app?after=t0049"},
		"/r/app?after=t0049": {"t0050", "t0099", "/r/app?after=t0099"},
		"/r/app?tag=t10":     {"t1000", "t1049", "/r/app?after=t1049&amp;tag=t10"},
		"/r/app?tag=t1099":   {"t1099", "t1099", ""},
		"/r/app?tag=a/b":     {"", "", ""},
	} {
		_, body := get(t, s.URL+path)
		rows := regexp.MustCompile(`<th scope="row"><a href="/r/app:([^"]*)"`).FindAllStringSubmatch(body, -1)
		first, last := "", ""
		if len(rows) > 0 {
			first, last = rows[0][1], rows[len(rows)-1][1]
		}
		more := strings.Contains(body, `rel="next"`)
		if first != want[0] || last != want[1] || more != (want[2] != "") || more && !strings.Contains(body, `href="`+want[2]+`"`) {
			t.Errorf("%s: from %q to %q, more %v, want %q", path, first, last, more, want)
		}
		if !strings.Contains(body, "bytewise") {
			t.Errorf("%s does not say how tags are sorted", path)
		}
	}
}

// The page of a repository with too many tags to sort also shows commands, for the
// leading tag, and says to which tag the size belongs.
func TestManyTagsHaveCommands(t *testing.T) {
	t.Parallel()
	b := stocked("x")
	b.repositories = []indexer.Repository{{Name: "app", Tags: 1100, Leading: "t0777"}}
	for i := range 1100 {
		b.tags = append(b.tags, indexer.Tag{Name: fmt.Sprintf("t%04d", i), Digest: dgst("a"), MovedAt: day})
	}
	_, body := get(t, serve(t, b, func(c *web.Config) { c.PublicURL = "https://r.example" }).URL+"/r/app")
	for _, want := range []string{"docker pull r.example/app:t0777", "podman pull r.example/app@sha256:", "3.00 MiB in t0777"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in %s", want, body)
		}
	}
}

// A tag that keeps a signature is not counted with the others, and is not offered
// for comparison.
func TestTagsThatKeepSignatures(t *testing.T) {
	t.Parallel()
	b := stocked("x")
	kept := "sha256-" + strings.Repeat("0", 64) + ".sig"
	b.repositories = []indexer.Repository{{Name: "app", Tags: 3, Leading: "v1"}}
	b.results.Items[0].Repository.Tags, b.results.Items[0].TagsWith = 3, indexer.TagsWith{Of: 2, Signature: 1}
	b.tags = []indexer.Tag{{Name: kept, Digest: dgst("b")}, {Name: "v1", Digest: dgst("a"), Has: []indexer.ReferrerKind{"signature"}}, {Name: "v2", Digest: dgst("c")}}
	_, body := get(t, serve(t, b).URL+"/r/app")
	for _, want := range []string{"3 tags, 1 of them for attached artifacts", "1 of 2 tags has a signature"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in %s", want, body)
		}
	}
	if strings.Contains(body, `<option value="app:`+kept) || !strings.Contains(body, `<option value="app:v1"`) {
		t.Errorf("the tags to compare: %s", body)
	}
}

// If a reference has a digest, its tag is ignored, because the tag may have moved.
func TestReferenceWithTagAndDigest(t *testing.T) {
	t.Parallel()
	b := stocked("x")
	b.manifest.Entries, b.referrers = nil, nil // these are read after the manifest
	get(t, serve(t, b).URL+"/r/app:v1@"+dgst("a").String())
	if want := (indexer.Reference{Repository: "app", Digest: dgst("a")}); b.reference != want {
		t.Errorf("asked for %+v, want %+v", b.reference, want)
	}
}

// A config is JSON from strangers: whatever it contains, the page is shown with the
// parts that can be read.
func TestBrokenConfig(t *testing.T) {
	t.Parallel()
	for _, config := range []string{
		``, `null`, `[]`, `"x"`, `{`, `{"config":null}`, `{"config":[]}`, `{"history":{}}`, `{"history":[null,1]}`,
		`{"config":{"Env":"x","Cmd":"run this","ExposedPorts":[1]}}`,
		`{"history":[{"created":5,"created_by":["x"]}]}`,
		strings.Repeat("[", 20_000),
	} {
		b := stocked("x")
		b.manifest.ConfigBody = []byte(config)
		if resp, body := get(t, serve(t, b).URL+"/r/app:v1"); resp.StatusCode != 200 || !strings.Contains(body, "Layers") {
			t.Errorf("%.60s: %d", config, resp.StatusCode)
		}
	}
	b := stocked("x")
	b.manifest.ConfigBody = []byte(`{"config":{"Env":"x","User":"nobody","Cmd":["run",5,"it"]},"history":5}`)
	if _, body := get(t, serve(t, b).URL+"/r/app:v1"); !strings.Contains(body, "nobody") {
		t.Error("the readable part is not shown")
	}
}

// A manifest of 4 MiB must not become a page of gigabytes.
func TestHugeManifest(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"deep":  strings.Repeat("[", 9000) + strings.Repeat("[],", 50_000) + "[]" + strings.Repeat("]", 9000),
		"large": `{"a":[` + strings.Repeat(`0,`, 2<<20) + `0]}`,
	} {
		b := stocked("x")
		b.manifest.Body = []byte(body)
		if _, page := get(t, serve(t, b).URL+"/r/app:v1"); len(page) > 1<<20 {
			t.Errorf("%s: a page of %d bytes", name, len(page))
		}
	}
	b := stocked("x")
	b.manifest.Layers = make([]ocispec.Descriptor, 40_000)
	b.manifest.Labels = map[string]string{"x": strings.Repeat("x", 4<<20)}
	if _, page := get(t, serve(t, b).URL+"/r/app:v1"); len(page) > 1<<20 || !strings.Contains(page, "Only the first 1,000 entries") {
		t.Errorf("a page of %d bytes", len(page))
	}
}

// The size of a layer is shown beside a step only if it is certain that the step
// made it.
func TestHistory(t *testing.T) {
	t.Parallel()
	b := stocked("x")
	b.manifest.Layers = []ocispec.Descriptor{{Size: 1111, Digest: dgst("1")}, {Size: 2222, Digest: dgst("2")}}
	b.manifest.ConfigBody = []byte(`{"history":[{"created_by":"ADD base"},{"created_by":"ENV a=b","empty_layer":true},{"created_by":"RUN make"}]}`)
	s := serve(t, b)
	rows := func() (rows [][]string) {
		_, page := get(t, s.URL+"/r/app:v1")
		for _, m := range regexp.MustCompile(`(?s)<span class="amount">([^<]*)</span>.*?<span class="what"><code[^>]*>([^<]*)</code>`).FindAllStringSubmatch(page, -1) {
			rows = append(rows, m[1:])
		}
		return rows
	}
	if diff := cmp.Diff([][]string{{"1.08 KiB", "ADD base"}, {"", "ENV a=b"}, {"2.17 KiB", "RUN make"}}, rows()); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
	b.manifest.Layers = b.manifest.Layers[:1]
	if diff := cmp.Diff([][]string{{"1.08 KiB", ""}, {"", "ADD base"}, {"", "ENV a=b"}, {"", "RUN make"}}, rows()); diff != "" {
		t.Errorf("one layer of two steps is assigned to one of them (-want +got):\n%s", diff)
	}
}

func TestStatic(t *testing.T) {
	t.Parallel()
	s := serve(t, &book{})
	_, page := get(t, s.URL+"/")
	for _, m := range regexp.MustCompile(`href="(/static/[^"]+)"`).FindAllStringSubmatch(page, -1) {
		resp, body := get(t, s.URL+html.UnescapeString(m[1]))
		if resp.StatusCode != 200 || body == "" || resp.Header.Get("Cache-Control") != "max-age=31536000, immutable" {
			t.Errorf("%s: %d %v", m[1], resp.StatusCode, resp.Header)
		}
	}
	resp, _ := get(t, s.URL+"/static/style.css?v=old")
	if resp.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("an asset of an old page: %v", resp.Header)
	}
	resp, _ = get(t, s.URL+"/static/style.css", "If-None-Match", resp.Header.Get("ETag"))
	if resp.StatusCode != 304 {
		t.Errorf("status %d, want 304", resp.StatusCode)
	}
}

func TestNoWebUI(t *testing.T) {
	t.Parallel()
	s := serve(t, stocked("x"), func(c *web.Config) { c.WebUI = false })
	for _, path := range append(pagePaths, "/static/style.css") {
		resp, body := get(t, s.URL+path)
		if resp.StatusCode != 404 || strings.Contains(body, "<") {
			t.Errorf("%s: %d %q, want 404 in plain text", path, resp.StatusCode, body)
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	if resp, _ := do(t, http.MethodPost, serve(t, &book{}).URL+"/events", "{}"); resp.StatusCode != 404 {
		t.Errorf("on a reader: %d, want 404", resp.StatusCode)
	}
	s := serve(t, &book{}, func(c *web.Config) {
		c.Events = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	})
	if resp, _ := do(t, http.MethodPost, s.URL+"/events", "{}"); resp.StatusCode != 202 {
		t.Errorf("on a writer: %d, want 202", resp.StatusCode)
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	s := serve(t, &book{})
	for _, path := range []string{"/", "/v1/search", "/r/app", "/status"} {
		if resp, _ := do(t, http.MethodDelete, s.URL+path, ""); resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("DELETE %s: %d, Allow %q", path, resp.StatusCode, resp.Header.Get("Allow"))
		}
	}
}

// Config has one required field.
func TestZeroConfig(t *testing.T) {
	t.Parallel()
	h := web.New(web.Config{Read: (&book{}).read})
	for _, path := range []string{"/v1/_ping", "/v1/search", "/index/static"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != 200 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}
