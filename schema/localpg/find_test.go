package localpg

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// install creates directories that look like installed versions of PostgreSQL, and
// makes find look only there.
func install(t *testing.T, versions ...string) {
	t.Helper()
	root := t.TempDir()
	for _, v := range versions {
		bin := filepath.Join(root, v, "bin")
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + v + ".4 (Debian " + v + ".4-1)'\n"
		for _, name := range []string{"initdb", "postgres"} {
			if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	old := debianBin
	debianBin = filepath.Join(root, "*", "bin")
	t.Cleanup(func() { debianBin = old })
	t.Setenv("PATH", root)
	t.Setenv(BinVariable, "")
}

func TestFind(t *testing.T) {
	install(t, "9", "15", "17")
	for _, test := range []struct{ version, want string }{
		{"", "17"}, // the newest by number, not by name
		{"15", "15"},
		{"9", "9"},
	} {
		got, err := find(test.version)
		if err != nil || filepath.Base(filepath.Dir(got)) != test.want {
			t.Errorf("find(%q): got %q, %v, want version %s", test.version, got, err, test.want)
		}
	}
	if _, err := find("16"); err == nil || !strings.Contains(err.Error(), "postgresql-16") {
		t.Errorf(`find("16"): got %v, want an error that names the package`, err)
	}
}

func TestFindNothing(t *testing.T) {
	install(t)
	if _, err := Find(); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("got %v, want ErrNotInstalled", err)
	}
}

// BinVariable comes before all other places. If it names a directory without the
// programs, that is an error.
func TestFindNamed(t *testing.T) {
	install(t, "15", "17")
	wanted := filepath.Join(filepath.Dir(filepath.Dir(debianBin)), "15", "bin")
	t.Setenv(BinVariable, wanted)
	if got, err := Find(); err != nil || got != wanted {
		t.Errorf("got %q, %v, want %s", got, err, wanted)
	}
	t.Setenv(BinVariable, filepath.Dir(wanted))
	if got, err := Find(); err == nil || errors.Is(err, ErrNotInstalled) || !strings.Contains(err.Error(), BinVariable) {
		t.Errorf("got %q, %v, want an error that names %s", got, err, BinVariable)
	}
}
