package storage

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

const (
	// patience limits a start and a build: 2 minutes. A build of the server of S3 takes one if
	// nothing of it is in the cache.
	patience = 2 * time.Minute
	bucket   = "images"
	token    = "for the indexer"
	secret   = "the secret of the store"
)

// The directory of FS_STORAGE_ROOT has what is pushed.
func TestFilesystem(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	p := start(t, []string{"FS_STORAGE_ROOT=" + root})
	if redirected := check(t, p); redirected != "" {
		t.Errorf("a blob in a directory is redirected to %s", redirected)
	}
	if files, err := filepath.Glob(root + "/docker/registry/v2/blobs/sha256/*/*/data"); err != nil || len(files) == 0 {
		t.Errorf("got files %v, %v in the directory", files, err)
	}
}

// The bucket of S3_BUCKET_NAME has what is pushed, also if FS_STORAGE_ROOT is set. The server
// checks each signature, so it has the right key. Clients are sent to it for blobs.
func TestS3(t *testing.T) {
	t.Parallel()
	endpoint, dir := startS3(t)
	root := t.TempDir()
	p := start(t, []string{
		"FS_STORAGE_ROOT=" + root, "S3_ENDPOINT=" + endpoint, "S3_BUCKET_NAME=" + bucket, "S3_REGION=us-east-1",
		"S3_ACCESS_KEY=key", "S3_SECRET_KEY=" + secret,
	})
	if to := check(t, p); !strings.HasPrefix(to, endpoint+"/"+bucket+"/") || !strings.Contains(to, "X-Amz-Signature=") {
		t.Errorf("a blob is redirected to %q, want a signed URL below %s/%s", to, endpoint, bucket)
	}
	if files, err := filepath.Glob(dir + "/" + bucket + "/docker/registry/v2/blobs/sha256/*/*/data"); err != nil || len(files) == 0 {
		t.Errorf("got objects %v, %v in the bucket", files, err)
	}
	if files, err := os.ReadDir(root); err != nil || len(files) > 0 {
		t.Errorf("got %d files in FS_STORAGE_ROOT, %v, although S3 is used", len(files), err)
	}
	// With another key nothing works, so the server does check it.
	text := strings.Replace(read(t, p.config), secret, "another", 1)
	write(t, p.config, text)
	p.Kill()
	p.Start()
	if _, err := p.Push.Image(t.Context(), "demo/other", "v1", push.ImageSpec{}); err == nil {
		t.Error("the store accepts a wrong key")
	}
}

// startS3 starts a server of S3 with one bucket, which is a directory, and returns its URL and
// the directory of all buckets.
func startS3(t *testing.T) (endpoint, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, bucket), 0o755); err != nil {
		t.Fatal(err)
	}
	addr := registrytest.FreeAddr(t)
	program := build(t, ".", "github.com/versity/versitygw/cmd/versitygw")
	server(t, addr, exec.Command(program, "--access", "key", "--secret", secret, "--port", addr, "--region", "us-east-1",
		"--quiet", "posix", dir))
	return "http://" + addr, dir
}

// The cache in Redis has what was pushed. It is named in the way of version 2 of the registry.
func TestRedis(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		missing(t, "redis-server is not installed (apt-get install redis-server)")
	}
	addr := registrytest.FreeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	server(t, addr, exec.Command(program, "--bind", host, "--port", port, "--save", "", "--dir", t.TempDir(),
		"--requirepass", "pass word"))
	check(t, start(t, []string{
		"FS_STORAGE_ROOT=" + t.TempDir(), "PORTBOOK_REDIS_ADDR=" + addr, "PORTBOOK_REDIS_PASSWORD=pass word",
		"PORTBOOK_REDIS_DB=1",
	}))
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "AUTH \"pass word\"\r\nSELECT 1\r\nDBSIZE\r\n")
	lines := bufio.NewReader(conn)
	for range 2 {
		if line, err := lines.ReadString('\n'); err != nil || line != "+OK\r\n" {
			t.Fatalf("Redis says %q, %v", line, err)
		}
	}
	if line, err := lines.ReadString('\n'); err != nil || line == ":0\r\n" || line[0] != ':' {
		t.Errorf("DBSIZE is %q, %v, want more than 0", line, err)
	}
}

