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

// locale sorts bytewise. It is built into glibc since 2.35, and on Debian for much
// longer, so it needs no package.
const locale = "C.UTF-8"

// waitUnused returns nil if no server uses the cluster in dir, and removes the pid
// file of a killed server. It waits for a server that is stopping.
//
// PostgreSQL checks the pid file too, but believes it if any process of the same user
// has the number now, which is common in containers. The working directory of a
// server and its children is the cluster's directory, so this function looks for
// processes there.
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
			return fmt.Errorf("another server (process %d) uses this directory: stop it, or choose another directory", pid)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes of an earlier server are still running: %w", ctx.Err())
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

// readPIDFile returns the process id and the state of a server: the first and the
// eighth line of its pid file (PostgreSQL, src/include/utils/pidfile.h). The id is 0
// if there is no file.
func readPIDFile(dir string) (pid int, stopping bool) {
	b, _ := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	lines := strings.Split(string(b), "\n")
	pid, _ = strconv.Atoi(strings.TrimSpace(lines[0]))
	return pid, len(lines) > 7 && strings.TrimSpace(lines[7]) == "stopping"
}

// workingIn returns the processes whose working directory is dir. It finds all if the
// caller is root, else only the caller's own.
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
