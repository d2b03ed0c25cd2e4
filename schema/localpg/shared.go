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

// SharedVariable names the environment variable that gives tests a server that is
// already running. Its user must be allowed to create databases.
const SharedVariable = "PORTBOOK_TEST_DATABASE_URL"

// Shared gives the address of a server for tests, as a superuser, with database
// postgres: the server that SharedVariable names, else one that this process
// starts the first time it is asked. That one ends with the process, however it
// ends, and its files go too; nobody has to stop it.
//
// It returns ErrNotInstalled if there is neither.
func Shared() (url string, err error) {
	if url := os.Getenv(SharedVariable); url != "" {
		return url, nil
	}
	return startShared()
}

var startShared = sync.OnceValues(func() (string, error) {
	if _, err := Find(); err != nil {
		return "", err // before anything is made that would have to be tidied
	}
	dir, err := os.MkdirTemp("", "portbook-pg-")
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

// tidy cleans up after a test process. Tests end by os.Exit, by panic
// or by a signal, none of which runs our code, so another process waits for the
// end of its standard input, which the test process holds open. It then ends the
// server (on Linux the death signal already did) and removes its files.
const tidy = `
cat >/dev/null
kill -QUIT "$1" 2>/dev/null
n=0
while kill -0 "$1" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
rm -rf "$2"
`

func removeAtExit(pid int, dir string) error {
	cmd := exec.Command("/bin/sh", "-c", tidy, "tidy", strconv.Itoa(pid), dir)
	// Its own session: a Ctrl-C at the terminal must not end it too early.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	if _, err := cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	// Not for what it returns, which is never: it keeps the pipe from the garbage
	// collector, which would close it.
	go cmd.Wait()
	return nil
}

func (s *Server) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.PID()
}
