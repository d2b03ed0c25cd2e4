package main_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/portbook/portbook/registry/registrytest"
)

// elsewhere matches blocks of commands that need a cluster, or a client that has logged in.
var elsewhere = regexp.MustCompile(`(?m)\b(kubectl|curl|docker) `)

// The commands of doc/access.md work as they are written, one after the other, and lead to a
// robot that may push.
func TestAccessDoc(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../doc/access.md")
	if err != nil {
		t.Fatal(err)
	}
	f := launch(t)
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
	yaml := regexp.MustCompile("(?s)```yaml\n(registry:.*?)```").FindSubmatch(page)
	if yaml == nil {
		t.Fatal("the page has no configuration")
	}
	for name, text := range map[string]string{"portbook.yaml": here.Replace(string(yaml[1])), "password.txt": password + "\n"} {
		if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := "PORTBOOK_CONFIG=" + filepath.Join(f.dir, "portbook.yaml")
	robot, blocks := "", 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllSubmatch(page, -1) {
		if elsewhere.Match(block[1]) {
			continue
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-euc", here.Replace(string(block[1])))
		cmd.Dir, cmd.Env = f.dir, f.environment(config, "PATH="+f.dir+"/bin:"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v of\n%s\n%s", err, block[1], out)
		}
		if token := regexp.MustCompile(`(?m)^pbt_\S+$`).Find(out); token != nil {
			robot = string(token)
		}
		blocks++
	}
	i := f.indexer(registrytest.FreeAddr(t), config)
	code, _, text := i.get(t, "/auth/token?scope=repository:team/app:push", "ci", robot)
	if code != http.StatusOK || !strings.Contains(text, "repository:team/app:push") || blocks < 5 {
		t.Errorf("after %d blocks the robot gets %d: %s", blocks, code, text)
	}
}
