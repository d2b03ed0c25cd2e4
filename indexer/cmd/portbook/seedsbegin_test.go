package main_test

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/registry/registrytest"
	"github.com/portbook/portbook/schema/localpg/process"
)

// A beginning is a section of doc/seeds.md as somebody begins who comes from that system.
type beginning struct {
	section string
	files   map[string]string // what that system had, in the working directory
	replace []string          // names of the page, and of this test
	method  string            // of a request that must work in the end
	path    string
	secret  string // as Authorization
	status  int
	wrote   map[string]string // what must be in files that the commands write
}

// The first commands of each section of doc/seeds.md must work with the files and variables of
// that system.
func TestSeedsBegin(t *testing.T) {
	t.Parallel()
	f := launch(t)
	server, err := url.Parse(f.postgres.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(t.TempDir(), "index.git")
	if out, err := exec.CommandContext(t.Context(), "git", "init", "-q", "--bare", index).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v, %s", err, out)
	}
	for _, b := range []beginning{
		{
			section: "ToolHive registry server",
			files: map[string]string{"config.yaml": `
registry: {url: ` + f.registry.URL + `}
database:
  host: ` + server.Hostname() + `
  port: ` + server.Port() + `
  user: ` + server.User.Username() + `
  database: postgres
  sslMode: disable
  maxOpenConns: 25
  maxIdleConns: 5
  connMaxLifetime: '5m'
  maxMetaSize: 262144
`},
			method: "GET", path: "/v1/search?q=", status: http.StatusOK,
		},
		{
			section: "The registry of Deploys.app",
			replace: []string{
				"postgres://user:pass@host/db", f.database, "http://registry:5000", f.registry.URL, "=...", "=s3cret",
			},
			method: "POST", path: "/internal/calculateProjectStorage", secret: "Bearer s3cret", status: http.StatusNoContent,
		},
		{
			section: "The fork with a web management",
			files: map[string]string{"portbook.yaml": `
registry: {url: ` + f.registry.URL + `}
storage:
  filesystem: {rootdirectory: /var/lib/registry}
  cache: {blobdescriptor: redis, blobdescriptorsize: 10000}
redis: {addr: "localhost:6379", password: "", db: 0}
webmanagement: {enabled: true}
audit:
  enabled: true
  database: {type: postgresql, dsn: "` + f.database + `"}
auth:
  database: {type: postgresql, dsn: "` + f.database + `"}
`},
			method: "GET", path: "/settings", status: http.StatusOK,
			wrote: map[string]string{"registry.yml": "addrs:"},
		},
		{
			section: "flagstate",
			files: map[string]string{"flagstate.yaml": `
registry: {url: ` + f.registry.URL + `, public_url: /}
components: {web_ui: true, assert_endpoint: false}
events: {token: "s3cret"}
database: {postgres: {url: "` + f.database + `"}}
cache: {max_age_index: 5s, max_age_html: 5s}
interval: {fetch_all: 1h, garbage_collect: 30m}
`},
			method: "GET", path: "/index/static", status: http.StatusOK,
		},
		{
			section: "A registry of pesde",
			files: map[string]string{".env": `
INDEX_REPO_URL=` + index + `
GIT_USERNAME=bot
GIT_PASSWORD=x
COMMITTER_GIT_NAME="pesde index updater"
COMMITTER_GIT_EMAIL=pesde@localhost
DATA_DIR={CWD}/data
READ_NEEDS_AUTH=
ACCESS_TOKEN=s3cret
FS_STORAGE_ROOT=/srv/pesde
PORTBOOK_REGISTRY_URL=` + f.registry.URL + `
DB_URL=` + f.database + `
`},
			method: "GET", path: "/index/info/refs?service=git-upload-pack", secret: "Bearer s3cret", status: http.StatusOK,
			wrote: map[string]string{"registry.yml": "rootdirectory: /srv/pesde", "jwks.json": `"keys"`},
		},
	} {
		t.Run(b.section, func(t *testing.T) {
			t.Parallel()
			b.run(t, f)
		})
	}
}

// run runs the commands of the section, the last of which serves, and sends the request.
func (b beginning) run(t *testing.T, f *fleet) {
	dir := t.TempDir()
	for name, text := range b.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	i := &indexerProcess{address: registrytest.FreeAddr(t), operations: registrytest.FreeAddr(t), log: &text{}}
	_, port, _ := strings.Cut(i.address, ":")
	names := append(b.replace, "portbook serve", "exec portbook serve", "PORT=8080", "PORT="+port, ":8080", ":"+port)
	cmd := exec.Command("sh", "-ec", strings.NewReplacer(names...).Replace(b.commands(t)))
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + filepath.Dir(f.binary) + ":" + os.Getenv("PATH"), "HOME=" + dir,
		"PORTBOOK_HTTP_OPERATIONS_ADDRESS=" + i.operations}
	if !strings.Contains(strings.ReplaceAll(b.commands(t), "127.0.0.1:8080", ""), "8080") {
		cmd.Env = append(cmd.Env, "PORT="+port)
	}
	var err error
	if i.process, err = process.Start(cmd, nil, i.log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(i.process.Kill)
	i.ready(t)
	r, err := http.NewRequestWithContext(t.Context(), b.method, "http://127.0.0.1:"+port+b.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b.secret != "" {
		r.Header.Set("Authorization", b.secret)
	}
	got := 0
	for end := time.Now().Add(15 * time.Second); got != b.status && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if resp, err := client.Do(r); err == nil { // the index is made after the start
			resp.Body.Close()
			got = resp.StatusCode
		}
	}
	if got != b.status {
		t.Errorf("%s: status %d, want %d\n%s", b.path, got, b.status, i.log)
	}
	for name, want := range b.wrote {
		if got := textOf(t, filepath.Join(dir, name)); !strings.Contains(got, want) {
			t.Errorf("%s has no %q:\n%s", name, want, got)
		}
	}
}

// commands returns the first commands of the section.
func (b beginning) commands(t *testing.T) string {
	t.Helper()
	_, after, found := strings.Cut(textOf(t, docs+"seeds.md"), "\n## "+b.section+"\n")
	_, after, opened := strings.Cut(after, "```sh\n")
	block, _, closed := strings.Cut(after, "```")
	if !found || !opened || !closed || !strings.Contains(block, "portbook serve") {
		t.Fatalf("no commands in %s", b.section)
	}
	return block
}
