package web_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/answer"
)

// A book has fixed results, and records the calls to it.
type book struct {
	version      indexer.Version
	results      indexer.Results
	repositories []indexer.Repository
	tags         []indexer.Tag
	packages     map[string]string // files of the index, by name
	manifest     *indexer.Manifest
	tagsOf       []string
	referrers    []indexer.Referrer
	images       []indexer.RepositoryImages
	status       indexer.Status
	overview     indexer.Overview
	copied       indexer.SearchCopy
	jobs         indexer.JobReport
	scannedAt    time.Time
	facets       indexer.Facets
	suggestions  []indexer.Suggestion
	correct      string
	moves        []indexer.Move // latest first
	uses         []indexer.Use
	manifests    []indexer.Manifest // of all repositories; also found by their tags and digests
	allTags      []indexer.TagOf
	storage      indexer.Storage
	holding      indexer.Holding

	notices       indexer.Notices
	usage         indexer.Usage
	pulls         indexer.LastPulls
	past          indexer.PastResults
	historyBegins time.Time
	namespaces    []indexer.NamespaceStorage
	finds         func(query.Query) indexer.Results // nil: results
	versions      []string                          // of every repository
	stored        []indexer.RepositoryStorage       // by name
	look          indexer.StorageLook
	err           error // returned by every method except Version

	mu         sync.Mutex
	questions  int
	calls      []string // each method that was called, with its arguments
	query      query.Query
	stores     []indexer.StorageQuery
	imageQuery query.Images
	reference  indexer.Reference
	after      string
	at         time.Time
}

func (b *book) read(_ context.Context, asker indexer.Asker, f func(answer.Book) error) error {
	if asker != indexer.Everyone {
		return fmt.Errorf("read for %q: only everyone asks here", asker)
	}
	return f(b)
}

// Asker returns Everyone: every asker sees the whole book.
func (b *book) Asker() indexer.Asker { return indexer.Everyone }

// asked records a call.
func (b *book) asked(method string, arguments ...any) error {
	b.questions++
	text, err := json.Marshal(arguments)
	b.calls = append(b.calls, method+string(text))
	return errors.Join(b.err, err)
}

func (b *book) Version(context.Context) (indexer.Version, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.version == (indexer.Version{}) {
		return indexer.Version{Epoch: "e1", Number: 7}, nil
	}
	return b.version, nil
}

func (b *book) Search(_ context.Context, q query.Query) (indexer.Results, error) {
	b.query = q
	if b.finds != nil {
		return b.finds(q), b.asked("Search", q)
	}
	return b.results, b.asked("Search", q)
}

func (b *book) Repositories(_ context.Context, after string, limit int) ([]indexer.Repository, error) {
	b.after = after
	var list []indexer.Repository
	for _, r := range b.repositories {
		if (after == "" || r.Name > after) && len(list) < limit {
			list = append(list, r)
		}
	}
	return list, b.asked("Repositories", after, limit)
}

func (b *book) Repository(_ context.Context, name string) (indexer.Repository, error) {
	err := b.asked("Repository", name)
	for _, r := range b.repositories {
		if r.Name == name {
			return r, err
		}
	}
	return indexer.Repository{}, fmt.Errorf("repository %q: %w", name, indexer.ErrNotFound)
}

func (b *book) Tags(_ context.Context, repository, after string, limit int) ([]indexer.Tag, error) {
	b.after = after
	var list []indexer.Tag
	for _, t := range b.tags {
		if t.Name > after && len(list) < limit {
			list = append(list, t)
		}
	}
	return list, b.asked("Tags", repository, after, limit)
}

func (b *book) Manifest(_ context.Context, ref indexer.Reference) (indexer.Manifest, error) {
	b.reference = ref
	err := b.asked("Manifest", ref)
	for _, m := range b.manifests {
		if m.Repository == ref.Repository && (m.Digest == ref.Digest || ref.Digest == "" && b.shows(ref) == m.Digest) {
			return m, err
		}
	}
	if b.manifest == nil {
		return indexer.Manifest{}, fmt.Errorf("manifest %q: %w", ref, indexer.ErrNotFound)
	}
	return *b.manifest, err
}

