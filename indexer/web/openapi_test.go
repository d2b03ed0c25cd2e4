package web_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/deliver"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/login"
)

// A document has the fields of an OpenAPI document that the tests read.
type document struct {
	Paths map[string]map[string]operation // by path and by method in lower case
}

// An operation is one of a document.
type operation struct {
	OperationID string
	Parameters  []struct{ Name, In string }
	RequestBody struct {
		Content map[string]struct{ Schema any }
	}
	Responses map[string]struct {
		Content map[string]struct{ Schema any }
	}
}

// openAPI returns the document that a server serves, and a compiler of its schemas.
func openAPI(t testing.TB, url string) (document, *jsonschema.Compiler) {
	t.Helper()
	resp, body := get(t, url+"/api/v1/openapi.json")
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", resp.StatusCode, body)
	}
	var d document
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("openapi.json", decoded(t, body)); err != nil {
		t.Fatal(err)
	}
	return d, c
}

// withAccounts configures logins with accounts, which nobody can use.
func withAccounts(c *web.Config) {
	c.Login = login.New(login.Config{Accounts: &access.Accounts{}, Signer: &access.Signer{}})
	c.Webhooks = deliver.NewWebhooks(nil, nil)
}

func decoded(t testing.TB, body string) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		t.Fatalf("%v: %.200s", err, body)
	}
	return v
}

// schemaAt compiles the schema of an answer.
func schemaAt(t testing.TB, c *jsonschema.Compiler, path, code, media string) *jsonschema.Schema {
	t.Helper()
	return schemaOf(t, c, "get", path, code, media)
}

// schemaOf is schemaAt for any method, in lower case.
func schemaOf(t testing.TB, c *jsonschema.Compiler, method, path, code, media string) *jsonschema.Schema {
	t.Helper()
	escape := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D")
	s, err := c.Compile("openapi.json#/paths/" + escape.Replace(path) + "/" + method + "/responses/" + code + "/content/" + escape.Replace(media) + "/schema")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// stockedBook returns a book with a value in every field.
func stockedBook() *book {
	platform := indexer.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	size, words := int64(1<<53-1), map[string]string{"team": "edge"}
	config := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: dgst("c"), Size: 3}
	layers := []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: dgst("d"), Size: 4, Annotations: words}, {Digest: dgst("e")}}
	image := indexer.Manifest{
		Repository: "team/app", Digest: dgst("a"), MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "application/x", Kind: indexer.KindImage,
		Platform: platform, Size: 2, ContentSize: size, CreatedAt: day, SeenAt: day, Labels: words, Annotations: words, Subject: dgst("f"),
		Config: &config, Layers: layers, Problems: []string{"strange"}, Body: []byte(`{"schemaVersion":2}`),
		ConfigBody: []byte(`{"history":[{"created_by":"COPY"},{"created_by":"RUN"}]}`),
		Entries:    []indexer.Entry{{Digest: dgst("b"), MediaType: "m", Size: 5, Platform: platform, Annotations: words, Present: true}},
	}
	found := indexer.Repository{Name: "team/app", Title: "App", Description: "An app", Tags: 2, Manifests: 3, UpdatedAt: day}
	shown := indexer.Tag{Name: "v1", Digest: dgst("a"), MediaType: "m", Kind: indexer.KindImage, Platforms: []indexer.Platform{platform}, Size: size, CreatedAt: day, MovedAt: day, Problem: "p"}
	return &book{
		scannedAt:    day,
		repositories: []indexer.Repository{found},
		results: indexer.Results{Total: 10_000, Items: []indexer.Result{{Repository: found, Stars: 1, Official: true, Size: size, Pulls: size,
			Facts: []indexer.Fact{"licence:MIT", "platform:linux/arm/v7"}}}},
		tags: []indexer.Tag{shown}, allTags: []indexer.TagOf{{Repository: "team/app", Tag: shown}}, tagsOf: []string{"v1"},
		manifests: []indexer.Manifest{image},
		referrers: []indexer.Referrer{{Subject: dgst("a"), Digest: dgst("1"), MediaType: "m", ArtifactType: "application/spdx+json", Size: 6, Annotations: words},
			{Subject: dgst("a"), Digest: dgst("2"), MediaType: "m", Tag: "sha256-" + strings.Repeat("a", 64) + ".sig"}},
		facets:      indexer.Facets{Counted: 1, All: true, Facets: []indexer.Facet{{Name: "os", Values: []indexer.FacetValue{{Value: "linux", Count: 1}}}}},
		suggestions: []indexer.Suggestion{{Text: "team/app", Name: "team/app"}, {Text: "os:linux"}},
		moves: []indexer.Move{{ID: 2, Repository: "team/app", Tag: "v1", From: dgst("b"), To: dgst("a"), SeenAt: day, SeenBy: "event"},
			{ID: 1, Repository: "team/app", Tag: "v1", To: dgst("b"), SeenAt: day.Add(-time.Hour), SeenBy: "scan"}},
		uses:   []indexer.Use{{Repository: "team/app", Digest: dgst("a"), As: "manifest", Tags: []string{"v1"}}},
		status: indexer.Status{TasksDue: 1, GivenUp: 2},
		usage: indexer.Usage{
			Counting: indexer.Counting{Since: day, Until: day, HeardAt: day, StaleSince: day}, Counts: indexer.Counts{Pulls: size, ScannerPulls: 2, Pushes: 3},
			PulledAt: day, Days: []indexer.UsageDay{{Day: day, Counts: indexer.Counts{Pulls: 1}, By: map[indexer.ClientKind]int64{indexer.ByToken: 1}}, {Day: day}},
		},
		pulls: indexer.LastPulls{
			Tags: map[string]indexer.LastPull{"v1": {Pulls: 3, At: day}}, Digests: map[digest.Digest]indexer.LastPull{dgst("a"): {Pulls: 4, At: day.Add(time.Hour)}},
		},
		images: []indexer.RepositoryImages{{Name: "team/app", Images: []indexer.Image{{Digest: dgst("a"), Tags: []string{"v1"}}}}},
	}
}

