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

// shownCommands gives what the buttons of a page copy into a shell.
func shownCommands(t *testing.T, addr, path string) (lines []string) {
	t.Helper()
	status, body := page(t, addr, path)
	if status != http.StatusOK {
		t.Fatalf("%s: status %d", path, status)
	}
	for _, m := range regexp.MustCompile(`data-copy="((?:docker|podman|skopeo|oras|helm) [^"]*)"`).FindAllStringSubmatch(body, -1) {
		lines = append(lines, html.UnescapeString(m[1]))
	}
	return lines
}

// What a page shows to be pasted into a shell works as it stands, by plain http,
// with clients that nobody has configured.
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
			t.Fatalf("%s has the commands %q, want 4 or more", tool, tools[tool])
		}
	}
	environ := clientEnviron(t)
	for _, line := range slices.Concat(tools["podman"], tools["skopeo"]) {
		if _, err := try(t, "env", append(environ, "sh", "-c", line)...); err != nil {
			t.Error(err)
		}
	}
	if os.Geteuid() != 0 {
		t.Log("docker pull is left out: only root can start a docker daemon")
		return
	}
	// SECURE: no daemon.json names the registry, and a page says that none has to
	// where it is on this machine.
	if err := accept(t, "docker_run.sh", []string{"SECURE=1"}, append([]string{addr}, tools["docker"]...)...); err != nil {
		t.Error(err)
	}
}

// clientEnviron has clients keep what they pull in a folder of the test's, in the
// form that needs nothing of the kernel, and begin there.
func clientEnviron(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	storage := fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", dir+"/root", dir+"/run")
	if err := os.WriteFile(dir+"/storage.conf", []byte(storage), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--chdir=" + dir, "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "CONTAINERS_STORAGE_CONF=" + dir + "/storage.conf"}
}
