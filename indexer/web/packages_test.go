package web_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/pesde"
	"github.com/portbook/portbook/indexer/web"
	"github.com/portbook/portbook/indexer/web/clients"
)

// packageFile is a file of the index: of 1.0.0 the registry has the artifact, of 2.0.0-rc.1 not.
func packageFile(t *testing.T, digest string) string {
	t.Helper()
	f := pesde.File{Entries: map[pesde.ID]pesde.Listed{}}
	for id, d := range map[string]string{"1.0.0 luau": digest, "1.0.0 lune": "", "2.0.0-rc.1 luau": dgst("9").String()} {
		i, err := pesde.ParseID(id)
		if err != nil {
			t.Fatal(err)
		}
		f.Entries[i] = pesde.Listed{Digest: d, Yanked: i.Target == pesde.Lune, Entry: pesde.Entry{
			PublishedAt: "2026-01-02T03:04:05Z", Description: "d", Target: pesde.TargetInfo{Environment: i.Target, Lib: "x"},
		}}
	}
	text, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// servePackages serves a book with a package and a repository of images.
func servePackages(t *testing.T) (address string, archive []byte) {
	t.Helper()
	archive = []byte("an archive")
	p := pesde.Package{
		Name: pesde.Name{Scope: "acme", Name: "foo"}, Readme: []byte("# Foo"),
		Entry: pesde.Entry{Target: pesde.TargetInfo{Environment: pesde.Luau}},
	}
	p.ID, _ = pesde.ParseID("1.0.0 luau")
	artifact, err := pesde.Make(p, archive, day, "")
	if err != nil {
		t.Fatal(err)
	}
	b := &book{
		version:  indexer.Version{Number: 7},
		packages: map[string]string{"acme/foo": packageFile(t, artifact.Digest.String())},
		repositories: []indexer.Repository{
			{Name: "team/app", Tags: 3, Description: "images"}, {Name: "team/empty", Tags: 1},
		},
		tags: []indexer.Tag{
			{Name: "1.2.0", Digest: dgst("1"), MovedAt: day, Platforms: []indexer.Platform{{OS: "linux", Architecture: "amd64"},
				{OS: "linux", Architecture: "arm", Variant: "v7"}}},
			{Name: "latest", Digest: dgst("1"), MovedAt: day, Platforms: []indexer.Platform{{OS: "linux", Architecture: "amd64"}}},
			{Name: "v1.3.0", Digest: dgst("2"), MovedAt: day, Platforms: []indexer.Platform{{OS: "linux", Architecture: "amd64"}}},
		},
		manifest: &indexer.Manifest{Annotations: map[string]string{"org.opencontainers.image.licenses": "MIT"}},
		notices:  indexer.Notices{Yanks: []indexer.Yank{{Repository: "team/app", Tag: "v1.3.0"}}},
	}
	s := serve(t, b, func(c *web.Config) {
		c.Package = clients.PackageConfig{
			Packages: noPackages{}, Prefix: "pesde/",
			Manifest: func(_ context.Context, repository, d string) ([]byte, error) {
				if repository != "pesde/acme/foo" || d != artifact.Digest.String() {
					return nil, indexer.ErrNotFound
				}
				return artifact.Manifest, nil
			},
			Blob: func(_ context.Context, _, d string, _ int64) ([]byte, error) {
				for _, blob := range artifact.Blobs {
					if blob.Digest.String() == d {
						return blob.Data, nil
					}
				}
				return nil, indexer.ErrNotFound
			},
		}
	})
	return s.URL, archive
}

// noPackages is a registry of packages in which nothing can be changed.
type noPackages struct{ clients.Packages }

// Packages and images are read in one form, and a reader refuses changes.
func TestPackageReads(t *testing.T) {
	t.Parallel()
	address, archive := servePackages(t)
	foo, app := "/v1/packages/acme%2Ffoo", "/v1/packages/team%2Fapp"
	for _, c := range []struct {
		path   string
		status int
		want   string
	}{
		{foo, 200, `{"name":"acme/foo","versions":{"1.0.0":{"description":"d","targets":{"lune":{"target":{"lib":true,"bin":false},"yanked":true`},
		{foo + "/latest/any", 200, `"version":"1.0.0","targets":[{"kind":"lune","yanked":true,"lib":true,"bin":false},{"kind":"luau"`},
		{foo + "/2.0.0-rc.1/luau", 200, `"version":"2.0.0-rc.1"`},
		{foo + "/1.0.0/luau/archive", 200, string(archive)},
		{foo + "/1.0.0/luau/readme", 200, "# Foo"},
		{foo + "/1.0.0/luau/doc?doc=x", 404, ""},
		{foo + "/1.0.0/lune/archive", 404, ""},
		{foo + "/2.0.0-rc.1/luau/archive", 404, ""}, // deleted from the registry
		{foo + "/1.0.0/linux_amd64", 404, "unknown target kind linux_amd64"},
		{app, 200, `{"name":"team/app","versions":{"1.2.0":{"description":"images","targets":{"linux_amd64":{"target":{"lib":false,"bin":true}`},
		{app + "/latest/any", 200, `"version":"1.2.0","targets":[{"kind":"linux_amd64","lib":false,"bin":true},{"kind":"linux_arm_v7"`},
		{app + "/latest/linux_amd64", 200, `"license":"MIT"`},
		{app + "/1.3.0/linux_amd64", 200, `"yanked":true`},
		{app + "/1.2.0/luau", 404, ""},
		{app + "/1.2.0/linux_amd64/archive", 404, ""},
		{"/v1/packages/team%2Fnone", 404, ""},
		{"/v1/packages/a%2Fb", 404, "package scope `a` is not within 3-32 characters long"},
		{"/v0/packages/acme%2Ffoo", 200, `[{"name":"acme/foo","version":"1.0.0"`},
		{"/v1/packages/acme/foo", 404, ""},
	} {
		resp, body := get(t, address+c.path)
		if resp.StatusCode != c.status || !strings.HasPrefix(body, c.want) && !strings.Contains(body, c.want) ||
			c.want == "" && body != "" {
			t.Errorf("%s: %s\n%s\nwant %d %s", c.path, resp.Status, body, c.status, c.want)
		}
		if c.status != 200 {
			continue
		}
		tag := resp.Header.Get("ETag")
		if again, _ := get(t, address+c.path, "If-None-Match", tag); tag == "" || again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: ETag %s, then %s", c.path, tag, again.Status)
		}
		if head, body := do(t, http.MethodHead, address+c.path, ""); head.StatusCode != 200 || body != "" {
			t.Errorf("HEAD %s: %s", c.path, head.Status)
		}
	}
	for _, change := range [][2]string{{"POST", "/v1/packages"}, {"PUT", foo + "/1.0.0/all/yank"}, {"DELETE", foo + "/deprecate"}} {
		if resp, _ := do(t, change[0], address+change[1], "x"); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s %s: %s", change[0], change[1], resp.Status)
		}
	}
}

