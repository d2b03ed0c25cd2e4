package web_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/schema/schematest"
)

// An address is a route, with the parameters of its query.
type address struct {
	method, path string
	parameters   []string
}

// addresses returns all routes that New registers, with the parameters that the
// OpenAPI document and doc/api.md name, and those that any route may be given.
func addresses(t testing.TB, h http.Handler) (all []address) {
	t.Helper()
	return addressesWith(t, h, web.Config{WebUI: true})
}

// ofDeploys reports whether a path is of the API of Deploys.app, which has requests of its own
// form: see TestProjects.
func ofDeploys(path string) bool {
	return strings.HasPrefix(path, "/internal/") ||
		strings.HasPrefix(path, "/api/") && path != answer.APIPrefix && !strings.HasPrefix(path, answer.APIPrefix+"/")
}

// addressesWith is addresses for a handler of a configuration.
func addressesWith(t testing.TB, h http.Handler, c web.Config) (all []address) {
	t.Helper()
	text, err := os.ReadFile("../../doc/api.md")
	if err != nil {
		t.Fatal(err)
	}
	common := []string{"at", "min_version", "unknown"}
	s := httptest.NewServer(h)
	defer s.Close()
	d, _ := openAPI(t, s.URL)
	for path, item := range d.Paths {
		if ofDeploys(path) {
			continue
		}
		for method, o := range item {
			a := address{strings.ToUpper(method), path, common}
			for _, p := range o.Parameters {
				if p.In == "query" && !slices.Contains(a.parameters, p.Name) {
					a.parameters = append(a.parameters[:len(a.parameters):len(a.parameters)], p.Name)
				}
			}
			all = append(all, a)
		}
	}
	named := map[string][]string{} // key: the part of a path before its first variable
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(string(text), -1) {
		var names []string
		for _, p := range regexp.MustCompile(`[?&]([a-z_]+)=`).FindAllStringSubmatch(row[1], -1) {
			names = append(names, p[1])
		}
		for _, path := range regexp.MustCompile("(?:GET |POST |`)(/[a-z0-9_./]*)").FindAllStringSubmatch(row[1], -1) {
			named[path[1]] = append(named[path[1]], names...)
		}
	}
	for _, pattern := range web.Routes(c) {
		method, path, found := strings.Cut(strings.ReplaceAll(pattern, "{$}", ""), " ")
		if !found {
			method, path = "GET", pattern
		}
		_, documented := d.Paths[path]
		if ofDeploys(path) {
			continue
		}
		if _, same := d.Paths[path][strings.ToLower(method)]; same {
			continue
		}
		before, _, _ := strings.Cut(path, "{")
		a := address{method, path, append(slices.Clone(common), named[before]...)}
		if documented { // /index with a form
			a.parameters = append(a.parameters, "tag", "tag:matches", "label:a", "label:a:exists", "label:a:matches", "annotation:a", "os", "architecture", "repository")
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b address) int { return strings.Compare(a.method+a.path, b.method+b.path) })
	if len(all) < 40 {
		t.Fatalf("only %d addresses: %v", len(all), all)
	}
	return all
}

// nasty are values that once caused a 500, and similar ones.
var nasty = []string{
	"", "\x00", "\xff", "a\x00\xff", "0", "-1", "1.5", "007", "99999999999999999999", "-99999999999999999999", "9223372036854775807", "2147483648", "9007199254740993",
	"layers:99999999999", "-layers:>2147483648", "layers:<=99999999999999", "size:>9007199254740992", "size:99999999999TB", "label:a=b=c", "-label:k=*aaa*ab*", `label:"`, "created:<99999999999d", "created:>0000-01-01",
	"pushed:>9999-12-31", "pushed:<99999999999999999999y", "created:0001-01-01", "digest:sha256:0123ab", "digest:ffffff", `"a b" OR tag:v* -has:signature`, "( OR", "tag:\xff", "repo:*", "team app",
	"0000-01-01T00:00:00+23:59", "0001-01-01T00:00:00Z", "0001-01-01T00:00:01Z", "1969-12-31T23:59:59Z", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "2026-01-01T00:00:00.999999999+00:00",
	"e.1", "e.99999999999999999999", ".", "team/app", "team/app:v1", "team/app@sha256:" + strings.Repeat("a", 64), "sha512:" + strings.Repeat("a", 128), "sha256:zz", "../../etc/passwd", "é漢\u202e\ufeff", "%", "%zz", "+", "*", "?",
	strings.Repeat("a", 300), strings.Repeat("a*", 600), strings.Repeat("é", 6000), `<script>`, `\`, `'; DROP TABLE tag; --`,
	cursor("nteam/app"), cursor("o10"), cursor("o-1"), cursor("o99999999999999999999"), cursor("n\x00"), cursor("\xff"), cursor("t\x00\x00"), "linux/amd64", "name", "size", "pulls", "updated", "latest",
}

