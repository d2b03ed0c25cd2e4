// Package process runs servers that end with this program and do not run as root.
package process

import (
	"bytes"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Process is a started program. It is safe for concurrent use.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	log  *tail
}

// Start starts cmd as account and copies its output to log, which may be nil. On
// Linux the process receives SIGINT when this program ends, even if it is killed.
//
// It sets cmd's SysProcAttr, Stdout and Stderr.
func Start(cmd *exec.Cmd, account *Account, log io.Writer) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{}), log: &tail{next: log}}
	cmd.SysProcAttr = account.Attributes()
	cmd.Stdout, cmd.Stderr = p.log, p.log
	// The children of a killed server usually end after milliseconds. If one does not,
	// it keeps the output open, and Wait gives up after this time.
	cmd.WaitDelay = 10 * time.Second
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run starts the program and waits for its end. It keeps its thread meanwhile: Linux
// sends the death signal of Attributes when the thread that started the process ends,
// and Go ends idle threads.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err == nil {
		_ = p.cmd.Wait() // Outcome reads cmd.ProcessState
		close(p.done)
	}
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the process has ended and its output has
// been read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Outcome returns how the process ended, such as "exit status 1" or "signal: killed".
// Call it only after Done is closed.
func (p *Process) Outcome() string { return p.cmd.ProcessState.String() }

// Stop sends a signal and waits until the process has ended. After timeout it kills
// the process. It does nothing if the process has ended.
func (p *Process) Stop(signal syscall.Signal, timeout time.Duration) {
	p.signal(signal)
	select {
	case <-p.done:
	case <-time.After(timeout):
		p.Kill()
	}
}

// Kill kills the process and waits until it has ended.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// signal sends a signal. If the process has ended, os.Process does nothing, so no
// other process with the same id receives it.
func (p *Process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Tail returns the end of the process's output as one line.
func (p *Process) Tail() string { return p.log.String() }

// A tail is a writer that copies to next and keeps the end.
type tail struct {
	mu   sync.Mutex
	next io.Writer // may be nil
	end  []byte
}

// tailSize is the number of bytes that a tail keeps, about twenty lines.
const tailSize = 2 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b...)
	if over := len(t.end) - tailSize; over > 0 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	if t.next != nil {
		// The server goes on even if its log cannot be written.
		_, _ = t.next.Write(b)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return LastLines(t.end)
}

// LastLines returns the last five lines of output as one line.
func LastLines(output []byte) string {
	const lines = 5
	all := strings.Split(string(bytes.TrimSpace(output)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "; ")
}