// The archive is sent as it is, since the client unpacks it itself, and may be kept.
func TestPackageArchiveHeader(t *testing.T) {
	t.Parallel()
	address, archive := servePackages(t)
	for _, login := range []string{"", "Bearer x"} {
		header := []string{"Accept-Encoding", "gzip"}
		want := "public, max-age=3600, immutable"
		if login != "" {
			header, want = append(header, "Authorization", login), "private, max-age=3600, immutable"
		}
		resp, body := get(t, address+"/v1/packages/acme%2Ffoo/1.0.0/luau/archive", header...)
		h := resp.Header
		old, _ := get(t, address+"/v0/packages/acme%2Ffoo/1.0.0/luau", header...)
		if !strings.Contains(strings.Replace(old.Header.Get("Vary"), "Accept-Encoding", "", 1), "Accept") {
			t.Errorf("v0 does not say that it depends on Accept: %q", old.Header.Get("Vary"))
		}
		if body != string(archive) || h.Get("Content-Encoding") != "" || h.Get("Content-Type") != "application/gzip" ||
			h.Get("Cache-Control") != want {
			t.Errorf("%q %v", body, h)
		}
	}
}

// What latest and any are changes with the next publish, so caches ask each time.
func TestPackageLatestIsAskedFor(t *testing.T) {
	t.Parallel()
	address, archive := servePackages(t)
	for _, path := range []string{"latest/luau", "LATEST/luau"} {
		resp, body := get(t, address+"/v1/packages/acme%2Ffoo/"+path+"/archive")
		if body != string(archive) || resp.Header.Get("Cache-Control") != "public, no-cache" || resp.Header.Get("ETag") == "" {
			t.Errorf("%s: %s %v", path, resp.Status, resp.Header)
		}
	}
}