func cursor(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// fields are header fields that a request may have.
var fields = []string{"X-Request-Id", "If-None-Match", "If-Modified-Since", "Accept-Encoding", "Accept", "Range", "Host", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-For", "Authorization", "Cookie", "Content-Type", "Last-Event-ID"}

// failures collects what the program logs at level warn or above.
type failures struct {
	slog.Handler
	mu   sync.Mutex
	list []string
}

func (f *failures) Enabled(context.Context, slog.Level) bool { return true }

func (f *failures) Handle(_ context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return nil
	}
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += " " + a.String()
		return true
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = append(f.list, text)
	return nil
}

func (f *failures) WithAttrs([]slog.Attr) slog.Handler { return f }
func (f *failures) WithGroup(string) slog.Handler      { return f }

// take returns and removes what was logged since the last call.
func (f *failures) take() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.list
	f.list = nil
	return list
}

// everything returns a handler on a real database with rows in every table.
func everything(t testing.TB) (http.Handler, *failures) {
	t.Helper()
	store := postgres.New(schematest.New(t), postgres.Config{})
	of := func(repository, text string, kind indexer.Kind, mediaType string) indexer.Manifest {
		body := fmt.Appendf(nil, `{"schemaVersion":2,"is":%q}`, repository+text)
		return indexer.Manifest{
			Repository: repository, Digest: digest.FromBytes(body), Size: int64(len(body)), Body: body, Kind: kind, MediaType: mediaType,
			Labels: map[string]string{"org.flatpak.ref": "app/a.b.C/x86_64/stable", "a": "b=c"}, Annotations: map[string]string{"a": "x"},
		}
	}
	image := of("team/app", "image", indexer.KindImage, ocispec.MediaTypeImageManifest)
	image.Platform = indexer.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	image.Layers = []ocispec.Descriptor{{Digest: digest.FromString("layer"), Size: 5, MediaType: ocispec.MediaTypeImageLayerGzip}}
	image.ConfigBody = []byte(`{"os":"linux","history":[{"created_by":"COPY"}]}`)
	list := of("team/app", "list", indexer.KindIndex, ocispec.MediaTypeImageIndex)
	list.Entries = []indexer.Entry{{Digest: image.Digest, MediaType: image.MediaType, Size: image.Size, Platform: image.Platform}}
	signature := of("team/app", "signature", indexer.KindArtifact, ocispec.MediaTypeImageManifest)
	signature.ArtifactType, signature.Subject = "application/vnd.dev.cosign.simplesigning.v1+json", image.Digest
	single := of("alone", "image", indexer.KindImage, ocispec.MediaTypeImageManifest)
	for _, f := range []struct {
		tag       string
		manifests []indexer.Manifest
	}{{"v1", []indexer.Manifest{list, image, signature}}, {"latest", []indexer.Manifest{image}}, {"v1", []indexer.Manifest{image}}, {"1.0.0", []indexer.Manifest{single}}} {
		keep(t, store, f.tag, f.manifests...)
	}
	log := &failures{}
	return web.New(web.Config{
		Read: func(ctx context.Context, asker indexer.Asker, f func(answer.Book) error) error {
			return store.View(ctx, asker, func(v *postgres.View) error { return f(v) })
		},
		Log: slog.New(log), PublicURL: "/", WebUI: true, AssertEndpoint: true, Version: "v1",
		Events: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }),
	}), log
}

