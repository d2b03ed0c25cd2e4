package web_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web"
)

// A book holds fixed answers, and remembers what it was asked.
type book struct {
	version      indexer.Version
	results      indexer.Results
	repositories []indexer.Repository
	tags         []indexer.Tag
	manifest     *indexer.Manifest
	tagsOf       []string
	referrers    []indexer.Referrer
	images       []indexer.RepositoryImages
	status       indexer.Status
	err          error // of every question but that for the version

	mu         sync.Mutex
	questions  int
	query      indexer.Query
	imageQuery indexer.ImageQuery
	reference  indexer.Reference
	after      string
}

func (b *book) read(_ context.Context, f func(web.Book) error) error { return f(b) }

func (b *book) asked() error {
	b.questions++
	return b.err
}

func (b *book) Version(context.Context) (indexer.Version, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.version == (indexer.Version{}) {
		return indexer.Version{Epoch: "e1", Number: 7}, nil
	}
	return b.version, nil
}

func (b *book) Search(_ context.Context, q indexer.Query) (indexer.Results, error) {
	b.query = q
	return b.results, b.asked()
}

func (b *book) Repositories(_ context.Context, after string, limit int) ([]indexer.Repository, error) {
	b.after = after
	return b.repositories[:min(limit, len(b.repositories))], b.asked()
}

func (b *book) Repository(_ context.Context, name string) (indexer.Repository, error) {
	for _, r := range b.repositories {
		if r.Name == name {
			return r, b.asked()
		}
	}
	return indexer.Repository{}, fmt.Errorf("repository %q: %w", name, indexer.ErrNotFound)
}

func (b *book) Tags(_ context.Context, _, after string, limit int) ([]indexer.Tag, error) {
	b.after = after
	return b.tags[:min(limit, len(b.tags))], b.asked()
}

func (b *book) Manifest(_ context.Context, ref indexer.Reference) (indexer.Manifest, error) {
	b.reference = ref
	if b.manifest == nil {
		return indexer.Manifest{}, fmt.Errorf("manifest %q: %w", ref, indexer.ErrNotFound)
	}
	return *b.manifest, b.asked()
}

func (b *book) TagsOf(context.Context, string, digest.Digest) ([]string, error) {
	return b.tagsOf, b.asked()
}

func (b *book) Referrers(context.Context, string, digest.Digest) ([]indexer.Referrer, error) {
	return b.referrers, b.asked()
}

func (b *book) Images(_ context.Context, q indexer.ImageQuery) ([]indexer.RepositoryImages, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.imageQuery = q
	return b.images, b.asked()
}

func (b *book) Status(context.Context) (indexer.Status, error) { return b.status, b.asked() }

// serve gives a server of everything, reading from b.
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

// client follows no redirect and asks for no compression by itself.
var client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       20 * time.Second,
}

// do sends a request with header fields given as key, value, key, value, ...
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