// bareBook returns a book with only the required values.
func bareBook() *book {
	return &book{
		repositories: []indexer.Repository{{Name: "team/app"}},
		results:      indexer.Results{Total: 1, Items: []indexer.Result{{}}},
		tags:         []indexer.Tag{{Name: "v1"}}, allTags: []indexer.TagOf{{Repository: "team/app", Tag: indexer.Tag{Name: "v1", Digest: dgst("a")}}},
		manifests: []indexer.Manifest{{Repository: "team/app", Digest: dgst("a")}},
		referrers: []indexer.Referrer{{Digest: dgst("1")}},
		facets:    indexer.Facets{Facets: []indexer.Facet{{}}},
		moves:     []indexer.Move{{ID: 1, SeenAt: day}},
		uses:      []indexer.Use{{}},
	}
}

// addressOf returns an address for a documented path.
func addressOf(path string) string {
	return strings.NewReplacer("{name}", "team/app", "{namespace}", "team", "{tag}", "v1", "{reference}", "v1", "{digest}", dgst("a").String()).Replace(path)
}

// The document must be valid by the schema of OpenAPI 3.1. Every answer must be
// valid by the document: with all values, with only the required ones, and empty.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	official, err := os.ReadFile("testdata/openapi-3.1-schema.json")
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("openapi-3.1", decoded(t, string(official))); err != nil {
		t.Fatal(err)
	}
	meta, err := c.Compile("openapi-3.1")
	if err != nil {
		t.Fatal(err)
	}
	for what, s := range map[string]*httptest.Server{"without logins": serve(t, stockedBook()), "with accounts": serve(t, &book{}, withAccounts)} {
		_, body := get(t, s.URL+"/api/v1/openapi.json")
		if err := meta.Validate(decoded(t, body)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if strings.Contains(body, "/api/v1/users") != (what == "with accounts") {
			t.Errorf("%s: the document does not describe what is served", what)
		}
	}

	for what, b := range map[string]*book{"stocked": stockedBook(), "bare": bareBook(), "empty": {}} {
		s := serve(t, b)
		d, c := openAPI(t, s.URL)
		for path, item := range d.Paths {
			if ofDeploys(path) {
				continue
			}
			checkAnswer(t, what, s.URL, path, c, item["get"].Responses["200"].Content)
		}
	}
}