// A site is a registry with a configuration that our command has written.
type site struct {
	*registrytest.Process
	config   string
	receiver *registrytest.Receiver
}

// start writes the configuration for settings and starts the registry with it and with environ.
func start(t *testing.T, settings []string, environ ...string) site {
	t.Helper()
	s := site{config: filepath.Join(t.TempDir(), "registry.yml"), receiver: registrytest.NewReceiver(t)}
	cmd := exec.CommandContext(t.Context(), build(t, "../../indexer", "./cmd/portbook"), "registry-config",
		"--out", s.config, "--events-url", s.receiver.URL)
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{"PORTBOOK_EVENTS_TOKEN=" + token}, settings...)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("registry-config: %v: %s", err, out)
	}
	if info, err := os.Stat(s.config); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the configuration, which has secrets, has mode %v, %v", info.Mode(), err)
	}
	s.Process = registrytest.StartProcess(t, registrytest.ProcessConfig{Path: s.config, Env: environ})
	if strings.Contains(s.Log(), secret) || strings.Contains(s.Log(), token) {
		t.Errorf("the log has a secret:\n%s", s.Log())
	}
	return s
}

// check pushes an image, copies it with skopeo, which pulls and pushes, reads a blob, and waits
// for the event. It returns where the registry sends clients for that blob, or "".
func check(t *testing.T, s site) (redirected string) {
	t.Helper()
	content := bytes.Repeat([]byte("a layer "), 100_000)
	if _, err := s.Push.Image(t.Context(), "demo/app", "v1", push.ImageSpec{Layers: [][]byte{content}}); err != nil {
		t.Fatalf("%v; the registry's log:\n%s", err, s.Log())
	}
	skopeo, err := exec.LookPath("skopeo")
	if err != nil {
		missing(t, "skopeo is not installed (apt-get install skopeo)")
	}
	at := "docker://" + strings.TrimPrefix(s.URL, "http://") + "/demo/"
	out, err := exec.CommandContext(t.Context(), skopeo, "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
		at+"app:v1", at+"copy:v2").CombinedOutput()
	if err != nil {
		t.Fatalf("skopeo: %v: %s; the registry's log:\n%s", err, out, s.Log())
	}
	e := s.receiver.Wait(t, "push", func(e registrytest.Event) bool { return e.Action == "push" && e.Target.Tag == "v2" })
	if want := []string{"Bearer " + token}; !slices.Equal(e.Authorization, want) {
		t.Errorf("the event has Authorization %q, want %q", e.Authorization, want)
	}
	blob, err := s.Push.Blob(t.Context(), "demo/copy", content) // it is there already: this returns its digest
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Push.FetchBlob(t.Context(), "demo/copy", blob.Digest); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got a layer of %d bytes, %v, want %d", len(got), err, len(content))
	}
	return location(t, s.URL+"/v2/demo/copy/blobs/"+blob.Digest.String())
}

// location returns where a blob is redirected to by 307, or "" if the registry sends it itself.
func location(t *testing.T, address string) string {
	t.Helper()
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusTemporaryRedirect {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		t.Errorf("the blob: got status %d: %s", resp.StatusCode, text)
	}
	to, err := url.PathUnescape(resp.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// built has the programs of this test binary, by package.
var (
	built    = map[string]string{}
	building sync.Mutex
)

// build builds a program once. Its directory stays until the machine removes it, as that of a test
// binary that go test runs.
func build(t *testing.T, dir, pkg string) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	if file := built[pkg]; file != "" {
		return file
	}
	file := filepath.Join(programs, filepath.Base(pkg))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", file, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v: %s", pkg, err, out)
	}
	built[pkg] = file
	return file
}

// programs is the directory of what build builds.
var programs string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if programs, err = os.MkdirTemp("", "portbook-storage-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(programs)
	return m.Run()
}

// server runs a server until the test ends, and returns when it listens on addr.
func server(t *testing.T, addr string, cmd *exec.Cmd) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	deadline, again := time.After(patience), time.NewTicker(10*time.Millisecond)
	defer again.Stop()
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-again.C:
		case <-ended:
			t.Fatalf("%s ended: %s", cmd.Path, out.String())
		case <-deadline:
			t.Fatalf("%s does not listen on %s after %v", cmd.Path, addr, patience)
		}
	}
}

// missing skips the test, or fails it if CI is set.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(what)
	}
	t.Skip(what)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
