package main_test

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/portbook/portbook/registry/registrytest"
)

// The commands of each section of doc/coming-from.md work as they are written, and the last ones
// of a section print what says that.
func TestComingFrom(t *testing.T) {
	t.Parallel()
	page := read(t, "../../../doc/coming-from.md")
	sections := strings.Split(page, "\n## ")[1:]
	says := map[string]string{ // what the last block prints
		"The ToolHive registry server":                       "database.maxOpenConns",
		"The registry of Deploys.app":                        `"name":"app"`,
		"The fork of the stock registry with web management": "team/app",
		"flagstate":               `"Name":"team/app"`,
		"pesde's registry server": `"acme/app"`,
	}
	if len(sections) != len(says) {
		t.Fatalf("got %d sections, want %d", len(sections), len(says))
	}
	for _, text := range sections {
		title, _, _ := strings.Cut(text, "\n")
		want := says[title]
		if want == "" {
			t.Fatalf("this test does not know the section %q", title)
		}
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			m := newMachine(t)
			blocks := shellBlocks(text)
			last := ""
			for _, block := range blocks {
				last = m.shell(block)
			}
			if !strings.Contains(last, want) { // the event of a push may be on its way
				within(t, patience, "the last commands print "+want, func() bool {
					return strings.Contains(m.shell(blocks[len(blocks)-1]), want)
				})
			}
		})
	}
}

// A machine is what a section of the page finds: an empty directory, our programs, PostgreSQL with
// an empty database, and a registry with an image.
type machine struct {
	t           *testing.T
	f           *fleet
	dir         string
	environ     []string
	page        *strings.Replacer // addresses of the page by those of the test
	operations  string
	ours, other string // addresses of the indexer, and of a registry that a section starts
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	f := launch(t)
	f.image(t, "team/app")
	m := &machine{t: t, f: f, dir: t.TempDir(), ours: f.address, operations: registrytest.FreeAddr(t), other: registrytest.FreeAddr(t)}
	for _, statement := range []string{"CREATE ROLE registry SUPERUSER LOGIN PASSWORD 'secret'", "CREATE DATABASE registry OWNER registry"} {
		if _, err := f.pool().Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	database, err := url.Parse(f.postgres.URL("registry"))
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(m.dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, program := range map[string]string{"portbook": f.binary, "registry": registrytest.Binary(t)} {
		if err := os.Symlink(program, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	registry := strings.TrimPrefix(f.registry.URL, "http://")
	_, port, _ := strings.Cut(m.ours, ":")
	m.page = strings.NewReplacer(
		"127.0.0.1:8080", m.ours, "PORT=8080", "PORT="+port, "127.0.0.1:5432", database.Host, "port: 5432", "port: "+database.Port(),
		"sslMode: require", "sslMode: disable", "/registry\n", "/registry?sslmode=disable\n", "127.0.0.1:5001", registry,
	)
	m.environ = []string{
		"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + m.dir, "PORTBOOK_HTTP_OPERATIONS_ADDRESS=" + m.operations,
		"OTEL_TRACES_EXPORTER=none",
	}
	return m
}

// shell runs a block of the page. If it starts servers, it waits until they answer.
func (m *machine) shell(block string) string {
	m.t.Helper()
	registry := strings.TrimPrefix(m.f.registry.URL, "http://")
	if strings.Contains(block, "registry serve") {
		registry = m.other
	}
	block = strings.ReplaceAll(m.page.Replace(block), "127.0.0.1:5000", registry)
	if strings.Contains(block, "portbook serve") && !strings.Contains(block, "PORT=") && !m.has(".env") {
		block = "export PORTBOOK_HTTP_ADDRESS=" + m.ours + "\n" + block // no other setting says so
	}
	out := &text{}
	cmd := exec.Command("sh", "-euc", block)
	cmd.Dir, cmd.Env = m.dir, m.environ
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // with what it starts in the background
	log, err := os.CreateTemp(m.dir, "output-")
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log // a pipe would be open as long as the servers run
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	err = cmd.Wait()
	_, _ = out.Write([]byte(read(m.t, log.Name())))
	if err != nil {
		m.t.Fatalf("%v of\n%s\n%s", err, block, out)
	}
	if strings.Contains(block, "registry serve") {
		m.until("the registry answers", log.Name(), func() bool { return status("http://"+m.other+"/v2/") == http.StatusUnauthorized })
	}
	if strings.Contains(block, "portbook serve") {
		m.until("the indexer is ready", log.Name(), func() bool { return status("http://"+m.operations+"/readyz") == http.StatusOK })
		if !strings.Contains(block, "registry serve") {
			m.until("the scan has found the image", log.Name(), func() bool {
				code := status("http://" + m.ours + "/api/v1/repositories/team/app/-/manifests/v1")
				return code == http.StatusOK
			})
		}
	}
	return out.String()
}

func (m *machine) has(name string) bool {
	_, err := os.Stat(filepath.Join(m.dir, name))
	return err == nil
}

// until waits for a server that writes its log to a file.
func (m *machine) until(what, log string, done func() bool) {
	m.t.Helper()
	defer func() {
		if m.t.Failed() {
			m.t.Logf("%s:\n%s", what, read(m.t, log))
		}
	}()
	within(m.t, patience, what, done)
}