func checkAnswer(t *testing.T, what, url, path string, c *jsonschema.Compiler, content map[string]struct{ Schema any }) {
	t.Helper()
	resp, body := get(t, url+addressOf(path))
	if resp.StatusCode == http.StatusNotFound && what == "empty" {
		checkSchema(t, what+" "+path, schemaAt(t, c, path, "default", "application/problem+json"), body)
		return
	}
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s: %d %s", what, path, resp.StatusCode, body)
		return
	}
	for media, m := range content {
		got := resp.Header.Get("Content-Type")
		if prefix, any := strings.CutSuffix(media, "*"); got != media && !(any && strings.HasPrefix(got, prefix)) {
			t.Errorf("%s: %s is %s, and documented as %s", what, path, got, media)
		}
		if m.Schema == nil {
			continue
		}
		schema := schemaAt(t, c, path, "200", media)
		bodies := []string{body}
		if media == "application/x-ndjson" {
			bodies = strings.Split(strings.TrimSpace(body), "\n")
		}
		for _, body := range bodies {
			checkSchema(t, what+" "+path, schema, body)
		}
	}
}

func checkSchema(t *testing.T, what string, s *jsonschema.Schema, body string) {
	t.Helper()
	if err := s.Validate(decoded(t, body)); err != nil {
		t.Errorf("%s: %v\n%s", what, err, body)
	}
}

// Nobody can rely on an undocumented route: every route of New is in the document,
// or is a page or for the registry alone; and each route of the document is in
// doc/api.md.
func TestRoutesAreDocumented(t *testing.T) {
	t.Parallel()
	d, _ := openAPI(t, serve(t, &book{}, withAccounts).URL)
	others := []string{"/", "/{$}", "/api/v1", "/api/v1/", "/api/v1/{$}", "/api/v1/openapi.json", "/n/{namespace}", "/r/{reference...}", "/compare", "/opensearch.xml", "/status", "/settings", "/repositories", "/activity", "/activity.atom", "/storage", "/live", "/static/{name}", "/events", "/assert", "/health", "/readiness", "/version", "/auth/token", "/v2/_catalog"}
	c := web.Config{WebUI: true}
	withAccounts(&c)
	for _, pattern := range web.Routes(c) {
		method, path, found := strings.Cut(pattern, " ")
		if !found {
			method, path = "GET", pattern
		}
		if _, found := d.Paths[path][strings.ToLower(method)]; !found && !slices.Contains(others, path) && !strings.HasPrefix(path, "/index/") && !strings.HasPrefix(path, "/account") && !strings.HasPrefix(path, "/manage/") {
			t.Errorf("the route %s %s is not in the OpenAPI document", method, path)
		}
	}
	text, err := os.ReadFile("../../doc/api.md")
	if err != nil {
		t.Fatal(err)
	}
	upper := regexp.MustCompile(`\{([a-z]+)\}`)
	for path, item := range d.Paths {
		shown := upper.ReplaceAllStringFunc(path, func(s string) string { return strings.ToUpper(strings.Trim(s, "{}")) })
		if !strings.Contains(string(text), shown+"`") && !strings.Contains(string(text), shown+"?") {
			t.Errorf("%s is not in doc/api.md", shown)
		}
		for method := range item {
			with := strings.ToUpper(method) + " " + shown
			if method != "get" && !strings.Contains(string(text), "`"+with+"`") && !strings.Contains(string(text), "`"+with+"?") {
				t.Errorf("%s is not in doc/api.md", with)
			}
		}
	}
	for _, m := range regexp.MustCompile("`(GET|POST|PUT|PATCH|DELETE) (/api/v1/[^`?]*)").FindAllStringSubmatch(string(text), -1) {
		path := regexp.MustCompile(`[A-Z]+`).ReplaceAllStringFunc(m[2], func(s string) string { return "{" + strings.ToLower(s) + "}" })
		if _, found := d.Paths[path][strings.ToLower(m[1])]; !found && !slices.Contains(others, path) {
			t.Errorf("doc/api.md has %s %s, but the OpenAPI document does not", m[1], m[2])
		}
	}
}

