package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a page shows to be copied into a shell is run, as it was copied.

// copyable gives the commands of a page that can be copied, folded ones too.
const copyable = `[...document.querySelectorAll(".commands button.copy:not([hidden])")].map(b => b.dataset.copy)`

// ran are the tools whose commands are run here. docker's need a daemon:
// test/clients runs them. oras and helm are in no Debian; what they take is
// looked at by their documentation.
var ran = []string{"podman", "skopeo"}

// isPullable tells references of images that are what they say: of those that are
// broken on purpose, and of those of strangers who mean harm, a tool says so.
var isPullable = regexp.MustCompile(`/(samples|platform|debian|archive|payments)/`)

// commandTimeout is for one command; it copies some KB from this machine.
const commandTimeout = time.Minute

// addCommands keeps those of a page.
func (c *checker) addCommands(t *tab, p page) error {
	list, err := evaluate[[]string](t, copyable)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, command := range list {
		c.commands[command] = p.name
	}
	return nil
}

// commandsWork runs each command that was shown.
func (c *checker) commandsWork(t *testing.T) {
	tried := map[string]int{}
	dir := t.TempDir()
	environ := clientEnviron(t, dir)
	for _, command := range slices.Sorted(maps.Keys(c.commands)) {
		tool, _, _ := strings.Cut(command, " ")
		if strings.Contains(command, "HOST") || !strings.Contains(command, strings.TrimPrefix(c.url, "http://")+"/") {
			t.Errorf("%s: %q is not of this registry", c.commands[command], command)
		}
		if !slices.Contains(ran, tool) || !isPullable.MatchString(command) {
			continue
		}
		tried[tool]++
		if err := c.run(t.Context(), dir, environ, command); err != nil {
			t.Errorf("%s shows a command that fails: %v", c.commands[command], err)
		}
	}
	for _, tool := range ran {
		if tried[tool] == 0 {
			t.Errorf("no page has a command for %s: %q", tool, slices.Collect(maps.Keys(c.commands)))
		}
	}
}

// run runs a line as a shell has it.
func (c *checker) run(ctx context.Context, dir string, environ []string, line string) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir, cmd.Env = dir, environ
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return nil
}

// clientEnviron is that of somebody who has set nothing: tools keep what they pull
// in dir, in the form that needs nothing of the kernel.
func clientEnviron(t *testing.T, dir string) []string {
	t.Helper()
	storage := fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", dir+"/root", dir+"/run")
	if err := os.WriteFile(dir+"/storage.conf", []byte(storage), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "CONTAINERS_STORAGE_CONF=" + dir + "/storage.conf"}
}

// withoutScript opens a page that cannot say where the registry is: it must say
// that, and let nobody copy what is no command.
func (c *checker) withoutScript(t *tab) error {
	if _, err := t.open(c.url + "/r/samples/harbour:1.1"); err != nil {
		return err
	}
	for _, text := range []string{"docker pull HOST/samples/harbour:1.1", "HOST stands for the address of this registry"} {
		if err := t.tells(text); err != nil {
			return err
		}
	}
	buttons, err := t.elements("button")
	for _, b := range buttons {
		if strings.HasPrefix(b.name, "Copy") {
			return fmt.Errorf("a button %q does nothing", b.name)
		}
	}
	return err
}
