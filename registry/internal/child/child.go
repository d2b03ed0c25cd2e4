//go:build unix

// Package child starts processes for tests that do not outlive the test binary.
package child

import (
	"os"
	"os/exec"
	"runtime"
)

// A Child is a started process.
type Child struct {
	Gone chan struct{} // closed when the process ends

	cmd *exec.Cmd
}

// Start starts cmd. On Linux, the kernel kills the child when this process ends, even
// if it is killed. Start sets cmd.SysProcAttr.
//
// The kernel sends the death signal when the thread that started the child ends, not
// the process (prctl(2), PR_SET_PDEATHSIG), and Go ends idle threads. So the
// goroutine keeps its thread until the child ends.
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
			cmd.Wait() // the error says only how the process ended
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// Signal sends a signal. It does nothing if the process has ended.
func (c *Child) Signal(s os.Signal) { c.cmd.Process.Signal(s) }

// End sends a signal and waits until the process ends.
func (c *Child) End(s os.Signal) {
	c.Signal(s)
	<-c.Gone
}
