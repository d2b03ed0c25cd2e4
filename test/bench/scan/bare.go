package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/registry/push"
)

// parallelism is the default of the indexer's scan.parallelism, and also the number of
// parallel requests of the bare reader.
const parallelism = 8

// A request is one request of a scan.
type request struct {
	method, path string
	known        string // digest for If-None-Match, or ""
}

func (r request) String() string {
	if r.known != "" {
		return r.method + " " + r.path + " unless " + r.known
	}
	return r.method + " " + r.path
}

// A plan is the list of requests to one registry: the catalogue, page after page, and
// then the rest in any order.
type plan struct {
	catalog, rest []request
}

func (p plan) requests() []request { return append(append([]request(nil), p.catalog...), p.rest...) }

// A reader reads a registry and stores nothing: no indexer can be faster.
type reader struct {
	base   string
	client *http.Client
}

func newReader(base string) *reader {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 2*parallelism, 2*parallelism
	transport.DisableCompression = true
	return &reader{base: base, client: &http.Client{Transport: transport}}
}

var acceptTypes = []string{
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, push.DockerManifest, push.DockerManifestList,
}

// do sends one request and returns the response, whose body the caller closes.
func (r *reader) do(ctx context.Context, q request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, q.method, r.base+q.path, nil)
	if err != nil {
		return nil, err
	}
	req.Header["Accept"] = acceptTypes
	if q.known != "" {
		req.Header.Set("If-None-Match", `"`+q.known+`"`)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	want := http.StatusOK
	if q.known != "" {
		want = http.StatusNotModified
	}
	if resp.StatusCode != want {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: status %d, want %d", q, resp.StatusCode, want)
	}
	return resp, nil
}

// skip sends one request and discards the body.
func (r *reader) skip(ctx context.Context, q request) error {
	resp, err := r.do(ctx, q)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// run sends all requests of a plan, with the parallelism of a scan.
func (r *reader) run(ctx context.Context, p plan) error {
	for _, q := range p.catalog {
		if err := r.skip(ctx, q); err != nil {
			return err
		}
	}
	return each(ctx, parallelism, p.rest, r.skip)
}

// json decodes one answer, of a few megabytes at most, into a value and returns its
// header.
func (r *reader) json(ctx context.Context, q request, into any) (http.Header, error) {
	resp, err := r.do(ctx, q)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 32<<20)).Decode(into); err != nil {
		return nil, fmt.Errorf("%s: %w", q, err)
	}
	return resp.Header, nil
}

// A survey describes the content of a registry and the requests that scans of it make.
type survey struct {
	repositories, tags, manifests int

	// first reads everything once; again checks whether anything has changed.
	first, again plan
}

// look surveys a registry, using only the registry itself.
func (r *reader) look(ctx context.Context) (*survey, error) {
	var s survey
	names, err := r.catalog(ctx, &s)
	if err != nil {
		return nil, err
	}
	s.repositories = len(names)
	var mu sync.Mutex
	err = each(ctx, parallelism, names, func(ctx context.Context, name string) error {
		one, err := r.repository(ctx, name)
		mu.Lock()
		defer mu.Unlock()
		s.add(one)
		return err
	})
	return &s, err
}

func (s *survey) add(one survey) {
	s.tags += one.tags
	s.manifests += one.manifests
	s.first.rest = append(s.first.rest, one.first.rest...)
	s.again.rest = append(s.again.rest, one.again.rest...)
}

// catalog reads the names of all repositories in pages of 1,000, as the indexer does.
func (r *reader) catalog(ctx context.Context, s *survey) (names []string, err error) {
	path := "/v2/_catalog?n=1000"
	for range 1000 { // a million repositories
		q := request{method: http.MethodGet, path: path}
		s.first.catalog = append(s.first.catalog, q)
		s.again.catalog = append(s.again.catalog, q)
		var page struct{ Repositories []string }
		header, err := r.json(ctx, q, &page)
		if err != nil {
			return nil, err
		}
		names = append(names, page.Repositories...)
		link, _, more := strings.Cut(strings.TrimPrefix(header.Get("Link"), "<"), ">")
		if !more {
			return names, nil
		}
		if path, err = canonical(link); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("catalogue goes on behind %s", path)
}

// canonical returns path and query of an address, with the query's keys in order.
func canonical(address string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", err
	}
	if u.RawQuery == "" {
		return u.Path, nil
	}
	return u.Path + "?" + u.Query().Encode(), nil
}

// repository surveys one repository: its tags, their manifests, the children of
// indexes, and the configs.
func (r *reader) repository(ctx context.Context, name string) (s survey, err error) {
	list := request{method: http.MethodGet, path: "/v2/" + name + "/tags/list"}
	s.first.rest, s.again.rest = []request{list}, []request{list}
	var tags struct{ Tags []string }
	if _, err := r.json(ctx, list, &tags); err != nil {
		return s, err
	}
	for _, tag := range tags.Tags {
		s.tags++
		d, children, err := r.manifest(ctx, &s, name, tag)
		if err != nil {
			return s, err
		}
		s.again.rest = append(s.again.rest, request{http.MethodHead, "/v2/" + name + "/manifests/" + tag, d})
		for _, child := range children {
			if _, _, err := r.manifest(ctx, &s, name, child); err != nil {
				return s, err
			}
			s.again.rest = append(s.again.rest, request{http.MethodHead, "/v2/" + name + "/manifests/" + child, ""})
		}
	}
	return s, nil
}

// manifest reads a manifest, and its config if it has one.
func (r *reader) manifest(
	ctx context.Context, s *survey, name, reference string,
) (digest string, children []string, err error) {
	s.manifests++
	q := request{method: http.MethodGet, path: "/v2/" + name + "/manifests/" + reference}
	s.first.rest = append(s.first.rest, q)
	var m struct {
		Config    *ocispec.Descriptor
		Manifests []ocispec.Descriptor
	}
	header, err := r.json(ctx, q, &m)
	if err != nil {
		return "", nil, err
	}
	if m.Config != nil {
		blob := request{method: http.MethodGet, path: "/v2/" + name + "/blobs/" + m.Config.Digest.String()}
		s.first.rest = append(s.first.rest, blob)
		if err := r.skip(ctx, blob); err != nil {
			return "", nil, err
		}
	}
	for _, child := range m.Manifests {
		children = append(children, child.Digest.String())
	}
	return header.Get("Docker-Content-Digest"), children, nil
}