func (b *book) TagsOf(_ context.Context, repository string, d digest.Digest) ([]string, error) {
	return b.tagsOf, b.asked("TagsOf", repository, d)
}

func (b *book) Referrers(_ context.Context, q indexer.ReferrerQuery) (page indexer.ReferrerPage, err error) {
	for _, f := range b.referrers {
		switch {
		case f.Digest < q.After || f.Digest == q.After && f.Tag <= q.AfterTag:
		case q.OCI && strings.Contains(f.Tag, "."), len(q.Types) > 0 && !slices.Contains(q.Types, f.ArtifactType):
		case len(page.Items) == q.Limit:
			page.More = true
		default:
			page.Items = append(page.Items, f)
		}
	}
	return page, b.asked("Referrers", q)
}

func (b *book) Images(_ context.Context, q query.Images) ([]indexer.RepositoryImages, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.imageQuery = q
	return b.images, b.asked("Images", q)
}

func (b *book) Overview(context.Context) (indexer.Overview, error) {
	return b.overview, b.asked("Overview")
}

func (b *book) Copy(context.Context) (indexer.SearchCopy, error) { return b.copied, b.asked("Copy") }
func (b *book) Jobs(context.Context) (indexer.JobReport, error)  { return b.jobs, b.asked("Jobs") }

func (b *book) PackageFiles(_ context.Context, _ string, names []string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, name := range names {
		if text, ok := b.packages[name]; ok {
			files[name] = []byte(text)
		}
	}
	return files, b.asked("PackageFiles", names)
}

func (b *book) Versions(_ context.Context, repositories []string) (map[string][]string, error) {
	versions := map[string][]string{}
	for _, r := range repositories {
		versions[r] = b.versions
	}
	return versions, b.asked("Versions", repositories)
}

func (b *book) Status(context.Context) (indexer.Status, error) { return b.status, b.asked("Status") }

// shows returns the digest of a tag of allTags.
func (b *book) shows(ref indexer.Reference) digest.Digest {
	for _, t := range b.allTags {
		if t.Repository == ref.Repository && t.Name == ref.Tag {
			return t.Digest
		}
	}
	return "none"
}

func (b *book) Freshness(ctx context.Context) (indexer.Freshness, error) {
	v, err := b.Version(ctx)
	return indexer.Freshness{Version: v, ScannedAt: b.scannedAt}, err
}

func (b *book) Facets(_ context.Context, q query.Query) (indexer.Facets, error) {
	if b.query.Text != q.Text { // otherwise Search has stored it, with its page
		b.query = q
	}
	return b.facets, b.asked("Facets", q)
}

func (b *book) Suggest(_ context.Context, text string, limit int) ([]indexer.Suggestion, error) {
	b.query.Text = text
	return b.suggestions[:min(limit, len(b.suggestions))], b.asked("Suggest", text, limit)
}

func (b *book) Correct(_ context.Context, q query.Query) (string, error) {
	return b.correct, b.asked("Correct", q)
}

func (b *book) Near(_ context.Context, q query.Query) (string, error) {
	return b.correct, b.asked("Near", q)
}

func (b *book) Names(ctx context.Context, after string, limit int) ([]string, error) {
	var names []string
	list, err := b.Repositories(ctx, after, limit)
	for _, r := range list {
		names = append(names, r.Name)
	}
	return names, err
}

func (b *book) CountRepositories(context.Context) (int, error) {
	return len(b.repositories), b.asked("CountRepositories")
}

func (b *book) History(_ context.Context, repository, tag string, before int64, limit int) ([]indexer.Move, error) {
	var list []indexer.Move
	for _, m := range b.moves {
		if (repository == "" || m.Repository == repository) && (tag == "" || m.Tag == tag) && (before == 0 || m.ID < before) && len(list) < limit {
			list = append(list, m)
		}
	}
	return list, b.asked("History", repository, tag, before, limit)
}

