package storage

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/portbook/portbook/registry/registrytest"
)

// make up puts its samples where the same variables say, which it does not show.
func TestUp(t *testing.T) {
	t.Parallel()
	endpoint, buckets := startS3(t)
	root := filepath.Join(servers(t), "content")
	for _, test := range []struct {
		name, content string
		environ, args []string
	}{
		{"directory", root, []string{"FS_STORAGE_ROOT=" + root}, nil},
		{"S3 and logins", filepath.Join(buckets, bucket), []string{
			"FS_STORAGE_ROOT=", "S3_ENDPOINT=" + endpoint, "S3_BUCKET_NAME=" + bucket, "S3_REGION=us-east-1", "S3_ACCESS_KEY=key",
			"S3_SECRET_KEY=" + secret,
		}, []string{"-auth", "yes"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out := up(t, test.environ, test.args...)
			found := 0
			err := filepath.WalkDir(filepath.Join(test.content, "docker/registry/v2/repositories/samples"), func(
				_ string, _ fs.DirEntry, err error) error {
				found++
				return err
			})
			if err != nil || found < 10 {
				t.Errorf("got %d files of the samples, %v; make up said:\n%s", found, err, out)
			}
			if strings.Contains(out, secret) {
				t.Errorf("the secret is shown:\n%s", out)
			}
		})
	}
}

// servers returns a directory that the account of make up's servers can enter.
func servers(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "portbook-storage-up-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// up runs make up until it is ready, stops it, and returns what it printed.
func up(t *testing.T, environ []string, args ...string) string {
	t.Helper()
	cmd := exec.Command(build(t, "../../deploy", "./up"), append(args, "-addr", registrytest.FreeAddr(t), "-data", servers(t))...)
	cmd.Dir = "../.." // it builds the clone of its working directory
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "PORTBOOK_") && !strings.HasPrefix(pair, "GOWORK=") {
			cmd.Env = append(cmd.Env, pair)
		}
	}
	cmd.Env = append(cmd.Env, environ...)
	out := &lines{ready: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		if err := <-ended; err != nil {
			t.Errorf("make up: %v:\n%s", err, out)
		}
	}
	select {
	case <-out.ready:
		stop()
	case err := <-ended:
		t.Fatalf("make up: %v:\n%s", err, out)
	case <-time.After(patience):
		stop()
		t.Fatalf("make up is not ready after %v:\n%s", patience, out)
	}
	return out.String()
}

// lines collects what make up prints, and says when it is ready.
type lines struct {
	mu    sync.Mutex
	text  bytes.Buffer
	ready chan struct{}
	said  bool
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	if !l.said && bytes.Contains(l.text.Bytes(), []byte("Portbook is ready")) {
		l.said = true
		close(l.ready)
	}
	return len(b), nil
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
