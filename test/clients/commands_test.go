package clients

import (
	"fmt"
	"html"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// shownCommands returns the commands that the buttons of a page copy.
func shownCommands(t *testing.T, addr, path string) (lines []string) {
	t.Helper()
	status, body := page(t, addr, path)
	if status != http.StatusOK {
		t.Fatalf("%s: got status %d", path, status)
	}
	for _, m := range regexp.MustCompile(`data-copy="((?:docker|podman|skopeo|oras|helm) [^"]*)"`).FindAllStringSubmatch(body, -1) {
		lines = append(lines, html.UnescapeString(m[1]))
	}
	return lines
}

// The commands that a page shows work unchanged over plain HTTP with clients that are
// not configured.
func TestShownCommands(t *testing.T) {
	need(t, "podman", "skopeo", "docker")
	addr := portbook(t)
	tools := map[string][]string{}
	for _, path := range []string{"/r/samples/harbour", "/r/samples/harbour:1.1", "/r/samples/cargo:2.4"} {
		for _, line := range shownCommands(t, addr, path) {
			tool, _, _ := strings.Cut(line, " ")
			if !slices.Contains(tools[tool], line) {
				tools[tool] = append(tools[tool], line)
			}
		}
	}
	for _, tool := range []string{"docker", "podman", "skopeo"} {
		if len(tools[tool]) < 4 { // by tag and by digest
			t.Fatalf("%s: got commands %q, want at least 4", tool, tools[tool])
		}
	}
	environ := clientEnviron(t)
	for _, line := range slices.Concat(tools["podman"], tools["skopeo"]) {
		if _, err := try(t, "env", append(environ, "sh", "-c", line)...); err != nil {
			t.Error(err)
		}
	}
	if os.Geteuid() != 0 {
		t.Log("docker pull skipped: only root can start a docker daemon")
		return
	}
	// With SECURE, daemon.json does not name the registry. The page says that this is
	// not necessary for a registry on the same machine.
	if err := accept(t, "docker_run.sh", []string{"SECURE=1"}, append([]string{addr}, tools["docker"]...)...); err != nil {
		t.Error(err)
	}
}

// clientEnviron returns arguments of env for clients: they run and store what they
// pull in a temporary directory, with the storage driver vfs, which works in
// containers.
func clientEnviron(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	storage := fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", dir+"/root", dir+"/run")
	if err := os.WriteFile(dir+"/storage.conf", []byte(storage), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--chdir=" + dir, "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "CONTAINERS_STORAGE_CONF=" + dir + "/storage.conf"}
}
