package transfer_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// A bucket is an S3 server, of which requests fail as often as failing says, in a thousand.
type bucket struct {
	url      string
	backend  gofakes3.Backend
	failing  atomic.Int64
	requests atomic.Int64
}

func startBucket(t *testing.T) *bucket {
	t.Helper()
	b := &bucket{backend: s3mem.New()}
	if err := b.backend.CreateBucket("old"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(b.backend, gofakes3.WithLogger(gofakes3.DiscardLog())).Server())
	t.Cleanup(server.Close)
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.requests.Add(1)
		// A list that fails ends the copy; here objects fail, so that no try helps.
		if r.URL.RawQuery == "" && rand.Int64N(1000) < b.failing.Load() {
			http.Error(w, "<Error><Code>AccessDenied</Code></Error>", http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	b.url = front.URL
	return b
}

// config writes a configuration of the registry.
func config(t *testing.T, storage string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "config.yml")
	text := "version: 0.1\nstorage: " + storage + "\nhttp: {addr: '127.0.0.1:0'}\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// A bucket with 1,000 objects and more is copied into a directory, although objects cannot be read at
// first, one is broken, and the program is killed; then a registry serves all of it.
func TestCopyBucket(t *testing.T) {
	t.Parallel()
	b := startBucket(t)
	storage := fmt.Sprintf("{s3: {region: us-east-1, bucket: old, regionendpoint: '%s', forcepathstyle: true,"+
		" accesskey: key, secretkey: marker-of-a-secret}}", b.url)
	source := config(t, storage)
	old := registrytest.StartProcess(t, registrytest.ProcessConfig{File: "s3.yml", Env: []string{
		"REGISTRY_STORAGE_S3_BUCKET=old", "REGISTRY_STORAGE_S3_REGIONENDPOINT=" + b.url, "REGISTRY_STORAGE_S3_FORCEPATHSTYLE=true",
		"REGISTRY_STORAGE_S3_ACCESSKEY=key", "REGISTRY_STORAGE_S3_SECRETKEY=secret", "REGISTRY_STORAGE_REDIRECT_DISABLE=true",
	}})
	images := map[string]ocispec.Descriptor{}
	for i := range 40 {
		name := fmt.Sprintf("team/app%d", i%4)
		tag := fmt.Sprintf("v%d", i)
		desc, err := old.Push.Image(t.Context(), name, tag, push.ImageSpec{
			Labels: map[string]string{"i": tag}, Files: map[string]string{"f": strings.Repeat(tag, 5000)},
		})
		if err != nil {
			t.Fatal(err)
		}
		images[name+":"+tag] = desc
	}
	old.Kill()
	put := func(name string, content []byte) {
		t.Helper()
		if _, err := b.backend.PutObject("old", name, nil, bytes.NewReader(content), int64(len(content)), nil); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1000 {
		put(fmt.Sprintf("other/%04d", i), []byte(fmt.Sprint(i)))
	}
	put("docker/registry/v2/repositories/team/app0/_uploads/x/data", []byte("unfinished"))
	broken := "docker/registry/v2/blobs/sha256/aa/" + strings.Repeat("a", 64) + "/data"
	put(broken, bytes.Repeat([]byte("x"), 10_000))

	root := t.TempDir()
	to := config(t, "{filesystem: {rootdirectory: '"+root+"'}}")
	program := registrytest.Binary(t)
	run := func() (string, error) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), program, "copy", "--from", source, to).CombinedOutput()
		return string(out), err
	}
	// Killed in the middle.
	killed := exec.Command(program, "copy", "--from", source, to)
	before := b.requests.Load()
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); b.requests.Load() < before+300 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	_ = killed.Process.Kill()
	_ = killed.Wait()
	b.failing.Store(5) // each object is tried three times, and reads of some fail all the same
	out, err := run()
	if err == nil || !strings.Contains(out, "not copied: /"+broken+": its bytes do not have the digest") ||
		strings.Contains(out, "marker-of-a-secret") {
		t.Errorf("%v\n%s", err, out)
	}
	b.failing.Store(0)
	if out, err = run(); err == nil || !strings.Contains(out, ", 1 failed\n") {
		t.Errorf("the broken blob is not told: %v\n%s", err, out)
	}
	if _, err := b.backend.DeleteObject("old", broken); err != nil {
		t.Fatal(err)
	}
	if out, err = run(); err != nil || !strings.HasPrefix(out, "0 objects copied (0 bytes), ") {
		t.Errorf("the last run: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(root, "docker/registry/v2/repositories/team/app0/_uploads")); err == nil {
		t.Error("an unfinished upload was copied")
	}
	if content, err := os.ReadFile(filepath.Join(root, "other/0999")); err != nil || string(content) != "999" {
		t.Errorf("another object: %q, %v", content, err)
	}
	fresh := registrytest.StartProcess(t, registrytest.ProcessConfig{Root: root})
	for name, want := range images {
		repository, tag, _ := strings.Cut(name, ":")
		desc, body, err := fresh.Push.Fetch(t.Context(), repository, tag)
		if err != nil || desc.Digest != want.Digest {
			t.Errorf("%s: %v, %v", name, desc.Digest, err)
			continue
		}
		for _, d := range blobsOf(t, body) {
			if _, err := fresh.Push.FetchBlob(t.Context(), repository, d); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// blobsOf returns the blobs that a manifest names.
func blobsOf(t *testing.T, manifest []byte) (all []digest.Digest) {
	t.Helper()
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		t.Fatal(err)
	}
	for _, l := range append(m.Layers, m.Config) {
		all = append(all, l.Digest)
	}
	return all
}

// Variables that would change both configurations, and a file that is not there, are refused.
func TestCopyRefuses(t *testing.T) {
	t.Parallel()
	program, to := registrytest.Binary(t), config(t, "{filesystem: {rootdirectory: '"+t.TempDir()+"'}}")
	for _, c := range []struct {
		env, from, want string
	}{
		{"REGISTRY_STORAGE_S3_BUCKET=x", to, "REGISTRY_STORAGE_S3_BUCKET is set"},
		{"X=1", "/nowhere.yml", "/nowhere.yml"},
	} {
		command := exec.CommandContext(t.Context(), program, "copy", "--from", c.from, to)
		command.Env = append(os.Environ(), c.env)
		if out, err := command.CombinedOutput(); err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%v %s, want %s", err, out, c.want)
		}
	}
}
