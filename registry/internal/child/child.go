//go:build unix

// Package child starts the processes that tests need, so that none outlives the
// test binary.
package child

import (
	"os"
	"os/exec"
	"runtime"
)

// A Child is a started process.
type Child struct {
	Gone chan struct{} // closed when the process has ended

	cmd *exec.Cmd
}

// Start starts cmd so that it dies with this process, also when that is killed
// (on Linux). It sets cmd.SysProcAttr.
//
// The kernel ties a child's death signal to the thread that started it, not to
// the process (prctl(2), PR_SET_PDEATHSIG), and Go ends idle threads; so the
// goroutine keeps its thread until the child is gone.
func Start(cmd *exec.Cmd) (*Child, error) {
	cmd.SysProcAttr = dieWithParent()
	c := &Child{Gone: make(chan struct{}), cmd: cmd}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.Gone)
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() // its error is only how the process ended
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// Signal sends a signal; it does nothing if the process has ended.
func (c *Child) Signal(s os.Signal) { c.cmd.Process.Signal(s) }

// End sends a signal and waits for the end of the process.
func (c *Child) End(s os.Signal) {
	c.Signal(s)
	<-c.Gone
}