func (b *book) Descriptors(
	_ context.Context, repository string, digests []digest.Digest,
) (map[digest.Digest]ocispec.Descriptor, error) {
	known := map[digest.Digest]ocispec.Descriptor{}
	for _, t := range b.tags {
		if slices.Contains(digests, t.Digest) {
			known[t.Digest] = ocispec.Descriptor{MediaType: t.MediaType, Digest: t.Digest, Size: 7}
		}
	}
	return known, b.asked("Descriptors", repository, digests)
}

func (b *book) HistoryAt(_ context.Context, at time.Time) (int64, error) {
	var first int64
	for _, m := range b.moves {
		if m.SeenAt.After(at) {
			first = m.ID
		}
	}
	return first, b.asked("HistoryAt", at)
}

func (b *book) RepositoriesAt(_ context.Context, at time.Time, after string, limit int) ([]string, error) {
	b.at, b.after = at, after
	var names []string
	for _, r := range b.repositories[:min(limit, len(b.repositories))] {
		names = append(names, r.Name)
	}
	return names, b.asked("RepositoriesAt", at, after, limit)
}

func (b *book) TagsAt(_ context.Context, repository string, at time.Time, d digest.Digest, after string, limit int) ([]indexer.Tag, error) {
	b.at, b.after = at, after
	list := slices.DeleteFunc(slices.Clone(b.tags), func(t indexer.Tag) bool { return t.Name <= after })
	return list[:min(limit, len(list))], b.asked("TagsAt", repository, at, d, after, limit)
}

// HistoryBegins is long ago, unless historyBegins is set.
func (b *book) HistoryBegins(context.Context) (time.Time, error) {
	return cmp.Or(b.historyBegins, time.Unix(1, 0)), b.asked("HistoryBegins")
}

func (b *book) SearchAt(_ context.Context, q query.Query, at time.Time) (indexer.PastResults, error) {
	b.query, b.at = q, at
	return b.past, b.asked("SearchAt", q, at)
}

func (b *book) RepositoryAt(_ context.Context, name string, at time.Time) (indexer.PastRepository, error) {
	b.at = at
	err := b.asked("RepositoryAt", name, at)
	if err == nil && len(b.past.Items) == 0 {
		return indexer.PastRepository{}, fmt.Errorf("repository %q: %w", name, indexer.ErrNotFound)
	}
	return append(b.past.Items, indexer.PastRepository{})[0], err
}

func (b *book) Uses(
	_ context.Context, d digest.Digest, afterRepository string, afterDigest digest.Digest, limit int,
) ([]indexer.Use, error) {
	b.after = afterRepository
	return b.uses[:min(limit, len(b.uses))], b.asked("Uses", d, afterRepository, afterDigest, limit)
}

func (b *book) Notices(_ context.Context, repository string) (indexer.Notices, error) {
	return b.notices, b.asked("Notices", repository)
}

func (b *book) Storage(context.Context) (indexer.Storage, error) {
	return b.storage, b.asked("Storage")
}

func (b *book) Usage(_ context.Context, q indexer.UsageQuery) (indexer.Usage, error) {
	return b.usage, b.asked("Usage", q)
}

func (b *book) LastPulls(
	_ context.Context, repository string, tags []string, digests []digest.Digest,
) (indexer.LastPulls, error) {
	return b.pulls, b.asked("LastPulls", repository, tags, digests)
}

func (b *book) NamespaceStorage(_ context.Context, name *string, limit int) ([]indexer.NamespaceStorage, error) {
	var list []indexer.NamespaceStorage
	for _, n := range b.namespaces {
		if (name == nil || n.Namespace == *name) && len(list) < limit {
			list = append(list, n)
		}
	}
	return list, b.asked("NamespaceStorage", name, limit)
}

func (b *book) StorageLook(context.Context) (indexer.StorageLook, error) {
	return b.look, b.asked("StorageLook", nil)
}

func (b *book) RepositoryStorage(_ context.Context, q indexer.StorageQuery) ([]indexer.RepositoryStorage, error) {
	b.stores = append(b.stores, q)
	var list []indexer.RepositoryStorage
	for _, r := range b.stored[min(q.Offset, len(b.stored)):] {
		if r.Name > q.After && len(list) < q.Limit {
			list = append(list, r)
		}
	}
	return list, b.asked("RepositoryStorage", q)
}

