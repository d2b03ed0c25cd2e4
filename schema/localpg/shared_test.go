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

// childVariable makes TestShared, in a process of its own, print the directory of its
// server and then end in the way that the variable names.
const childVariable = "LOCALPG_TEST_END"

// The server of Shared ends and its files are removed when the process ends, whether
// by os.Exit or by a signal.
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
				t.Fatalf("the child printed %q", out)
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
		t.Fatalf("second call: got %q, %v, want %q", again, err, url)
	}
	os.Stdout.WriteString("data: " + query(t, url, "SHOW data_directory") + "\n")
	if end == "kill" {
		self, _ := os.FindProcess(os.Getpid())
		self.Kill()
		select {}
	}
	os.Exit(0)
}

// waitGone waits until name does not exist. The files are removed after the server
// has ended.
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
			t.Fatalf("%s still exists 15 s after the process ended", name)
		case <-tick.C:
		}
	}
}

// Shared returns the server of SharedVariable without starting one.
func TestSharedFromEnvironment(t *testing.T) {
	const want = "postgres://somebody@127.0.0.1:1/postgres"
	t.Setenv(localpg.SharedVariable, want)
	if got, err := localpg.Shared(); got != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}
