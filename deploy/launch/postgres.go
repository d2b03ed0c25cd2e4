package launch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/schema/localpg/process"
)

// postgresPrograms say where PostgreSQL is. With the zero value, localpg finds it.
type postgresPrograms struct {
	binDir string
	env    []string
}

// findPostgres finds PostgreSQL or gets it by apt: as root it installs it, otherwise
// it makes a private copy in the data folder.
func (s *system) findPostgres(ctx context.Context) (postgresPrograms, error) {
	if _, err := localpg.Find(); err == nil {
		return postgresPrograms{}, nil // localpg chooses the version of the data
	}
	if p, ok := s.privateCopy(); ok {
		return p, nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return postgresPrograms{}, fmt.Errorf("%w, on other systems install the package postgresql;"+
			" or set DATABASE_URL to a running database; or use docker compose up", localpg.ErrNotInstalled)
	}
	if os.Geteuid() == 0 {
		return postgresPrograms{}, s.installPostgres(ctx)
	}
	return s.downloadPostgres(ctx)
}

// createCluster is the file that configures whether Debian creates and starts a server
// on port 5432 when PostgreSQL is installed. We do not use that server.
const createCluster = "/etc/postgresql-common/createcluster.conf"

// installPostgres installs Debian's package: 37 packages, 77 MB and 14 s on a
// minimal Debian 12 (measured).
func (s *system) installPostgres(ctx context.Context) error {
	s.out.print("Installing PostgreSQL with apt-get (about 80 MB)")
	if err := noMainCluster(); err != nil {
		return err
	}
	install := []string{"install", "-y", "--no-install-recommends", "postgresql"}
	if aptGet(ctx, "", install...) == nil {
		return nil
	}
	// The lists of packages may be missing, as in a container, or too old.
	if err := aptGet(ctx, "", "update"); err != nil {
		return err
	}
	return aptGet(ctx, "", install...)
}

func noMainCluster() error {
	if err := os.MkdirAll(filepath.Dir(createCluster), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(createCluster, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return nil // keep the file
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString("# Written by Portbook's make up, which needs only the programs.\n" +
		"create_main_cluster = false\n")
	return errors.Join(err, f.Close())
}

// aptGet runs apt-get in dir, without prompts.
func aptGet(ctx context.Context, dir string, args ...string) error {
	_, err := aptGetOutput(ctx, dir, args...)
	return err
}

func aptGetOutput(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "DPkg::Lock::Timeout=600"}, args...)...)
	cmd.Dir = dir
	// Keep existing configuration files without a prompt, and start no services.
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "UCF_FORCE_CONFFOLD=1", "RUNLEVEL=1", "LC_ALL=C")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("apt-get %s: %w: %s", strings.Join(args, " "), err, process.LastLines(stderr.Bytes()))
	}
	return stdout.Bytes(), nil
}

// downloadPostgres unpacks Debian's packages into the data folder, without root: 74 MB
// and a few seconds on a minimal Debian 12 (measured).
func (s *system) downloadPostgres(ctx context.Context) (postgresPrograms, error) {
	s.out.print("Downloading PostgreSQL to %s (about 80 MB)", s.data.path(privatePostgres))
	// Unpack into another folder and rename it, so that a partial copy is never used.
	partial := s.data.path(privatePostgres + ".new")
	if err := os.RemoveAll(partial); err != nil {
		return postgresPrograms{}, err
	}
	if err := unpackPostgres(ctx, partial); err != nil {
		return postgresPrograms{}, fmt.Errorf("a private copy of PostgreSQL: %w;"+
			" or install it (%w)", err, localpg.ErrNotInstalled)
	}
	if err := os.Rename(partial, s.data.path(privatePostgres)); err != nil {
		return postgresPrograms{}, err
	}
	p, ok := s.privateCopy()
	if !ok {
		return p, fmt.Errorf("the packages contain no PostgreSQL server: %w", localpg.ErrNotInstalled)
	}
	return p, nil
}

func unpackPostgres(ctx context.Context, dir string) error {
	debs := filepath.Join(dir, "debs")
	lists, cache := filepath.Join(dir, "apt/lists"), filepath.Join(dir, "apt/cache")
	for _, d := range []string{debs, filepath.Join(lists, "partial"), filepath.Join(cache, "archives/partial")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	// Use separate lists and a separate cache: the machine's need root and may be empty.
	own := []string{"-o", "Dir::State::Lists=" + lists, "-o", "Dir::Cache=" + cache}
	if err := aptGet(ctx, debs, append(own, "update")...); err != nil {
		return err
	}
	plan, err := aptGetOutput(ctx, debs, append(own, "install", "-s", "--no-install-recommends", "postgresql")...)
	if err != nil {
		return err
	}
	if err := aptGet(ctx, debs, append(append(own, "download"), planned(plan)...)...); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return err
	}
	for _, name := range names {
		out, err := exec.CommandContext(ctx, "dpkg-deb", "-x", name, filepath.Join(dir, "root")).CombinedOutput()
		if err != nil {
			return fmt.Errorf("dpkg-deb -x %s: %w: %s", filepath.Base(name), err, process.LastLines(out))
		}
	}
	return errors.Join(os.RemoveAll(debs), os.RemoveAll(filepath.Join(dir, "apt")))
}

// planned returns the packages that a simulated installation would install: the lines
// "Inst NAME (VERSION ...". Installed packages are not among them and need no copy.
func planned(plan []byte) []string {
	var names []string
	lines := bufio.NewScanner(bytes.NewReader(plan))
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "Inst" {
			names = append(names, fields[1])
		}
	}
	return names
}

// privateCopy finds a copy that downloadPostgres made earlier.
func (s *system) privateCopy() (postgresPrograms, bool) {
	root := filepath.Join(s.data.path(privatePostgres), "root")
	bins, _ := filepath.Glob(filepath.Join(root, "usr/lib/postgresql/*/bin")) // fails for a malformed pattern only
	if len(bins) == 0 {
		return postgresPrograms{}, false
	}
	libs, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu*"))
	more, _ := filepath.Glob(filepath.Join(root, "lib/*-linux-gnu*"))
	return postgresPrograms{
		binDir: bins[len(bins)-1],
		env:    []string{"LD_LIBRARY_PATH=" + strings.Join(append(libs, more...), ":")},
	}, true
}
