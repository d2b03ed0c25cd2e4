package web_test

import (
	"html"
	"regexp"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
)

// A downloaded file has a name that says what it is.
func TestDownloadsHaveNames(t *testing.T) {
	t.Parallel()
	b := stocked("x")
	b.manifest.Repository = "app"
	s := serve(t, b)
	raw := "/api/v1/repositories/app/-/manifests/"
	for path, want := range map[string]string{
		raw + "v1/raw":                       `attachment; filename="app-v1.manifest.json"`,
		raw + dgst("a").String() + "/raw":    `attachment; filename="app-aaaaaaaaaaaa.manifest.json"`,
		"/api/v1/dump":                       `attachment; filename="portbook-e1.7.ndjson"`,
		"/activity.atom":                     `inline; filename="activity.atom"`,
		"/activity.atom?repository=team/app": `inline; filename="activity-team-app.atom"`,
	} {
		resp, _ := get(t, s.URL+path)
		if got := resp.Header.Get("Content-Disposition"); resp.StatusCode != 200 || got != want {
			t.Errorf("%s: %d with Content-Disposition %q, want %q", path, resp.StatusCode, got, want)
		}
	}
	if resp, _ := get(t, serve(t, &book{}).URL+raw+"v1/raw"); resp.StatusCode != 404 || resp.Header.Get("Content-Disposition") != "" {
		t.Errorf("an error is sent as a file: %d %v", resp.StatusCode, resp.Header)
	}
}

var fileLink = regexp.MustCompile(`href="[^"]*" download="([^"]*)"`)

// files returns the file names of the download links on a page.
func files(page string) (names []string) {
	for _, m := range fileLink.FindAllStringSubmatch(page, -1) {
		names = append(names, html.UnescapeString(m[1]))
	}
	return names
}

// Files that the registry sends are named by the page: with their title, or else
// after the reference that they belong to.
func TestFilesOfPages(t *testing.T) {
	t.Parallel()
	b := stocked("x")
	b.manifest.Kind, b.manifest.ArtifactType, b.manifest.Entries = indexer.KindArtifact, "application/spdx+json", nil
	b.manifest.Config.Digest = dgst("c")
	title := func(s string) map[string]string { return map[string]string{ocispec.AnnotationTitle: s} }
	b.manifest.Layers = []ocispec.Descriptor{
		{MediaType: "application/spdx+json", Digest: dgst("1"), Annotations: title("some/where/app.spdx.json")},
		{MediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip", Digest: dgst("2")},
		{MediaType: "application/vnd.thing", Digest: dgst("3"), Annotations: title("../../..")},
		{MediaType: "x", Digest: dgst("4"), Annotations: title(".bashrc\x00\"\r\n; x=")},
		{MediaType: "x", Digest: dgst("5"), Annotations: title("C:\\Windows\\" + strings.Repeat("x", 500))},
	}
	_, page := get(t, serve(t, b).URL+"/r/app:v1")
	got := files(page)
	for _, want := range []string{"app.spdx.json", "app-222222222222.tar.gz", "app-333333333333", "app-v1.manifest.json", "app-v1.config.json"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q among %q", want, got)
		}
	}
	safe := regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,119}$`)
	for _, name := range got {
		if !safe.MatchString(name) {
			t.Errorf("%q is not a file name on every system", name)
		}
	}
}
