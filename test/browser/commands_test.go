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

// The commands that pages offer for copying are run unchanged.

// copyable finds the commands of a page that can be copied, including hidden ones.
const copyable = `[...document.querySelectorAll(".commands button.copy:not([hidden])")].map(b => b.dataset.copy)`

// ran are the tools whose commands are run here. Those of docker need a daemon, and
// test/clients runs them. Debian does not have oras and helm, so their commands were
// only compared with their documentation.
var ran = []string{"podman", "skopeo"}

// isPullable matches the references of valid images. Tools refuse the broken and the
// hostile ones.
var isPullable = regexp.MustCompile(`/(samples|platform|debian|archive|payments)/`)

// commandTimeout limits a command. It copies a few kB.
const commandTimeout = time.Minute

// addCommands collects the commands of a page.
func (c *checker) addCommands(t *tab, p page) error {
	if p.as != nobody { // these commands are for an indexer that knows its address, and may need a login
		return nil
	}
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

// commandsWork runs each collected command.
func (c *checker) commandsWork(t *testing.T) {
	tried := map[string]int{}
	dir := t.TempDir()
	environ := clientEnviron(t, dir)
	for _, command := range slices.Sorted(maps.Keys(c.commands)) {
		tool, _, _ := strings.Cut(command, " ")
		if strings.Contains(command, "HOST") || !strings.Contains(command, strings.TrimPrefix(c.url, "http://")+"/") {
			t.Errorf("%s: %q does not contain the address of this registry", c.commands[command], command)
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
			t.Errorf("no page has a command for %s, only %q", tool, slices.Collect(maps.Keys(c.commands)))
		}
	}
}

// run runs a line in a shell.
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

// clientEnviron returns an environment without settings. Tools store what they pull in
// dir, with the storage driver vfs, which works in containers.
func clientEnviron(t *testing.T, dir string) []string {
	t.Helper()
	storage := fmt.Sprintf("[storage]\ndriver = \"vfs\"\ngraphroot = %q\nrunroot = %q\n", dir+"/root", dir+"/run")
	if err := os.WriteFile(dir+"/storage.conf", []byte(storage), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "XDG_RUNTIME_DIR=" + dir, "CONTAINERS_STORAGE_CONF=" + dir + "/storage.conf"}
}

// withoutScript checks a page that does not know the registry's address. Without
// script, it must say so and offer no commands for copying.
func (c *checker) withoutScript(t *tab) error {
	if _, err := t.open(c.url + "/r/samples/harbour:1.1"); err != nil {
		return err
	}
	for _, text := range []string{"docker pull HOST/samples/harbour:1.1", "HOST stands for the address of this registry"} {
		if err := t.hasText(text); err != nil {
			return err
		}
	}
	buttons, err := t.elements("button")
	for _, b := range buttons {
		if strings.HasPrefix(b.name, "Copy") {
			return fmt.Errorf("the button %q has no effect without script", b.name)
		}
	}
	return err
}
