package web_test

import (
	"html"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web"
)

var (
	commandLine = regexp.MustCompile(`<code( data-open)?>((?:docker|podman|skopeo|oras|helm) .*?)</code><button class="copy"[^>]*data-copy="([^"]*)"`)
	markup      = regexp.MustCompile(`<[^>]*>`)
)

// shownCommands returns the commands of a page, and the texts that their buttons
// copy.
func shownCommands(page string) (shown, copied []string) {
	for _, m := range commandLine.FindAllStringSubmatch(page, -1) {
		shown = append(shown, html.UnescapeString(markup.ReplaceAllString(m[2], "")))
		copied = append(copied, html.UnescapeString(m[3]))
	}
	return shown, copied
}

// The copied text is the shown one. It has the options that each tool needs for a
// registry without TLS, and a host that no tool takes for a name at Docker Hub.
func TestCommands(t *testing.T) {
	t.Parallel()
	const insecure = "insecure-registries"
	for _, test := range []struct {
		public  string
		want    []string
		refused bool // whether docker refuses it
	}{
		{"https://r.example", []string{"docker pull r.example/app:v1", "podman pull r.example/app:v1", "skopeo copy docker://r.example/app:v1 oci:app"}, false},
		{"https://r.example:5000/x", []string{"docker pull r.example:5000/app:v1"}, false},
		{"http://r.example", []string{"docker pull r.example/app:v1", "podman pull --tls-verify=false r.example/app:v1", "skopeo copy --src-tls-verify=false docker://r.example/app:v1 oci:app"}, true},
		{"http://127.0.0.1:7080", []string{"docker pull 127.0.0.1:7080/app:v1", "podman pull --tls-verify=false 127.0.0.1:7080/app:v1"}, false},
		{"http://[::1]:7080", []string{"docker pull [::1]:7080/app:v1"}, false},
		{"http://localhost", []string{"docker pull localhost/app:v1"}, false},
		{"http://registry", []string{"docker pull registry:80/app:v1"}, true},
		{"https://registry", []string{"docker pull registry:443/app:v1"}, false},
	} {
		_, page := get(t, serve(t, stocked("x"), func(c *web.Config) { c.PublicURL = test.public }).URL+"/r/app:v1")
		shown, copied := shownCommands(page)
		if diff := cmp.Diff(shown, copied); diff != "" {
			t.Errorf("%s (-shown +copied):\n%s", test.public, diff)
		}
		for _, want := range test.want {
			if !slices.Contains(shown, want) {
				t.Errorf("%s: no %q among %q", test.public, want, shown)
			}
		}
		if strings.Contains(page, "HOST") || strings.Contains(page, insecure) != test.refused {
			t.Errorf("%s: the page has HOST, or %s is shown, want %v", test.public, insecure, test.refused)
		}
	}
}

// Each kind of artifact has its own tool, with its option for a registry without
// TLS.
func TestCommandsOfArtifactsWithoutTLS(t *testing.T) {
	t.Parallel()
	b := stocked("x")
	b.manifest.Kind, b.manifest.ArtifactType, b.manifest.Entries = indexer.KindArtifact, "application/vnd.cncf.helm.config.v1+json", nil
	_, page := get(t, serve(t, b, func(c *web.Config) { c.PublicURL = "http://r.example" }).URL+"/r/app:v1")
	shown, _ := shownCommands(page)
	for _, want := range []string{"helm pull --plain-http oci://r.example/app --version v1", "oras pull --plain-http r.example/app:v1"} {
		if !slices.Contains(shown, want) {
			t.Errorf("no %q among %q", want, shown)
		}
	}
	if strings.Contains(page, "insecure-registries") {
		t.Error("the page mentions a setting of docker, which does not pull artifacts")
	}
}

// docker cannot run, and podman cannot unpack, an image whose layers are not
// archives, such as a signature of cosign.
func TestCommandsOfSignatures(t *testing.T) {
	t.Parallel()
	b := stocked("x")
	b.manifest.Layers[0].MediaType = "application/vnd.dev.cosign.simplesigning.v1+json"
	_, page := get(t, serve(t, b, func(c *web.Config) { c.PublicURL = "https://r.example" }).URL+"/r/app:v1")
	shown, _ := shownCommands(page)
	if want := []string{"oras pull r.example/app:v1", "oras pull r.example/app@" + dgst("a").String()}; !slices.Equal(shown, want) {
		t.Errorf("got %q, want %q", shown, want)
	}
}

// If the registry has no known host name, the page says what to insert instead of
// HOST, and nothing can be copied until the script has inserted it; the browser
// tests check that.
func TestCommandsWithoutHost(t *testing.T) {
	t.Parallel()
	s := serve(t, stocked("x"))
	for _, path := range []string{"/r/app", "/r/app:v1"} {
		_, page := get(t, s.URL+path)
		shown, copied := shownCommands(page)
		if !slices.Contains(shown, "docker pull HOST/app:v1") || !strings.Contains(page, "stands for the address of this registry") || !strings.Contains(page, "--tls-verify=false") {
			t.Errorf("%s does not say what HOST is: %q", path, shown)
		}
		for _, text := range copied {
			if text != "" {
				t.Errorf("%s: %q can be copied", path, text)
			}
		}
	}
}
