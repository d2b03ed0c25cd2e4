package localpg_test

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/schema/localpg"
)

// childVariable makes TestShared, run as a program of its own, print where its
// server's files are and then end in the way that the variable names.
const childVariable = "LOCALPG_TEST_END"

// The server of Shared and its files must be gone after the process that asked
// for it, however that process ended. Tests end by os.Exit or by a signal.
func TestShared(t *testing.T) {
	if end := os.Getenv(childVariable); end != "" {
		child(t, end)
	}
	t.Parallel()
	if _, err := localpg.Find(); errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	for _, end := range []string{"exit", "kill"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestShared$")
			cmd.Env = append(os.Environ(), childVariable+"="+end, localpg.SharedVariable+"=")
			out, err := cmd.Output()
			if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
				t.Fatal(err)
			}
			dir, ok := strings.CutPrefix(strings.TrimSpace(string(out)), "data: ")
			if !ok {
				t.Fatalf("the child says %q", out)
			}
			waitGone(t, strings.TrimSuffix(dir, "/data"))
		})
	}
}

func child(t *testing.T, end string) {
	url, err := localpg.Shared()
	if err != nil {
		t.Fatal(err)
	}
	again, err := localpg.Shared()
	if err != nil || again != url {
		t.Fatalf("asked again: got %q, %v, want %q", again, err, url)
	}
	os.Stdout.WriteString("data: " + query(t, url, "SHOW data_directory") + "\n")
	if end == "kill" {
		self, _ := os.FindProcess(os.Getpid())
		self.Kill()
		select {}
	}
	os.Exit(0)
}

// waitGone waits until name does not exist. The files go last, after the server.
func waitGone(t *testing.T, name string) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(name); errors.Is(err, os.ErrNotExist) {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s is there 15 s after the process ended", name)
		case <-tick.C:
		}
	}
}

// A server that the environment names is used, and none is started.
func TestSharedFromEnvironment(t *testing.T) {
	const want = "postgres://somebody@127.0.0.1:1/postgres"
	t.Setenv(localpg.SharedVariable, want)
	if got, err := localpg.Shared(); got != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
