package web_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web"
)

// referrersBook returns a book with two referrers that name the subject themselves,
// one that is listed by an index on the referrers tag, and a signature of an older
// cosign.
func referrersBook() *book {
	list := strings.Replace(dgst("a").String(), ":", "-", 1)
	return &book{
		referrers: []indexer.Referrer{
			{Digest: dgst("1"), MediaType: ocispec.MediaTypeImageManifest, Size: 7, ArtifactType: "a/sbom", Annotations: map[string]string{"k": "v<"}},
			{Digest: dgst("2"), MediaType: ocispec.MediaTypeImageManifest, Size: 7, ArtifactType: "a/signature"},
			{Digest: dgst("3"), MediaType: ocispec.MediaTypeImageManifest, Size: 7, ArtifactType: "a/sbom", Tag: list},
			{Digest: dgst("5"), MediaType: ocispec.MediaTypeImageManifest, Tag: list + ".sig"},
		},
		manifest: &indexer.Manifest{Repository: "team/app", Digest: dgst("a")},
	}
}

func digestsOf(t *testing.T, body string) (list []string) {
	t.Helper()
	var index ocispec.Index
	if err := json.Unmarshal([]byte(body), &index); err != nil || index.SchemaVersion != 2 || index.MediaType != ocispec.MediaTypeImageIndex || index.Manifests == nil {
		t.Fatalf("%v %s", err, body)
	}
	for _, m := range index.Manifests {
		list = append(list, m.Digest.Encoded()[:1])
	}
	return list
}

func TestReferrers(t *testing.T) {
	t.Parallel()
	s := serve(t, referrersBook())
	path := s.URL + "/v2/team/app/referrers/" + dgst("a").String()
	for query, want := range map[string][]string{
		"":                     {"1", "2", "3"},
		"?artifactType=":       {"1", "2", "3"},
		"?artifactType=a/sbom": {"1", "3"},
		"?artifactType=" + url.QueryEscape("a/other"):     nil,
		"?artifactType=a/sbom&artifactType=a%2Fsignature": {"1", "2", "3"},
	} {
		resp, body := get(t, path+query)
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != ocispec.MediaTypeImageIndex {
			t.Errorf("%s: %d %v", query, resp.StatusCode, resp.Header)
		}
		if got := digestsOf(t, body); !cmp.Equal(want, got) {
			t.Errorf("%s: got %v, want %v", query, got, want)
		}
		if got := resp.Header.Get("OCI-Filters-Applied"); (got == "artifactType") != strings.Contains(query, "=a") {
			t.Errorf("%s: OCI-Filters-Applied %q", query, got)
		}
	}
	_, body := get(t, path+"?artifactType=a/sbom")
	if !strings.Contains(body, `"artifactType":"a/sbom"`) || !strings.Contains(body, `"annotations":{"k":"v<"}`) || !strings.Contains(body, `"size":7`) {
		t.Errorf("%s", body)
	}
}

// A subject may have more referrers than fit in an answer: in both APIs each page
// names the next, and together the pages have each referrer once.
func TestReferrersInPages(t *testing.T) {
	t.Parallel()
	b := &book{manifest: &indexer.Manifest{Repository: "team/app", Digest: dgst("a")}}
	for i := range 2500 {
		d := digest.NewDigestFromEncoded(digest.SHA256, fmt.Sprintf("%064x", i))
		b.referrers = append(b.referrers, indexer.Referrer{Digest: d, ArtifactType: []string{"a/b", "a/c"}[i%2]})
	}
	s := serve(t, b)
	for first, want := range map[string]int{
		"/v2/team/app/referrers/" + dgst("a").String():                         2500,
		"/v2/team/app/referrers/" + dgst("a").String() + "?artifactType=a%2Fb": 1250,
		"/api/v1/repositories/team/app/-/manifests/v1/referrers?limit=600":     2500,
	} {
		seen := map[string]bool{}
		pages := 0
		for next := first; next != ""; pages++ {
			resp, body := get(t, s.URL+next)
			var answer struct{ Manifests, Referrers []struct{ Digest string } }
			if err := json.Unmarshal([]byte(body), &answer); err != nil || resp.StatusCode != 200 {
				t.Fatalf("%s: %d %v", next, resp.StatusCode, err)
			}
			for _, d := range append(answer.Manifests, answer.Referrers...) {
				seen[d.Digest] = true
			}
			next, _ = strings.CutSuffix(strings.TrimPrefix(resp.Header.Get("Link"), "<"), `>; rel="next"`)
		}
		if len(seen) != want || pages < 2 {
			t.Errorf("%s: %d referrers on %d pages, want %d", first, len(seen), pages, want)
		}
	}
	for _, after := range []string{"x", "@" + dgst("1").String(), "a/b@" + dgst("1").String()} {
		if resp, body := get(t, s.URL+"/v2/team/app/referrers/"+dgst("a").String()+"?after="+url.QueryEscape(after)); resp.StatusCode != 400 {
			t.Errorf("after=%s: %d %s, want 400", after, resp.StatusCode, body)
		}
	}
}

// The specification has no 404 for a manifest without referrers, and clients would
// conclude that the registry has no referrers API.
func TestReferrersOfNothing(t *testing.T) {
	t.Parallel()
	s := serve(t, &book{})
	resp, body := get(t, s.URL+"/v2/absent/referrers/"+dgst("0").String())
	if resp.StatusCode != 200 || len(digestsOf(t, body)) != 0 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	for _, path := range []string{"/v2/absent/referrers/sha256:0", "/v2/absent/referrers/latest", "/v2/UPPER/referrers/" + dgst("0").String()} {
		resp, body := get(t, s.URL+path)
		if resp.StatusCode != 400 || !strings.Contains(body, `{"errors":[{"code":"`) {
			t.Errorf("%s: %d %s, want 400", path, resp.StatusCode, body)
		}
	}
}

// With a registry proxy, the referrers are still ours; everything else below /v2/
// goes to the registry.
func TestReferrersBeforeTheRegistry(t *testing.T) {
	t.Parallel()
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	t.Cleanup(registry.Close)
	target, err := url.Parse(registry.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, referrersBook(), func(c *web.Config) { c.RegistryProxy = target })
	for path, want := range map[string]int{
		"/v2/team/app/referrers/" + dgst("a").String(): 200,
		"/v2/team/app/manifests/v1":                    http.StatusTeapot,
		"/v2/referrers/manifests/v1":                   http.StatusTeapot,
		"/v2/team/referrers/tags/list":                 http.StatusTeapot,
		"/v2/":                                         http.StatusTeapot,
	} {
		if resp, body := get(t, s.URL+path); resp.StatusCode != want {
			t.Errorf("%s: %d %s, want %d", path, resp.StatusCode, body, want)
		}
	}
}