// A path accepts the parameters and the methods that the document names, and no others.
func TestParametersAreDocumented(t *testing.T) {
	t.Parallel()
	t.Run("without logins", func(t *testing.T) {
		t.Parallel()
		checkParameters(t, serve(t, stockedBook()).URL, addressOf)
	})
	t.Run("with accounts", func(t *testing.T) {
		t.Parallel()
		m, _ := planned(t, func(c *web.Config) { c.Read = stockedBook().read })
		m.webhook(t, "team/*") // the first, with a delivery
		for path, body := range map[string]string{
			"/api/v1/retention": `{"pattern":"*","action":"delete","tag":"pr-*"}`, "/api/v1/plans": `{"scope":"*"}`,
		} {
			if resp, text := m.send(t, "root", "POST", path, body); resp.StatusCode >= 300 {
				t.Fatalf("%s: %d %s", path, resp.StatusCode, text)
			}
		}
		checkParameters(t, m.URL, m.address, "Authorization", "Bearer "+m.tokens["root"])
	})
}

func checkParameters(t *testing.T, url string, addressOf func(string) string, header ...string) {
	t.Helper()
	d, _ := openAPI(t, url)
	for path, item := range d.Paths {
		if !strings.HasPrefix(path, "/api/v1/") {
			continue
		}
		target := url + addressOf(path)
		for method, o := range item {
			method = strings.ToUpper(method)
			for _, p := range o.Parameters {
				if p.In != "query" {
					continue
				}
				if resp, body := do(t, method, target+"?"+p.Name+"=", "", header...); method == "GET" && resp.StatusCode != 200 {
					t.Errorf("%s?%s=: %d %s", path, p.Name, resp.StatusCode, body)
				}
				if resp, _ := do(t, method, target+"?"+p.Name+"=&"+p.Name+"=", "", header...); resp.StatusCode != 400 {
					t.Errorf("%s %s with %s given twice: %d, want 400", method, path, p.Name, resp.StatusCode)
				}
			}
			resp, body := do(t, method, target+"?limt=1", "", header...)
			if resp.StatusCode != 400 || !strings.Contains(body, "limt") {
				t.Errorf("%s %s?limt=1: %d %s, want 400", method, path, resp.StatusCode, body)
			}
		}
		checkMethods(t, target, item)
	}
}

// checkMethods checks that an address refuses the methods that are not documented, and names
// those that are.
func checkMethods(t *testing.T, target string, item map[string]operation) {
	t.Helper()
	var allowed []string
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		if _, found := item[strings.ToLower(method)]; found {
			if allowed = append(allowed, method); method == "GET" {
				allowed = append(allowed, "HEAD")
			}
		}
	}
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		if slices.Contains(allowed, method) {
			continue
		}
		resp, body := do(t, method, target, "")
		if resp.StatusCode != 405 || resp.Header.Get("Allow") != strings.Join(allowed, ", ") || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %d %s %v, want 405 and Allow %q", method, target, resp.StatusCode, body, resp.Header, allowed)
		}
	}
}

// The page must show every operation, and the first page must link to it.
func TestAPIPage(t *testing.T) {
	t.Parallel()
	s := serve(t, &book{}, withAccounts, func(c *web.Config) { c.MaxAgeHTML = time.Minute })
	d, _ := openAPI(t, s.URL)
	if resp, _ := get(t, s.URL+"/api/v1"); resp.Header.Get("Location") != "/api/v1/" {
		t.Errorf("/api/v1 redirects to %q: %d", resp.Header.Get("Location"), resp.StatusCode)
	}
	resp, body := get(t, s.URL+"/api/v1/")
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") || strings.Count(body, "<script") != 1 {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	for path, item := range d.Paths {
		for method, o := range item {
			if !strings.Contains(body, `id="`+method+"-"+o.OperationID+`"`) || !strings.Contains(body, strings.ToUpper(method)+" "+path) {
				t.Errorf("%s %s is not on the page", method, path)
			}
		}
	}
	for _, ref := range regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(body, -1) {
		if !strings.Contains(body, `id="`+ref[1]+`"`) {
			t.Errorf("#%s leads nowhere", ref[1])
		}
	}
	if again, _ := get(t, s.URL+"/api/v1/", "If-None-Match", resp.Header.Get("ETag")); again.StatusCode != 304 || resp.Header.Get("Cache-Control") != "max-age=60" {
		t.Errorf("again: %d, Cache-Control %q", again.StatusCode, resp.Header.Get("Cache-Control"))
	}
	if _, page := get(t, s.URL+"/"); !strings.Contains(page, `href="/api/v1/"`) {
		t.Errorf("the first page has no link to the API page")
	}
}
