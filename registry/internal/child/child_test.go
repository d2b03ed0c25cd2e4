//go:build unix

package child_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/portbook/portbook/registry/internal/child"
)

// helper is the variable that makes this test binary run parent instead of tests.
const helper = "PORTBOOK_CHILD_TEST_PARENT"

// TestMain runs the tests, or the parent that TestDiesWithParent kills.
func TestMain(m *testing.M) {
	if os.Getenv(helper) != "" {
		parent()
	}
	os.Exit(m.Run())
}

// parent starts a grandchild that shares its output, and waits for its end.
func parent() {
	cmd := exec.Command("sh", "-c", "echo started; exec sleep 300")
	cmd.Stdout = os.Stdout
	c, err := child.Start(cmd)
	if err != nil {
		panic(err)
	}
	<-c.Gone
}

// A child does not outlive a parent that is killed. The pipe that both write to ends
// when both have ended.
func TestDiesWithParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the death signal is set on Linux only")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helper+"=1")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(pipe)
	if line, err := lines.ReadString('\n'); line != "started\n" {
		t.Fatalf("read %q, %v", line, err)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, lines)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second): // the grandchild sleeps for 300 s
		t.Error("the grandchild is still running")
	}
	cmd.Wait() // always fails, because the parent was killed
}

func TestEnd(t *testing.T) {
	t.Parallel()
	c, err := child.Start(exec.Command("sleep", "600"))
	if err != nil {
		t.Fatal(err)
	}
	c.End(syscall.SIGTERM)
	c.Signal(syscall.SIGTERM)
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	if _, err := child.Start(exec.Command("/no/such/program")); err == nil {
		t.Error("got no error for a program that does not exist")
	}
}
