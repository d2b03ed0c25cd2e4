package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// locale is built into glibc since 2.35 (Debian patched it in long before), so
// it is there without the package locales. It sorts bytewise.
const locale = "C.UTF-8"

// waitUnused makes sure that no server uses the cluster in dir, and removes
// the pid file that one left behind when it was killed.
//
// PostgreSQL does so itself, but believes the file if the number in it belongs
// to any process of the same user by now, as it often does in a container. A
// server works in its cluster's directory, and so do its children: that says
// who uses it. Who is stopping is waited for.
func waitUnused(ctx context.Context, dir string) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		users, err := workingIn(dir)
		if err != nil {
			return err
		}
		pid, stopping := readPIDFile(dir)
		switch {
		case len(users) == 0:
			return removePIDFile(dir)
		case users[pid] && !stopping:
			return fmt.Errorf("another server (process %d) uses this directory: stop it first, or choose another directory", pid)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes of an earlier server do not end: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

func removePIDFile(dir string) error {
	err := os.Remove(filepath.Join(dir, "postmaster.pid"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// readPIDFile reads the process number and the state that a server writes: the
// first and the eighth line (PostgreSQL, src/include/utils/pidfile.h). It gives
// 0 if there is no such file.
func readPIDFile(dir string) (pid int, stopping bool) {
	b, _ := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	lines := strings.Split(string(b), "\n")
	pid, _ = strconv.Atoi(strings.TrimSpace(lines[0]))
	return pid, len(lines) > 7 && strings.TrimSpace(lines[7]) == "stopping"
}

// workingIn gives the processes whose working directory is dir, as far as the
// caller may see them: all for root, else the caller's own.
func workingIn(dir string) (map[int]bool, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		return nil, err
	}
	pids := map[int]bool{}
	for _, link := range links {
		if at, err := os.Readlink(link); err == nil && at == dir {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			pids[pid] = true
		}
	}
	return pids, nil
}