func (b *book) Holding(_ context.Context, of indexer.HoldingOf) (indexer.Holding, error) {
	h := b.holding
	if of.Namespace != nil || of.Reference.Tag == "" && of.Reference.Digest == "" {
		h.Manifest = nil
	} else if h.Manifest == nil {
		h.Manifest = &indexer.ManifestHolding{Digest: dgst("a")}
	}
	return h, b.asked("Holding", of)
}

func (b *book) Project(_ context.Context, project string, limit int) ([]indexer.HeldRepository, error) {
	var list []indexer.HeldRepository
	for _, r := range b.repositories {
		if strings.HasPrefix(r.Name, project+"/") && len(list) < limit {
			list = append(list, indexer.HeldRepository{Name: r.Name, CreatedAt: day})
		}
	}
	return list, b.asked("Project", project, limit)
}

func (b *book) Held(ctx context.Context, repository string) (indexer.HeldRepository, error) {
	r, err := b.Repository(ctx, repository)
	return indexer.HeldRepository{Name: r.Name, CreatedAt: day, Size: 1}, err
}

func (b *book) HeldTags(ctx context.Context, repository string, _ int) (list []indexer.HeldTag, err error) {
	for _, t := range b.tags {
		list = append(list, indexer.HeldTag{Tag: t.Name, Digest: t.Digest, CreatedAt: day})
	}
	_, err = b.Repository(ctx, repository)
	return list, err
}

func (b *book) HeldManifests(ctx context.Context, repository string, _ int) (list []indexer.HeldManifest, err error) {
	for _, m := range b.manifests {
		list = append(list, indexer.HeldManifest{Digest: m.Digest, CreatedAt: day})
	}
	_, err = b.Repository(ctx, repository)
	return list, err
}

func (b *book) ProjectStorage(_ context.Context, project string) (indexer.ProjectStorage, error) {
	return indexer.ProjectStorage{Size: 1, UpdatedAt: day}, b.asked("ProjectStorage", project)
}

func (b *book) AllManifests(_ context.Context, repository string, d digest.Digest, limit int) ([]indexer.Manifest, error) {
	var list []indexer.Manifest
	for _, m := range b.manifests {
		if (m.Repository > repository || m.Repository == repository && m.Digest > d) && len(list) < limit {
			list = append(list, m)
		}
	}
	return list, b.asked("AllManifests", repository, d, limit)
}

func (b *book) AllTags(_ context.Context, repository, tag string, limit int) ([]indexer.TagOf, error) {
	var list []indexer.TagOf
	for _, t := range b.allTags {
		if (t.Repository > repository || t.Repository == repository && t.Name > tag) && len(list) < limit {
			list = append(list, t)
		}
	}
	return list, b.asked("AllTags", repository, tag, limit)
}

// serve returns a server with all routes that reads from b.
func serve(t testing.TB, b *book, change ...func(*web.Config)) *httptest.Server {
	t.Helper()
	c := web.Config{Read: b.read, PublicURL: "/", WebUI: true, AssertEndpoint: true, Version: "v1"}
	for _, f := range change {
		f(&c)
	}
	s := httptest.NewServer(web.New(c))
	t.Cleanup(s.Close)
	return s
}

// client follows no redirects and does not request compression by itself.
var client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       20 * time.Second,
}

// do sends a request. header is a list of key, value, key, value, ...
func do(t testing.TB, method, url, body string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func get(t testing.TB, url string, header ...string) (*http.Response, string) {
	t.Helper()
	return do(t, http.MethodGet, url, "", header...)
}

func dgst(hexDigit string) digest.Digest {
	return digest.Digest("sha256:" + strings.Repeat(hexDigit, 64))
}

var day = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func (b *book) ImagesState(_ context.Context, q query.Images) (string, error) {
	return fmt.Sprintf("%+v", b.images), b.asked("ImagesState", q)
}
