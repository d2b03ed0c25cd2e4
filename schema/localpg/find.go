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

// ErrNotInstalled means that there is no PostgreSQL to start. A test that needs
// one skips itself then, or fails where CI is set.
var ErrNotInstalled = errors.New("PostgreSQL is not installed: neither PATH nor /usr/lib/postgresql has initdb;" +
	" on Debian or Ubuntu run: apt-get install postgresql")

// BinVariable names the environment variable that says where PostgreSQL's
// programs are, ahead of every other place: CI tests with several versions.
const BinVariable = "PORTBOOK_POSTGRES_BIN"

// debianBin matches the directories of PostgreSQL's programs on Debian and its
// kin, which keep them out of PATH so that several versions live side by side.
var debianBin = "/usr/lib/postgresql/*/bin"

// Find says where PostgreSQL's server programs are: in the directory that
// BinVariable names, else in that of the initdb in PATH, else in Debian's
// newest. It returns ErrNotInstalled if they are in neither of the last two;
// that the first has none is another error.
func Find() (binDir string, err error) { return find("") }

// find is Find for a cluster that was made by a major version; another version
// cannot open it. An empty version fits all.
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
	return "", fmt.Errorf("its data was made by version %s, which is not installed (%s is):"+
		" install postgresql-%[1]s, or move the directory away to start empty", version, dirs[0])
}

// candidates are the directories with initdb and postgres, best first; there is
// at least one.
func candidates() ([]string, error) {
	if dir := os.Getenv(BinVariable); dir != "" {
		if !holdsServer(dir) {
			return nil, fmt.Errorf("%s is %q, which does not hold initdb and postgres:"+
				" name the directory of PostgreSQL's programs, or unset it", BinVariable, dir)
		}
		return []string{dir}, nil
	}
	var dirs []string
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	debian, _ := filepath.Glob(debianBin) // fails for a malformed pattern only
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

// major is the version in a directory of debianBin: 15 of
// /usr/lib/postgresql/15/bin, and 0 if it is none.
func major(dir string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	return n
}

// serves tells whether the programs in dir are of the given major version. It
// asks them, since the name of the directory tells on Debian only.
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
