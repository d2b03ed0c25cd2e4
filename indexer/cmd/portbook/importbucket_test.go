package main_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
)

// r2 are the variables of a bucket of R2.
var r2 = []string{"R2_ACCESS_KEY_ID=the-key", "R2_SECRET_ACCESS_KEY=" + secret}

// What is missing or wrong is named, and nothing begins.
func TestImportBucketRefuses(t *testing.T) {
	t.Parallel()
	to := "FS_STORAGE_ROOT=" + t.TempDir()
	foreign := t.TempDir()
	program(t, foreign, `echo "Error: unknown command"`) // as upstream's, with status 0
	tests := map[string]struct {
		environ []string
		args    []string
		want    string
	}{
		"no source":      {[]string{to}, nil, "set R2_ACCESS_KEY_ID, R2_ACCOUNT_ID, R2_SECRET_ACCESS_KEY for"},
		"no storage":     {append(r2, "R2_ACCOUNT_ID=a1"), nil, "no storage backend configured"},
		"bad account":    {append(r2, to, "R2_ACCOUNT_ID=evil.example/"), nil, "R2_ACCOUNT_ID is not"},
		"bad endpoint":   {append(r2, to, "R2_ENDPOINT=u:p@host"), nil, "R2_ENDPOINT is not a URL"},
		"bad workers":    {append(r2, to, "R2_ACCOUNT_ID=a1", "WORKERS=many"), nil, "WORKERS is not 1 to 256"},
		"too many":       {append(r2, to, "R2_ACCOUNT_ID=a1"), []string{"--workers", "1000"}, "--workers is not 1 to 256"},
		"no program":     {append(r2, to, "R2_ACCOUNT_ID=a1", "PATH=/nonexistent"), nil, "go build -C registry"},
		"another's":      {append(r2, to, "R2_ACCOUNT_ID=a1", "PATH="+foreign), nil, "has no command copy"},
		"with arguments": {append(r2, to, "R2_ACCOUNT_ID=a1"), []string{"images"}, "takes no argument"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, code := indexerCommand(t, test.environ, append([]string{"import", "bucket"}, test.args...)...)
			if code == 0 || !strings.Contains(out, test.want) || strings.Contains(out, secret) {
				t.Errorf("exit status %d, want one with %q:\n%s", code, test.want, out)
			}
		})
	}
}

// program writes a script called registry.
func program(t *testing.T, dir, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "registry"), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// Keys reach the copy through a pipe: arguments and environment do not have them.
func TestImportBucketHidesKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program(t, dir, `[ "$2" = --help ] && { echo --from; exit; }
echo "args: $*"; env | sed 's/^/env: /'; cat /dev/fd/3 /dev/fd/4`)
	out, code := indexerCommand(t, append(r2, "R2_ACCOUNT_ID=a1", "FS_STORAGE_ROOT=/srv/images", "WORKERS=3",
		"REGISTRY_STORAGE_DELETE_ENABLED=true", "PATH="+dir+":/bin:/usr/bin"), "import", "bucket", "--keep-tags")
	if code != 0 {
		t.Fatalf("exit status %d:\n%s", code, out)
	}
	for _, want := range []string{"args: copy --workers 3 --keep-tags --from /dev/fd/3 /dev/fd/4\n",
		"bucket: deploys-registry", "region: auto", "https://a1.r2.cloudflarestorage.com", "secretkey: " + secret,
		"rootdirectory: /srv/images"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q:\n%s", want, out)
		}
	}
	for line := range strings.Lines(out) {
		shown := strings.HasPrefix(line, "args: ") || strings.HasPrefix(line, "env: ")
		if shown && (strings.Contains(line, secret) || strings.Contains(line, "REGISTRY_STORAGE")) {
			t.Errorf("shown: %s", line)
		}
	}
}

// The real program asks R2 for the bucket, with a signature of the key, and fails if no registry
// keeps its content there.
func TestImportBucketOfR2(t *testing.T) {
	t.Parallel()
	var signed atomic.Int64
	r2Server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		login := r.Header.Get("Authorization")
		if r.URL.Path == "/images" && strings.Contains(login, "Credential=the-key/") && strings.Contains(login, "/auto/s3/") {
			signed.Add(1)
		}
		w.Write([]byte(`<ListBucketResult><Name>images</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated>` +
			`</ListBucketResult>`))
	}))
	t.Cleanup(r2Server.Close)
	out, code := indexerCommand(t, append(r2, "R2_ENDPOINT="+r2Server.URL, "R2_BUCKET=images",
		"FS_STORAGE_ROOT="+t.TempDir(), inPath(t)), "import", "bucket")
	if code != 1 || signed.Load() == 0 || !strings.Contains(out, "has no docker/registry/v2") {
		t.Errorf("exit status %d, %d requests:\n%s", code, signed.Load(), out)
	}
}

// inPath returns a PATH in which the real registry is.
func inPath(t *testing.T) string {
	t.Helper()
	return "PATH=" + filepath.Dir(registrytest.Binary(t))
}

// A registry serves what was copied into its storage, and a second copy finds all there.
func TestImportBucket(t *testing.T) {
	t.Parallel()
	old := registrytest.StartProcess(t, registrytest.ProcessConfig{})
	if _, err := old.Push.Image(t.Context(), "team/app", "v1", push.ImageSpec{Layers: [][]byte{[]byte("x")}}); err != nil {
		t.Fatal(err)
	}
	from := file(t, "old.yml", "version: 0.1\nstorage: {filesystem: {rootdirectory: '"+old.Root+"'}}\n")
	root := t.TempDir()
	for _, want := range []string{" copied (3 blobs, ", " 0 copied"} {
		out, code := indexerCommand(t, []string{"FS_STORAGE_ROOT=" + root, inPath(t)}, "import", "bucket", "--from", from)
		if code != 0 || !strings.Contains(out, want) || !strings.Contains(out, " 0 failed") {
			t.Errorf("exit status %d, want %q:\n%s", code, want, out)
		}
	}
	ours := registrytest.StartProcess(t, registrytest.ProcessConfig{Root: root})
	if got, want := manifestDigest(t, ours.URL), manifestDigest(t, old.URL); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func manifestDigest(t *testing.T, address string) digest.Digest {
	t.Helper()
	d, err := repositoryAt(t, address, "team/app", "", "").Resolve(t.Context(), "v1")
	if err != nil {
		t.Fatal(err)
	}
	return d.Digest
}
