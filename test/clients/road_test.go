package clients

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// A hit is a result of a search.
type hit struct{ Name, Description string }

// search searches as docker does.
func search(t *testing.T, addr, term string) []hit {
	t.Helper()
	status, body := page(t, addr, "/v1/search?n=100&q="+url.QueryEscape(term))
	var answer struct{ Results []hit }
	if err := json.Unmarshal([]byte(body), &answer); status != http.StatusOK || err != nil {
		t.Fatalf("search for %q: status %d, %v: %s", term, status, err, body)
	}
	return answer.Results
}

// wantFound waits until a search finds want.
func wantFound(t *testing.T, addr, term string, want hit) {
	t.Helper()
	eventually(t, func() error {
		if got := search(t, addr, term); !slices.Contains(got, want) {
			return fmt.Errorf("search for %q: got %v, want %v among them", term, got, want)
		}
		return nil
	})
}

// wantGone waits until a search no longer finds a repository.
func wantGone(t *testing.T, addr, term, name string) {
	t.Helper()
	eventually(t, func() error {
		got := search(t, addr, term)
		if slices.ContainsFunc(got, func(h hit) bool { return h.Name == name }) {
			return fmt.Errorf("search for %q: got %v, want no %s", term, got, name)
		}
		return nil
	})
}

// wantPage waits until a page has a status and contains a text.
func wantPage(t *testing.T, addr, path string, status int, text string) {
	t.Helper()
	eventually(t, func() error {
		got, body := page(t, addr, path)
		if got != status || !strings.Contains(body, text) {
			return fmt.Errorf("%s: status %d, want %d and %q in:\n%s", path, got, status, text, body)
		}
		return nil
	})
}

// wantClients checks that the real docker and podman find want. They are slow, so it
// first waits until search finds it.
func wantClients(t *testing.T, addr, term string, want hit) {
	t.Helper()
	wantFound(t, addr, term, want)
	var settings []string
	if want.Description != "" {
		settings = []string{"EXPECT_DESC=" + want.Description}
	}
	if err := accept(t, "podman_search.sh", settings, addr, term, want.Name); err != nil {
		t.Error(err)
	}
	if os.Geteuid() != 0 {
		t.Log("docker search skipped: only root can start a docker daemon")
		return
	}
	if err := accept(t, "docker_search.sh", settings, addr, term, want.Name); err != nil {
		t.Error(err)
	}
}

// copyImage copies an image with skopeo.
func copyImage(t *testing.T, from, to string) {
	t.Helper()
	run(t, "skopeo", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false", from, to)
}

// Every tag of a repository with all kinds of content has a page: indexes for several
// platforms, attestations, referrers, and tags with odd names.
func TestRepositoryOfEverything(t *testing.T) {
	need(t, "python3", "podman", "docker")
	addr := portbook(t)
	const repository = "reg/testrepo"
	layout := filepath.Join(moduleDir(t, "github.com/regclient/regclient@v0.11.7"), "testdata", "testrepo")
	run(t, "python3", "accept/push_layout.py", layout, addr, repository)
	wantClients(t, addr, "testrepo", hit{Name: repository})
	for _, tag := range tags(t, layout) {
		wantPage(t, addr, "/r/"+repository+":"+tag, http.StatusOK, tag)
	}
}

// moduleDir returns the directory with the source of a module.
func moduleDir(t *testing.T, module string) string {
	t.Helper()
	var answer struct{ Dir string }
	out := run(t, "go", "mod", "download", "-json", module)
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("go mod download: %v: %s", err, out)
	}
	return answer.Dir
}

// tags returns the tags of a layout.
func tags(t *testing.T, layout string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index struct {
		Manifests []struct{ Annotations map[string]string }
	}
	if err := json.Unmarshal(b, &index); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range index.Manifests {
		if name := m.Annotations["org.opencontainers.image.ref.name"]; name != "" {
			names = append(names, name)
		}
	}
	if len(names) < 10 {
		t.Fatalf("got tags %v of the layout, want at least 10", names)
	}
	return names
}

// An image that buildah builds from a Debian package is found by its name and its
// labels.
func TestBuiltImage(t *testing.T) {
	need(t, "buildah", "apt-get", "dpkg-deb", "podman", "docker")
	needRoot(t, "buildah copies files that belong to root")
	addr := portbook(t)
	const description = "Tiny utilities in one file"
	build(t, addr+"/debian/busybox:1", debianPackage(t, "busybox-static"), description)
	wantClients(t, addr, "busybox", hit{"debian/busybox", description})
	wantClients(t, addr, "tiny utilities", hit{"debian/busybox", description})
	wantPage(t, addr, "/r/debian/busybox:1", http.StatusOK, description)
}

// debianPackage downloads and unpacks a package, and returns the directory.
func debianPackage(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	// apt-get downloads to the working directory.
	run(t, "sh", "-c", `cd "$1" && apt-get -q download "$2" && dpkg-deb -x "$2"_*.deb root`, "sh", dir, name)
	return filepath.Join(dir, "root")
}

