package main_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/registry/registrytest"
)

var update = flag.Bool("update", false, "rewrite golden files")

// packageSettings are the settings of an indexer with a registry of packages.
func packageSettings(f *fleet) []string {
	return []string{"PORTBOOK_PACKAGES_ENABLED=true", "PORTBOOK_DATA_DIR=" + filepath.Join(f.dir, "data")}
}

// A session by curl and git, of which the whole output is compared: the index, publishing, what is
// refused, yanks, deprecations, and what is read.
func TestPackageSession(t *testing.T) {
	t.Parallel()
	f := launch(t)
	f.settings = append(packageSettings(f), "ACCESS_TOKEN=t", "PORTBOOK_PACKAGES_API=http://"+f.address)
	f.indexer(f.address)
	awaitIndex(t, f.address)
	script := exec.Command("bash", "-u", "testdata/packages/script.sh")
	script.Env = append(os.Environ(), "P=http://"+f.address)
	out, err := script.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	got := regexp.MustCompile(`20\d\d-\d\d-\d\dT[0-9:.]+Z`).ReplaceAllString(string(out), "TIME")
	got = regexp.MustCompile(`retry in \d+s`).ReplaceAllString(got, "retry in Ns")
	const golden = "testdata/packages/script.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

// awaitIndex waits until there is an index.
func awaitIndex(t *testing.T, address string) {
	t.Helper()
	within(t, patience, "there is an index", func() bool {
		return exec.Command("git", "ls-remote", "--exit-code", "http://"+address+"/index", "HEAD").Run() == nil
	})
}

// git runs git with nobody's configuration and returns what it prints.
func git(t *testing.T, args ...string) string {
	t.Helper()
	command := exec.Command("git", args...)
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@a", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@a")
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// packageArchive returns the archive of a package with a file and more lines in its manifest.
func packageArchive(t *testing.T, name, version, more string) []byte {
	t.Helper()
	const manifest = "name = %q\nversion = %q\n[target]\nenvironment = 'luau'\nlib = 'x.luau'\n%s"
	return archiveOf(t, [2]string{"pesde.toml", fmt.Sprintf(manifest, name, version, more)}, [2]string{"x.luau", "return 1"})
}

// archiveOf returns the archive of files, each a path and a text.
func archiveOf(t *testing.T, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, file := range files {
		text := file[1]
		err := w.WriteHeader(&tar.Header{Name: file[0], Mode: 0o644, Size: int64(len(text)), Typeflag: tar.TypeReg})
		if _, errText := io.WriteString(w, text); errors.Join(err, errText) != nil {
			t.Fatal(err, errText)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// askPackages sends a request to a registry of packages, and returns the status and the body.
func askPackages(ctx context.Context, method, url, token string, body []byte) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// The first who publishes in a scope owns it, by the number of the user at GitHub.
func TestPackageOwners(t *testing.T) {
	t.Parallel()
	f := launch(t)
	github, _ := fakeGitHub(t)
	f.settings = append(packageSettings(f), gitHubSettings(github)...)
	f.indexer(f.address)
	awaitIndex(t, f.address)
	packages := "http://" + f.address + "/v1/packages"
	for _, c := range []struct {
		token, method, at string
		body              []byte
		want              int
	}{
		{"gho_wrong", http.MethodPost, "", packageArchive(t, "acme/foo", "1.0.0", ""), http.StatusUnauthorized},
		{"", http.MethodPost, "", packageArchive(t, "acme/foo", "1.0.0", ""), http.StatusUnauthorized},
		{"gho_right", http.MethodPost, "", packageArchive(t, "acme/foo", "1.0.0", ""), http.StatusOK},
		{"gho_other", http.MethodPost, "", packageArchive(t, "acme/bar", "1.0.0", ""), http.StatusForbidden},
		{"gho_other", http.MethodPost, "", packageArchive(t, "other/bar", "1.0.0", ""), http.StatusOK},
		{"gho_other", http.MethodPut, "/acme%2Ffoo/1.0.0/all/yank", nil, http.StatusForbidden},
		{"gho_other", http.MethodPut, "/acme%2Ffoo/deprecate", []byte("no"), http.StatusForbidden},
		{"gho_other", http.MethodPut, "/nope%2Ffoo/1.0.0/all/yank", nil, http.StatusNotFound},
		{"gho_right", http.MethodPut, "/acme%2Fnope/1.0.0/all/yank", nil, http.StatusNotFound},
		{"gho_right", http.MethodPut, "/acme%2Ffoo/1.0.0/all/yank", nil, http.StatusOK},
	} {
		got, body, err := askPackages(t.Context(), c.method, packages+c.at, c.token, c.body)
		if err != nil || got != c.want {
			t.Errorf("%s %s by %q: %d %s, want %d; %v", c.method, c.at, c.token, got, body, c.want, err)
		}
	}
	clone := filepath.Join(t.TempDir(), "index")
	git(t, "clone", "-q", "http://"+f.address+"/index", clone)
	for scope, want := range map[string]string{"acme": "owners = [1]", "other": "owners = [2]"} {
		if got := git(t, "-C", clone, "show", "HEAD:"+scope+"/scope.toml"); got != want {
			t.Errorf("%s: %s, want %s", scope, got, want)
		}
	}
}

// artifactIsPlain checks that a package is an artifact that other tools can list and copy.
func artifactIsPlain(t *testing.T, registry string, archive []byte) {
	t.Helper()
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		return
	}
	name := "docker://" + strings.TrimPrefix(registry, "http://") + "/pesde/acme/foo"
	out, err := exec.CommandContext(t.Context(), skopeo, "list-tags", "--tls-verify=false", name).CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"1.0.0__luau"`) || !strings.Contains(string(out), `"2.0.0_b__luau"`) {
		t.Errorf("%v %s", err, out)
	}
	dir := t.TempDir()
	command := exec.CommandContext(t.Context(), skopeo, "copy", "--src-tls-verify=false", name+":1.0.0__luau", "dir:"+dir)
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("%v %s", err, out)
	}
	got, err := os.ReadFile(filepath.Join(dir, digest.FromBytes(archive).Encoded()))
	if err != nil || !bytes.Equal(got, archive) {
		t.Errorf("the archive is not among what was copied: %v", err)
	}
}

// emptyIsServed checks that a package may have an empty readme and page, and empty lists.
func emptyIsServed(t *testing.T, packages string) {
	t.Helper()
	const manifest = "name = 'acme/empty'\nversion = '1.0.0'\nauthors = []\n[target]\nenvironment = 'roblox'\nbuild_files = []\n"
	archive := archiveOf(t, [2]string{"pesde.toml", manifest}, [2]string{"README.md", ""}, [2]string{"docs/none.md", " "})
	of := packages + "/acme%2Fempty/1.0.0/roblox"
	for _, c := range []struct {
		method, url string
		body        []byte
		want        string
	}{
		{http.MethodPost, packages, archive, "published acme/empty@1.0.0 roblox"},
		{http.MethodGet, of + "/archive", nil, string(archive)},
		{http.MethodGet, of + "/readme", nil, ""},
		{http.MethodGet, of + "/doc?doc=none", nil, ""},
	} {
		status, body, err := askPackages(t.Context(), c.method, c.url, "t", c.body)
		if err != nil || status != http.StatusOK || body != c.want {
			t.Errorf("%s %s: %d, %d bytes, %v", c.method, c.url, status, len(body), err)
		}
	}
}

// The commands print and replace config.toml, and make the index again of what the registry has.
func TestPackageCommands(t *testing.T) {
	t.Parallel()
	f := launch(t)
	f.settings = append(packageSettings(f), "ACCESS_TOKEN=t", "PORTBOOK_PACKAGES_API=http://"+f.address)
	f.indexer(f.address)
	awaitIndex(t, f.address)
	packages := "http://" + f.address + "/v1/packages"
	publish := func(version string, want int) {
		t.Helper()
		status, body, err := askPackages(t.Context(), http.MethodPost, packages, "t", packageArchive(t, "acme/foo", version, ""))
		if err != nil || status != want {
			t.Errorf("%s: %d %s, want %d; %v", version, status, body, want, err)
		}
	}
	publish("1.0.0", http.StatusOK)
	publish("2.0.0+b", http.StatusOK)
	emptyIsServed(t, packages)
	artifactIsPlain(t, f.registry.URL, packageArchive(t, "acme/foo", "1.0.0", ""))
	config := f.must("packages", "config")
	if !strings.Contains(config, "max_archive_size = 4194304") {
		t.Errorf("config.toml is\n%s", config)
	}
	file := filepath.Join(t.TempDir(), "config.toml")
	set := func(text string) (string, error) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return f.run("packages", "config", "--set", file)
	}
	if out, err := set("api = 'nowhere'"); err == nil || !strings.Contains(out, "api is `nowhere`") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := set(strings.Replace(config, "4194304", "10", 1)); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	publish("3.0.0", http.StatusRequestEntityTooLarge)
	pool := f.pool()
	if _, err := pool.Exec(t.Context(), "TRUNCATE package_file, package_bundle"); err != nil {
		t.Fatal(err)
	}
	// What the registry has and the index lacks is not replaced by another archive.
	f.must("packages", "config") // makes an index
	other := packageArchive(t, "acme/foo", "1.0.0", "other = 1")
	if status, body, err := askPackages(t.Context(), http.MethodPost, packages, "t", other); status != http.StatusConflict {
		t.Errorf("another archive: %d %s %v", status, body, err)
	}
	out := f.must("packages", "rebuild", "--owner", "7")
	if want := "added acme/empty@1.0.0 roblox\nadded acme/foo@1.0.0 luau\nadded acme/foo@2.0.0+b luau\n"; !strings.Contains(out, want) {
		t.Errorf("rebuild: %s, want %s", out, want)
	}
	clone := filepath.Join(t.TempDir(), "index")
	git(t, "clone", "-q", "http://"+f.address+"/index", clone)
	if got := git(t, "-C", clone, "show", "HEAD:acme/scope.toml"); got != "owners = [7]" {
		t.Errorf("the owners are %s", got)
	}
	publish("3.0.0", http.StatusForbidden)
	// A tag that was moved by a push to the registry is told, and the index stays. The protection of
	// packages would put it back.
	if gone, err := pool.Exec(t.Context(), "DELETE FROM protection WHERE pattern = 'pesde/*'"); err != nil || gone.RowsAffected() != 1 {
		t.Errorf("packages are not protected: %v", err)
	}
	repository := f.registry.URL + "/v2/pesde/acme/foo/manifests/"
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	send := func(method, tag string, body io.Reader) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, repository+tag, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", mediaType)
		req.Header.Set("Content-Type", mediaType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode >= http.StatusBadRequest {
			t.Fatal(resp, err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	send(http.MethodPut, "1.0.0__luau", send(http.MethodGet, "2.0.0_b__luau", nil).Body)
	if out, err := f.run("packages", "rebuild"); err == nil || !strings.Contains(out, "left out pesde/acme/foo:1.0.0__luau") {
		t.Errorf("%v: %s", err, out)
	}
}

// gitServer serves repositories below a directory to whom knows the password, and may be away.
func gitServer(t *testing.T, dir string, away *atomic.Bool) *httptest.Server {
	t.Helper()
	path, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, _ := r.BasicAuth()
		switch {
		case away.Load():
			http.Error(w, "away", http.StatusBadGateway)
		case name != "bot" || password != "marker-of-a-secret":
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "who?", http.StatusUnauthorized)
		default:
			if len(r.TransferEncoding) > 0 { // CGI has no chunks
				body, _ := io.ReadAll(r.Body)
				r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
			}
			(&cgi.Handler{Path: path, Args: []string{"http-backend"}, Root: "/", Env: []string{
				"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=bot", "GIT_CONFIG_GLOBAL=/dev/null",
			}}).ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// With the index in a repository elsewhere, what is pushed there counts with the next publish:
// policies, owners, and a history that was rewritten.
func TestPackageIndexElsewhere(t *testing.T) {
	t.Parallel()
	f := launch(t)
	dir := t.TempDir()
	var away atomic.Bool
	server := gitServer(t, dir, &away)
	url, work := server.URL+"/index.git", filepath.Join(t.TempDir(), "work")
	git(t, "init", "-q", "--bare", "--initial-branch", "trunk", filepath.Join(dir, "index.git"))
	git(t, "init", "-q", "--initial-branch", "trunk", work)
	edit := func(path, text string, flags ...string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(work, path)), 0o700),
			os.WriteFile(filepath.Join(work, path), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		git(t, "-C", work, "add", ".")
		git(t, append([]string{"-C", work, "commit", "-q", "-m", "edit " + path}, flags...)...)
		git(t, "-C", work, "push", "-q", "--force", filepath.Join(dir, "index.git"), "HEAD:trunk")
	}
	config := "api = 'http://" + f.address + "'\nmax_archive_size = 2000\n"
	edit("config.toml", config)
	f.settings = append(packageSettings(f), "ACCESS_TOKEN=t", "INDEX_REPO_URL="+url, "GIT_USERNAME=bot",
		"GIT_PASSWORD=marker-of-a-secret", "COMMITTER_GIT_NAME=index updater", "COMMITTER_GIT_EMAIL=index@localhost")
	i := f.indexer(f.address)
	awaitIndex(t, f.address)
	publish := func(name, version, more string, want int) string {
		t.Helper()
		status, body, err := askPackages(t.Context(), http.MethodPost, "http://"+f.address+"/v1/packages", "t",
			packageArchive(t, name, version, more))
		if err != nil || status != want {
			t.Errorf("%s@%s: %d %s, want %d; %v", name, version, status, body, want, err)
		}
		return body
	}
	dependency := "[dependencies]\nx = { repo = 'https://h/r', rev = 'main' }\n"
	publish("acme/foo", "1.0.0", dependency, http.StatusBadRequest)
	edit("config.toml", config+"git_allowed = ['https://h/r']\n")
	publish("acme/foo", "1.0.0", dependency, http.StatusOK)
	git(t, "-C", work, "pull", "-q", "--rebase", filepath.Join(dir, "index.git"), "trunk")
	if got := git(t, "-C", work, "log", "--format=%s %an %ae", "-1"); got != "add acme/foo@1.0.0 luau index updater index@localhost" {
		t.Errorf("the last commit is %q", got)
	}
	edit("acme/scope.toml", "owners = [7]\n")
	publish("acme/foo", "2.0.0", "", http.StatusForbidden)
	away.Store(true)
	if body := publish("other/foo", "1.0.0", "", http.StatusServiceUnavailable); strings.Contains(body, server.URL) {
		t.Errorf("the answer names the server: %s", body)
	}
	away.Store(false)
	edit("acme/scope.toml", "owners = [0, 7]\n", "--amend") // the history is another one
	publish("acme/foo", "2.0.0", "", http.StatusOK)
	head := git(t, "-C", filepath.Join(dir, "index.git"), "rev-parse", "trunk")
	if got, _, _ := strings.Cut(git(t, "ls-remote", "http://"+f.address+"/index", "HEAD"), "\t"); got != head {
		t.Errorf("we serve %s, and the repository has %s", got, head)
	}
	if strings.Contains(i.log.String(), "marker-of-a-secret") {
		t.Error("the password is in the log")
	}
}

// Two writers publish at the same time and are killed again and again: what was answered with 200
// is in the index, which all processes serve alike, and can be downloaded as it was sent.
func TestPackagesOfTwoWriters(t *testing.T) {
	t.Parallel()
	f := launch(t)
	f.settings = append(packageSettings(f), "PORTBOOK_PACKAGES_API=http://"+f.address)
	other := registrytest.FreeAddr(t)
	writers := []*indexerProcess{f.indexer(f.address), f.indexer(other)}
	addresses := []string{f.address, other}
	awaitIndex(t, f.address)
	reader := f.reader(f.postgres)
	// Nobody logs in, so all share one limit, which is not what is tested here.
	stop := make(chan struct{})
	var limits, work sync.WaitGroup
	pool := f.pool()
	limits.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				_, _ = pool.Exec(context.Background(), "DELETE FROM rate_limit")
			}
		}
	})
	var mu sync.Mutex
	published := map[string][]byte{}
	for i := range 4 {
		work.Go(func() {
			for v := range 8 {
				name, version := fmt.Sprintf("acme/p%d", i), fmt.Sprintf("1.%d.0", v)
				archive := packageArchive(t, name, version, "")
				for try := range 100 {
					status, _, err := askPackages(t.Context(), http.MethodPost, "http://"+addresses[(i+try)%2]+"/v1/packages", "", archive)
					if err == nil && (status == http.StatusOK || status == http.StatusConflict) {
						mu.Lock()
						published[name+"@"+version] = archive
						mu.Unlock()
						break
					}
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	for n := range 4 {
		time.Sleep(700 * time.Millisecond)
		writers[n%2].process.Kill()
		writers[n%2] = f.indexer(addresses[n%2])
	}
	work.Wait()
	close(stop)
	limits.Wait()
	if len(published) != 32 {
		t.Errorf("%d of 32 were published", len(published))
	}
	heads := map[string]bool{}
	for _, address := range []string{f.address, other, reader.address} {
		heads[git(t, "ls-remote", "http://"+address+"/index", "HEAD")] = true
	}
	if len(heads) != 1 {
		t.Errorf("the processes serve %v", heads)
	}
	for id, archive := range published {
		name, version, _ := strings.Cut(id, "@")
		at := "http://" + reader.address + "/v1/packages/" + strings.ReplaceAll(name, "/", "%2F") + "/" + version + "/luau/archive"
		if status, body, err := askPackages(t.Context(), http.MethodGet, at, "", nil); err != nil || status != http.StatusOK ||
			body != string(archive) {
			t.Errorf("%s: %d, %d bytes, %v", id, status, len(body), err)
		}
	}
	var found struct{ Count int }
	_, body, _ := askPackages(t.Context(), http.MethodGet, "http://"+f.address+"/v1/search?query=", "", nil)
	if err := json.Unmarshal([]byte(body), &found); err != nil || found.Count != 4 {
		t.Errorf("%s, %v", body, err)
	}
}

// With accounts, publishing takes the right to push and the ownership of the scope; packages are for
// those who may pull them; and the index, which names all, for those who may pull all.
func TestPackagesOfAccounts(t *testing.T) {
	t.Parallel()
	f := launch(t)
	keys := filepath.Join(f.dir, "keys.json")
	f.settings = append(packageSettings(f), "PORTBOOK_AUTH_KEYS="+keys, "PORTBOOK_AUTH_METHOD=accounts",
		"PORTBOOK_REGISTRY_PUBLIC_URL=http://"+f.address)
	f.must("keys", "rotate", keys)
	f.must("migrate", "up", "--yes")
	f.input = password + "\n"
	f.must("user", "add", "--admin", "root")
	tokens := map[string]string{"": ""}
	for name, pattern := range map[string]string{"ann": "pesde/acme/*", "bob": "pesde/*", "eve": "team/*"} {
		f.must("user", "add", name)
		f.must("grant", "add", name, pattern+":push")
		tokens[name] = f.tokenOf(name)
	}
	i := f.indexer(f.address)
	url := "http://" + f.address
	publish := func(who, name string) int {
		t.Helper()
		archive := packageArchive(t, name, "1.0.0", "")
		status, _, err := askPackages(t.Context(), http.MethodPost, url+"/v1/packages", tokens[who], archive)
		if err != nil {
			t.Error(err)
		}
		return status
	}
	within(t, patience, "the index is there", func() bool {
		return f.query(f.pool(), "SELECT count(*) FROM package_bundle") == 1
	})
	if got := publish("ann", "acme/foo"); got != http.StatusOK {
		t.Errorf("ann publishes acme/foo: %d", got)
	}
	for _, c := range []struct {
		who, name string
		want      int
	}{
		{"", "acme/bar", 401}, {"eve", "acme/bar", 403}, {"ann", "other/bar", 403}, {"bob", "acme/bar", 403}, // not the owner
		{"bob", "other/bar", 200}, {"ann", "acme/bar", 200}, {"ann", "acme/bar", 409},
	} {
		if got := publish(c.who, c.name); got != c.want {
			t.Errorf("%q publishes %s: %d, want %d", c.who, c.name, got, c.want)
		}
	}
	const refs, found = "/index/info/refs?service=git-upload-pack", "/v1/search?query=bar"
	for _, c := range []struct {
		who, path string
		status    int
		want      string // in the body
	}{
		{"", refs, 401, ""}, {"eve", refs, 403, ""}, {"ann", refs, 403, ""}, {"bob", refs, 200, "git-upload-pack"},
		{"", "/v1/packages/acme%2Ffoo", 404, ""}, {"eve", "/v1/packages/acme%2Ffoo", 404, ""},
		{"ann", "/v1/packages/acme%2Ffoo", 200, `"1.0.0"`}, {"ann", "/v1/packages/other%2Fbar", 404, ""},
		{"bob", "/v1/packages/acme%2Ffoo/1.0.0/luau/archive", 200, ""},
		{"eve", "/v1/packages/acme%2Ffoo/1.0.0/luau/archive", 404, ""},
		{"", found, 200, `"count":0`}, {"eve", found, 200, `"count":0`},
		{"ann", found, 200, `{"data":[{"name":"acme/bar"`}, {"bob", found, 200, `"count":2`},
	} {
		status, body, err := askPackages(t.Context(), http.MethodGet, url+c.path, tokens[c.who], nil)
		if err != nil || status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%q reads %s: %d %.200s, want %d %s; %v", c.who, c.path, status, body, c.status, c.want, err)
		}
	}
	for _, yank := range []struct {
		who  string
		want int
	}{{"bob", 403}, {"", 401}, {"ann", 200}} {
		at := url + "/v1/packages/acme%2Ffoo/1.0.0/all/yank"
		if got, body, err := askPackages(t.Context(), http.MethodPut, at, tokens[yank.who], nil); err != nil || got != yank.want {
			t.Errorf("%q yanks: %d %s, want %d; %v", yank.who, got, body, yank.want, err)
		}
	}
	i.alive(t)
	if n := f.query(f.pool(), "SELECT count(*) FROM audit WHERE event = 'package.publish' AND actor IN ('ann', 'bob')"); n != 3 {
		t.Errorf("%d publishes are in the audit log, want 3", n)
	}
	clone := filepath.Join(t.TempDir(), "index")
	git(t, "clone", "-q", "http://bob:"+tokens["bob"]+"@"+f.address+"/index", clone)
	owner := f.query(f.pool(), "SELECT id::int FROM account WHERE name = 'ann'")
	if got := git(t, "-C", clone, "show", "HEAD:acme/scope.toml"); got != fmt.Sprintf("owners = [%d]", owner) {
		t.Errorf("the owner is %s, want %d", got, owner)
	}
}
