// Package process runs servers that must not outlive this program and, if root
// started it, must not run as root.
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

// A Process is a running program. Its methods may be called from several
// goroutines.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	log  *tail
}

// Start starts cmd as the account, with its output to log, which may be nil. On
// Linux the process gets SIGINT when this program ends, even when it is killed.
//
// It sets cmd's SysProcAttr, Stdout and Stderr.
func Start(cmd *exec.Cmd, account *Account, log io.Writer) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{}), log: &tail{next: log}}
	cmd.SysProcAttr = account.Attributes()
	cmd.Stdout, cmd.Stderr = p.log, p.log
	// The children of a killed server hold the log open until they notice,
	// which takes milliseconds; this is for one that never does.
	cmd.WaitDelay = 10 * time.Second
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run starts the program and waits for its end. It keeps its thread all that
// time: Linux sends the death signal of Attributes when the thread that started
// the process ends, not only when the program does, and Go ends idle threads.
func (p *Process) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err == nil {
		_ = p.cmd.Wait() // how it ended is read from cmd.ProcessState
		close(p.done)
	}
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and its output is read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Outcome says how the process ended: exit status 1, signal: killed. It may be
// called after Done only.
func (p *Process) Outcome() string { return p.cmd.ProcessState.String() }

// Stop sends the signal and waits until the process has ended. After the
// timeout it kills it. Stopping a process that has ended does nothing.
func (p *Process) Stop(signal syscall.Signal, timeout time.Duration) {
	p.signal(signal)
	select {
	case <-p.done:
	case <-time.After(timeout):
		p.Kill()
	}
}

// Kill ends the process at once, and waits until it has ended.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// signal sends a signal, unless the process has ended: os.Process knows that,
// and never hits another process that got the number since.
func (p *Process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Tail is the end of the process's output, in one line for a message.
func (p *Process) Tail() string { return p.log.String() }

// A tail passes on what is written and keeps the end of it.
type tail struct {
	mu   sync.Mutex
	next io.Writer // may be nil
	end  []byte
}

// tailSize is how much a tail keeps: some twenty lines.
const tailSize = 2 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = append(t.end, b...)
	if over := len(t.end) - tailSize; over > 0 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	if t.next != nil {
		// A log that cannot be written must not stop the server.
		_, _ = t.next.Write(b)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return LastLines(t.end)
}

// LastLines is the end of a program's output, in one line for a message.
func LastLines(output []byte) string {
	const lines = 5
	all := strings.Split(string(bytes.TrimSpace(output)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "; ")
}
