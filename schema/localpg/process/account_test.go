package process_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/portbook/portbook/schema/localpg/process"
)

func owner(t *testing.T, name string) uint32 {
	t.Helper()
	fi, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Sys().(*syscall.Stat_t).Uid
}

// Own changes the owner of all files, also from an earlier account, but not of a file
// that a link points to.
func TestOwn(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can change owners: run as root")
	}
	dir, err := os.MkdirTemp("", "process-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	outside, inside := filepath.Join(dir, "outside"), filepath.Join(dir, "data")
	file, link := filepath.Join(inside, "deep", "file"), filepath.Join(inside, "link")
	for _, err := range []error{
		os.Chmod(dir, 0o755),
		os.WriteFile(outside, nil, 0o600),
		os.MkdirAll(filepath.Dir(file), 0o700),
		os.WriteFile(file, nil, 0o600),
		os.Symlink(outside, link),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []*process.Account{{Name: "one", UID: 12345, GID: 12345}, {Name: "two", UID: 12346, GID: 12346}} {
		if err := a.Own(inside); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{inside, filepath.Dir(file), file, link} {
			if got := owner(t, name); got != a.UID {
				t.Errorf("%s belongs to %d, want %d", name, got, a.UID)
			}
		}
		if got := owner(t, outside); got != 0 {
			t.Errorf("the target of the link belongs to %d, want 0", got)
		}
	}
}
