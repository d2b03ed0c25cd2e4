package localpg

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
)

// SharedVariable is the environment variable with the address of a running server for
// tests. Its user must be allowed to create databases.
const SharedVariable = "PORTBOOK_TEST_DATABASE_URL"

// Shared returns the address of the database postgres on a server for tests, with a
// superuser. It is the server that SharedVariable names, else one that the first call
// starts. That server ends and its files are removed when this process ends, however
// it ends.
//
// It returns ErrNotInstalled if there is no server and PostgreSQL is not installed.
func Shared() (url string, err error) {
	if url := os.Getenv(SharedVariable); url != "" {
		return url, nil
	}
	return startShared()
}

// MkdirTemp creates a directory for a server for tests, as os.MkdirTemp does, but in memory if
// there is room: a test creates and drops a database, which is more than 300 files, and servers
// that are not durable lose their data anyway when the machine crashes. The account of the
// servers can enter what is above the directory, unlike that of testing.T.TempDir.
func MkdirTemp(pattern string) (string, error) { return os.MkdirTemp(tempDir(), pattern) }

var startShared = sync.OnceValues(func() (string, error) {
	if _, err := Find(); err != nil {
		return "", err // before there are files to remove
	}
	dir, err := MkdirTemp("portbook-pg-")
	if err != nil {
		return "", err
	}
	s, err := Start(context.Background(), Config{Dir: dir})
	if err != nil {
		return "", fmt.Errorf("%w (removing its files: %v)", err, os.RemoveAll(dir))
	}
	if err := removeAtExit(s.pid(), dir); err != nil {
		s.Stop()
		return "", err
	}
	return s.URL("postgres"), nil
})

// tidy is a shell script that cleans up after a test process. A test process ends by
// os.Exit, by panic or by a signal, and none of these runs our code. So the script
// waits for the end of its standard input, which the test process holds open. Then it
// ends the server (on Linux the death signal has done so) and removes its files.
const tidy = `
cat >/dev/null
kill -QUIT "$1" 2>/dev/null
n=0
while kill -0 "$1" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
rm -rf "$2"
`

func removeAtExit(pid int, dir string) error {
	cmd := exec.Command("/bin/sh", "-c", tidy, "tidy", strconv.Itoa(pid), dir)
	// In its own session a Ctrl-C at the terminal does not end it too early.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	if _, err := cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	// Wait never returns. It keeps the garbage collector from closing the pipe.
	go cmd.Wait()
	return nil
}

func (s *Server) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.PID()
}