// build builds an image from a directory and pushes it.
func build(t *testing.T, image, dir, description string) {
	t.Helper()
	storage := t.TempDir()
	buildah := func(args ...string) {
		t.Helper()
		// vfs works in a container.
		run(t, "buildah", append([]string{"--storage-driver=vfs", "--root=" + storage + "/root", "--runroot=" + storage + "/run"}, args...)...)
	}
	buildah("from", "--name=c", "scratch")
	buildah("copy", "c", dir, "/")
	buildah("config", "--label=org.opencontainers.image.description="+description, "--annotation=org.opencontainers.image.title=BusyBox",
		"--entrypoint=[\"/bin/busybox\"]", "c")
	buildah("commit", "--quiet", "--format=oci", "c", image)
	buildah("push", "--quiet", "--tls-verify=false", image)
	buildah("rm", "--all")
	buildah("rmi", "--all", "--force")
}

// flatpak lists and installs an app from one address. When the tag moves or is
// deleted, the list changes.
func TestFlatpak(t *testing.T) {
	need(t, "flatpak", "dbus-run-session", "skopeo")
	addr := portbook(t)
	dir := t.TempDir()
	hello, ahoy := makeFlatpak(t, dir, "hello", "org.test.Hello"), makeFlatpak(t, dir, "ahoy", "org.test.Ahoy")
	const app = "/apps/greeting:latest"
	copyImage(t, "oci:"+dir+"/hello/runtime-oci", "docker://"+addr+"/apps/platform:latest")
	copyImage(t, "oci:"+dir+"/hello/app-oci", "docker://"+addr+app)
	eventually(t, func() error { return accept(t, "flatpak_ls.sh", nil, addr, hello) })
	if err := accept(t, "flatpak_ls.sh", []string{"INSTALL=1"}, addr, hello); err != nil {
		t.Error(err)
	}

	copyImage(t, "oci:"+dir+"/ahoy/app-oci", "docker://"+addr+app)
	eventually(t, func() error { return accept(t, "flatpak_ls.sh", nil, addr, ahoy) })
	wantUnlisted(t, addr, hello)

	run(t, "skopeo", "delete", "--tls-verify=false", "docker://"+addr+app)
	wantUnlisted(t, addr, ahoy)
	wantPage(t, addr, "/r"+app, http.StatusNotFound, "")
}

// makeFlatpak builds an app and its runtime, and returns the app's ref.
func makeFlatpak(t *testing.T, dir, name, id string) string {
	t.Helper()
	run(t, "bash", "accept/make_flatpak_oci.sh", filepath.Join(dir, name), id)
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	return "app/" + id + "/" + arch + "/stable"
}

// wantUnlisted waits until flatpak no longer lists a ref. It fails if flatpak cannot
// list at all.
func wantUnlisted(t *testing.T, addr, ref string) {
	t.Helper()
	eventually(t, func() error {
		err := accept(t, "flatpak_ls.sh", nil, addr, ref)
		if err == nil {
			return fmt.Errorf("flatpak lists %s", ref)
		}
		if !strings.Contains(err.Error(), "FAIL: ref "+ref+" not listed") {
			t.Fatal(err)
		}
		return nil
	})
}

// After a tag moves, search shows the new image; after it is deleted, none.
func TestRetagAndDelete(t *testing.T) {
	need(t, "skopeo", "podman", "docker")
	addr := portbook(t)
	const name, image = "me/traveller", "/me/traveller:1"
	first := describe(t, addr, "samples/lighthouse")
	second := describe(t, addr, "samples/cargo")

	copyImage(t, "docker://"+addr+"/samples/lighthouse:0.3.0", "docker://"+addr+image)
	wantFound(t, addr, "traveller", hit{name, first})
	before := digest(t, addr, image)
	wantPage(t, addr, "/r"+image, http.StatusOK, before)

	copyImage(t, "docker://"+addr+"/samples/cargo:2.4", "docker://"+addr+image)
	wantClients(t, addr, "traveller", hit{name, second})
	after := digest(t, addr, image)
	if before == after {
		t.Fatalf("both images have the same digest %s", before)
	}
	wantPage(t, addr, "/r"+image, http.StatusOK, after)

	run(t, "skopeo", "delete", "--tls-verify=false", "docker://"+addr+image)
	wantGone(t, addr, "traveller", name)
	wantPage(t, addr, "/r"+image, http.StatusNotFound, "")
	if err := accept(t, "podman_search.sh", nil, addr, "traveller", name); err == nil || !strings.Contains(err.Error(), "FAIL: no row") {
		t.Errorf("podman search after the deletion: got %v, want no row", err)
	}
}

// describe returns the description of a repository in search results.
func describe(t *testing.T, addr, repository string) string {
	t.Helper()
	for _, h := range search(t, addr, filepath.Base(repository)) {
		if h.Name == repository && h.Description != "" {
			return h.Description
		}
	}
	t.Fatalf("search does not find %s with a description", repository)
	return ""
}

// digest returns the digest of an image in the registry.
func digest(t *testing.T, addr, image string) string {
	t.Helper()
	return strings.TrimSpace(run(t, "skopeo", "inspect", "--tls-verify=false", "--format={{.Digest}}", "docker://"+addr+image))
}
