package main_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