// keep stores manifests, the first of which is the one that the tag shows.
func keep(t testing.TB, store *postgres.Store, tag string, manifests ...indexer.Manifest) {
	t.Helper()
	repository := manifests[0].Repository
	if err := store.Ask(t.Context(), []indexer.Ask{{Repository: repository, Reference: indexer.TagOrDigest(tag)}}); err != nil {
		t.Fatal(err)
	}
	tasks, err := store.Claim(t.Context(), indexer.PriorityConfirm, 100, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if string(task.Reference) != tag || task.Repository != repository {
			continue
		}
		found := indexer.Finding{Task: task, Outcome: indexer.Found, Digest: manifests[0].Digest, Manifests: manifests}
		if err := store.Apply(t.Context(), []indexer.Finding{found}); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("there was no request for %s:%s", repository, tag)
}

// ask sends one request and fails the test if the answer is 500 or an error is
// logged.
func ask(t *testing.T, h http.Handler, log *failures, method, target, body string, header http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if strings.HasPrefix(target, "/live") { // it does not end by itself
		short, cancel := context.WithCancel(ctx)
		cancel()
		ctx = short
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return // no server receives such a target
	}
	r := httptest.NewRequestWithContext(ctx, method, "/", strings.NewReader(body))
	r.URL, r.RequestURI, r.Header = u, target, header
	if host := header.Get("Host"); host != "" {
		r.Host = host
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	failed := log.take()
	if w.Code == http.StatusInternalServerError || len(failed) > 0 && ctx.Err() == nil {
		t.Errorf("%s %.200q %.100q %v: %d %.200s\n%v", method, target, body, header, w.Code, w.Body, failed)
	}
}

// fill returns path with value for the variable one and existing names for the
// others.
func fill(path, one, value string) string {
	for name, usual := range map[string]string{"{name}": "team%2Fapp", "{tag}": "v1", "{reference}": "v1", "{digest}": "sha256:" + strings.Repeat("a", 64), "{namespace}": "team",
		"{reference...}": "team/app:v1"} {
		if name == one {
			usual = url.PathEscape(value)
		}
		path = strings.ReplaceAll(path, name, usual)
	}
	return path
}

var variables = regexp.MustCompile(`\{[a-z]+(\.\.\.)?\}`)

// No request may cause a failure of the program: each parameter, each variable of a
// path and each header field is tried with each value.
func TestNothingFails(t *testing.T) {
	t.Parallel()
	h, log := everything(t)
	for _, a := range addresses(t, h) {
		for _, value := range nasty {
			for _, p := range a.parameters {
				query := url.Values{p: {value}}.Encode()
				if a.method == "POST" {
					ask(t, h, log, a.method, fill(a.path, "", ""), query, http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
					continue
				}
				ask(t, h, log, a.method, fill(a.path, "", "")+"?"+query, "", http.Header{})
			}
			for _, v := range variables.FindAllString(a.path, -1) {
				ask(t, h, log, a.method, fill(a.path, v, value), "", http.Header{})
			}
			if a.method == "POST" {
				ask(t, h, log, a.method, fill(a.path, "", ""), value, http.Header{})
			}
		}
	}
	for _, path := range []string{"/", "/index/static", "/api/v1/search", "/r/team/app", "/v2/team/app/referrers/sha256:" + strings.Repeat("a", 64), "/static/style.css", "/api/v1/dump"} {
		for _, f := range fields {
			for _, value := range nasty {
				ask(t, h, log, "GET", path, "", http.Header{f: {value}})
			}
		}
	}
}

// FuzzRequests sends random values: n selects the address, and part selects the part
// of the request that holds the value.
func FuzzRequests(f *testing.F) {
	h, log := everything(f)
	all := addresses(f, h)
	for n, value := range nasty {
		f.Add(uint(n*31), uint(n), value, "")
	}
	f.Fuzz(func(t *testing.T, n, part uint, value, also string) {
		if strings.Contains(value+also, "min_version") {
			return // such a request may wait
		}
		a := all[n%uint(len(all))]
		parts := append(append([]string{}, a.parameters...), variables.FindAllString(a.path, -1)...)
		p := parts[part%uint(len(parts))]
		switch {
		case strings.HasPrefix(p, "{"):
			ask(t, h, log, a.method, fill(a.path, p, value)+"?"+also, also, http.Header{})
		case a.method == "POST":
			ask(t, h, log, a.method, fill(a.path, "", "")+"?"+also, url.Values{p: {value}}.Encode(), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
		default:
			ask(t, h, log, a.method, fill(a.path, "", "")+"?"+url.Values{p: {value}}.Encode()+"&"+also, "", http.Header{fields[part%uint(len(fields))]: {also}})
		}
	})
}

// readNothing are the routes that show nothing of the book, so they need no "at".
var readNothing = []string{"/v1/_ping", "/api/v1/health", "/api/v1/config", "/api/v1/openapi.json", "/api/v1", "/api/v1/", "/opensearch.xml", "/settings", "/repositories",
	"/static/{name}", "/events", "/assert", "/health", "/readiness", "/version"}

// Each route supports "at" or refuses it, because an answer about now could be taken
// for one about that time. The API's table defines which routes support it.
func TestAtIsIgnoredNowhere(t *testing.T) {
	t.Parallel()
	h, _ := everything(t)
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	d, _ := openAPI(t, s.URL)
	answered, refused := 0, 0
	for _, a := range addresses(t, h) {
		if slices.Contains(readNothing, a.path) {
			continue
		}
		takes := a.path == "/{$}" || a.path == "/" || strings.HasPrefix(a.path, "/r/") || slices.ContainsFunc(d.Paths[a.path]["get"].Parameters, func(p struct{ Name, In string }) bool { return p.Name == "at" })
		at := "2026-01-02T03:04:05Z"
		if takes { // of the history
			at = time.Now().UTC().Format(time.RFC3339Nano)
		}
		target, body, header := s.URL+fill(a.path, "", "")+"?at="+at, "", []string(nil)
		if a.method == "POST" {
			target, body, header = s.URL+a.path, "at=2026-01-02T03:04:05Z", []string{"Content-Type", "application/x-www-form-urlencoded"}
		}
		resp, text := do(t, a.method, target, body, header...)
		switch {
		case takes && resp.StatusCode == http.StatusOK:
			answered++
		case !takes && resp.StatusCode == http.StatusBadRequest && strings.Contains(text, "at"):
			refused++
		default:
			t.Errorf("%s %s supports at: %v, but answers %d %.200s", a.method, a.path, takes, resp.StatusCode, text)
		}
	}
	if answered < 5 || refused < 20 {
		t.Errorf("%d addresses answered and %d refused: some are missing", answered, refused)
	}
}
