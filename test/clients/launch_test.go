package clients

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// dataDir returns a new directory that servers of another user can reach. t.TempDir is
// below a directory of mode 0700.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "portbook-clients-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// launch starts a system for one test.
func launch(t *testing.T, addr, data string, args ...string) *system {
	t.Helper()
	s, err := start(addr, data, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// A second start finds the images, the database and the password of the first. It does
// not push the samples again, which would move a tag. Another system runs at the same
// time.
func TestSecondStart(t *testing.T) {
	need(t, "skopeo")
	other := portbook(t)
	data := dataDir(t)
	addr := freeAddress(t)
	first := launch(t, addr, data)
	copyImage(t, "docker://"+addr+"/samples/lighthouse:0.3.0", "docker://"+addr+"/me/kept:1")
	run(t, "skopeo", "delete", "--tls-verify=false", "docker://"+addr+"/samples/cargo:2.4")
	wantGone(t, addr, "cargo", "samples/cargo")
	want := describe(t, addr, "samples/lighthouse")
	wantFound(t, addr, "kept", hit{"me/kept", want})
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}

	launch(t, addr, data)
	wantFound(t, addr, "kept", hit{"me/kept", want})
	wantPage(t, addr, "/v2/me/kept/tags/list", http.StatusOK, `["1"]`)
	if got := search(t, addr, "cargo"); slices.ContainsFunc(got, func(h hit) bool { return h.Name == "samples/cargo" }) {
		t.Errorf("the second start pushed the deleted sample again: got %v", got)
	}
	if got := search(t, other, "kept"); len(got) != 0 {
		t.Errorf("other system: got %v, want nothing", got)
	}
}

// With -samples no, the registry is empty.
func TestNoSamples(t *testing.T) {
	s := launch(t, freeAddress(t), dataDir(t), "-samples", "no")
	if got := search(t, s.addr, ""); len(got) != 0 {
		t.Errorf("got %v, want nothing", got)
	}
}

// make up refuses wrong settings before it starts anything, and names a remedy.
func TestRefusals(t *testing.T) {
	addr := portbook(t)
	for _, test := range []struct{ name, addr, data, want string }{
		{"address in use", addr, dataDir(t), "address already in use: stop the program that listens there, or choose another address"},
		{"folder in use", freeAddress(t), shared.system.data, "another `make up` uses this folder"},
		{"no address", "7080", dataDir(t), "ADDR=7080: want host:port"},
	} {
		s, err := start(test.addr, test.data)
		if err == nil {
			s.stop()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", test.name, err, test.want)
		}
	}
}

// Secrets are not printed, and only their owner can read their files.
func TestSecrets(t *testing.T) {
	portbook(t)
	for _, name := range []string{"events-token", "postgres/password"} {
		file := filepath.Join(shared.system.data, name)
		secret, err := os.ReadFile(file)
		if err != nil || len(secret) < 16 {
			t.Fatalf("secret of %s: got %q, %v", name, secret, err)
		}
		if strings.Contains(shared.system.output.String(), string(secret)) {
			t.Errorf("the secret of %s was printed", name)
		}
	}
	for _, name := range []string{"events-token", "postgres/password", "indexer.yaml"} {
		fi, err := os.Stat(filepath.Join(shared.system.data, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Mode().Perm(); got != 0o600 {
			t.Errorf("%s: got mode %v, want 0600", name, got)
		}
	}
}
