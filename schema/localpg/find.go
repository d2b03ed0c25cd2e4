package localpg

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// ErrNotInstalled means that PostgreSQL is not installed. A test that needs it should
// skip itself, or fail if CI is set.
var ErrNotInstalled = errors.New("PostgreSQL is not installed: neither PATH nor /usr/lib/postgresql has initdb;" +
	" on Debian or Ubuntu run: apt-get install postgresql")

// BinVariable is the environment variable with the directory of PostgreSQL's
// programs. It comes before all other places, so that CI can test several versions.
const BinVariable = "PORTBOOK_POSTGRES_BIN"

// debianBin matches the directories of PostgreSQL's programs on Debian and its
// derivatives. They are not in PATH, because several versions can be installed.
var debianBin = "/usr/lib/postgresql/*/bin"

// Find returns the directory of PostgreSQL's server programs: the one that BinVariable
// names, else the one with the initdb in PATH, else the newest of Debian. It returns
// ErrNotInstalled if there is none, and another error if BinVariable names a directory
// without the programs.
func Find() (binDir string, err error) { return find("") }

// find is like Find for a cluster of a major version, which other versions cannot
// open. An empty version means any.
func find(version string) (string, error) {
	dirs, err := candidates()
	if err != nil {
		return "", err
	}
	if version == "" {
		return dirs[0], nil
	}
	for _, dir := range dirs {
		if serves(dir, version) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("the data needs PostgreSQL %s, which is not installed (%s is):"+
		" install postgresql-%[1]s, or move the directory away to start empty", version, dirs[0])
}

// candidates returns the directories with initdb and postgres, best first, at least
// one.
func candidates() ([]string, error) {
	if dir := os.Getenv(BinVariable); dir != "" {
		if !holdsServer(dir) {
			return nil, fmt.Errorf("%s is %q, which does not have initdb and postgres:"+
				" set it to the directory of PostgreSQL's programs, or unset it", BinVariable, dir)
		}
		return []string{dir}, nil
	}
	var dirs []string
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	debian, _ := filepath.Glob(debianBin) // fails only if the pattern is malformed
	slices.SortFunc(debian, func(a, b string) int { return major(b) - major(a) })
	dirs = append(dirs, debian...)
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return !holdsServer(dir) })
	if len(dirs) == 0 {
		return nil, ErrNotInstalled
	}
	return dirs, nil
}

func holdsServer(dir string) bool {
	return exists(filepath.Join(dir, "initdb")) && exists(filepath.Join(dir, "postgres"))
}

// major returns the version in a directory of debianBin, such as 15 for
// /usr/lib/postgresql/15/bin, or 0 if there is none.
func major(dir string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	return n
}

// serves reports whether the programs in dir have the major version. It runs one of
// them, because only on Debian the name of the directory has the version.
func serves(dir, version string) bool {
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return false
	}
	var product, open string
	var v float64
	_, err = fmt.Sscan(string(out), &product, &open, &v) // postgres (PostgreSQL) 15.18 (Debian ...)
	return err == nil && strconv.Itoa(int(v)) == version
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
