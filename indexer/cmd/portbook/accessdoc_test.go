package main_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// elsewhere matches commands that need a cluster, a token that somebody has made, or a client
// that is not installed.
var elsewhere = regexp.MustCompile(`(?m)kubectl|\$TOKEN|^docker `)

// The commands of doc/access.md work as they are written, one after the other, and lead to a
// robot that may push; then those of doc/api.md that need a login.
func TestAccessDoc(t *testing.T) {
	t.Parallel()
	page := read(t, "../../../doc/access.md")
	f := launch(t)
	f.settings = []string{"PORTBOOK_WEBHOOKS_KEY=" + strings.Repeat("k", 32)}
	f.must("migrate", "up", "--yes")
	here := strings.NewReplacer("/etc/", f.dir+"/etc/", "http://registry:5000", f.registry.URL)
	for _, dir := range []string{"etc/portbook", "etc/registry", "bin"} {
		if err := os.MkdirAll(filepath.Join(f.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(f.binary, filepath.Join(f.dir, "bin/portbook")); err != nil {
		t.Fatal(err)
	}
	yaml := regexp.MustCompile("(?s)```yaml\n(registry:.*?)```").FindStringSubmatch(page)
	if yaml == nil {
		t.Fatal("the page has no configuration")
	}
	for name, text := range map[string]string{"portbook.yaml": here.Replace(yaml[1]), "password.txt": password + "\n"} {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := "PORTBOOK_CONFIG=" + filepath.Join(f.dir, "portbook.yaml")
	shell := func(script string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-euc", script)
		cmd.Dir, cmd.Env = f.dir, f.environment(config, "PATH="+f.dir+"/bin:"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v of\n%s\n%s", err, script, out)
		}
		return string(out)
	}
	robot := ""
	var requests, commands []string
	for _, block := range shellBlocks(page) {
		if strings.Contains(block, "curl ") {
			requests = append(requests, block)
			continue
		}
		commands = append(commands, block)
		if token := regexp.MustCompile(`(?m)^pbt_\S+$`).FindString(shell(here.Replace(block))); token != "" {
			robot = token
		}
	}
	client := push.New(f.registry.URL)
	if _, err := client.Image(t.Context(), "team/app", "v1", push.ImageSpec{}); err != nil {
		t.Fatal(err)
	}
	i := f.indexer(registrytest.FreeAddr(t), config)
	within(t, patience, "the book has team/app:v1", func() bool {
		code, _, _ := i.get(t, "/api/v1/repositories/team/app/-/manifests/v1", "root", password)
		return code == http.StatusOK
	})
	code, _, text := i.get(t, "/auth/token?scope=repository:team/app:push", "ci", robot)
	if code != http.StatusOK || !strings.Contains(text, "repository:team/app:push") {
		t.Errorf("the robot gets %d: %s", code, text)
	}
	there := strings.NewReplacer("https://registry.example.org", "http://"+i.address, "-u root", "-u 'root:"+password+"'",
		"-u lead", "-u 'lead:"+password+"'")
	for _, block := range append(requests, shellBlocks(read(t, "../../../doc/api.md"))...) {
		if strings.Contains(block, "registry.example.org") {
			shell(there.Replace(block))
			requests = append(requests, block)
		}
	}
	if len(commands) < 6 || len(requests) < 2 {
		t.Errorf("%d blocks of commands and %d of requests were run", len(commands), len(requests))
	}
}

// shellBlocks returns the blocks of commands of a page, but for those for elsewhere.
func shellBlocks(page string) (blocks []string) {
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(page, -1) {
		if !elsewhere.MatchString(block[1]) {
			blocks = append(blocks, block[1])
		}
	}
	return blocks
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
