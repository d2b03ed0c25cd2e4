package main_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// At a terminal, prime-db must prompt twice for the password and not show it.
func TestPrimeDBAsks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ first, second, says string }{
		{"hidden\n", "hidden\n", "SCRAM-SHA-256$4096:"},
		{"hidden\n", "hidden too\n", "the passwords differ: nothing was changed"},
	} {
		master, slave := terminal(t)
		cmd := exec.CommandContext(t.Context(), build(t), "prime-db", "app", "--dry-run")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PORTBOOK_REGISTRY_URL=" + nowhere, "PORTBOOK_DATABASE_POSTGRES_URL=postgres://mig@localhost/registry"}
		shown := &lockedBuffer{}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		slave.Close()
		read := make(chan struct{})
		go func() {
			defer close(read)
			buffer := make([]byte, 1<<12)
			for {
				n, err := master.Read(buffer)
				shown.Write(buffer[:n])
				if err != nil {
					return // the other end is closed
				}
			}
		}()
		typeHidden(t, master, shown, "Password: ", test.first)
		typeHidden(t, master, shown, "Again: ", test.second)
		err := cmd.Wait()
		<-read
		if out := shown.String(); !strings.Contains(out, test.says) || strings.Contains(out, "hidden") {
			t.Errorf("%q and %q: got %v, want %q on the terminal:\n%s", test.first, test.second, err, test.says, out)
		}
	}
}

// The secrets of the registry's configuration are not printed to a terminal.
func TestRegistryConfigOnTerminal(t *testing.T) {
	t.Parallel()
	for _, hidden := range []bool{true, false} {
		master, slave := terminal(t)
		cmd := exec.CommandContext(t.Context(), build(t), "registry-config")
		cmd.Env = []string{"FS_STORAGE_ROOT=/srv"}
		if hidden {
			cmd.Env = append(cmd.Env, "PORTBOOK_EVENTS_TOKEN="+secret)
		}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		slave.Close()
		out, _ := io.ReadAll(master) // ends with an error when the other end is closed
		err := cmd.Wait()
		refused := strings.Contains(string(out), "write it to a file with --out FILE")
		if (err != nil) != hidden || refused != hidden || strings.Contains(string(out), secret) {
			t.Errorf("with a secret %v: got %v:\n%s", hidden, err, out)
		}
	}
}

// typeHidden answers a prompt after the terminal has stopped to show typed characters.
func typeHidden(t *testing.T, master *os.File, shown *lockedBuffer, prompt, answer string) {
	t.Helper()
	within(t, patience, "the prompt "+prompt+"appears, and input is hidden", func() bool {
		state, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
		return err == nil && state.Lflag&unix.ECHO == 0 && strings.HasSuffix(shown.String(), prompt)
	})
	if _, err := master.WriteString(answer); err != nil {
		t.Fatal(err)
	}
}

// terminal opens a pseudo terminal.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}
