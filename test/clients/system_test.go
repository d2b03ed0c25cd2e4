package clients

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// root is the root of the repository, where `make up` runs.
const root = "../.."

const (
	// startTimeout allows for an empty build cache: compiling the registry alone
	// takes 200 s of CPU.
	startTimeout = 15 * time.Minute

	// stopTimeout is the sum of the stop timeouts of the three servers.
	stopTimeout = time.Minute

	// newsTimeout limits the time from a push until search finds it. It usually takes
	// milliseconds, but the machine may be busy.
	newsTimeout = 20 * time.Second
)

// launcher builds the program behind `make up`, once.
var launcher = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "portbook-clients-")
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "up")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", name, "./deploy/up")
	cmd.Dir = root
	cmd.Env = workspace()
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./deploy/up: %w: %s", err, out)
	}
	return name, nil
})

// workspace returns the environment of `make up`. GOWORK is empty, because this module
// is outside the workspace, and the variables of the tests' database are missing.
func workspace() []string {
	env := []string{"GOWORK=", "HOME=" + os.Getenv("HOME"), "PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GOFLAGS", "GOTOOLCHAIN"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// TestMain stops the system that the tests share. It fails if that returns an error.
func TestMain(m *testing.M) {
	status := m.Run()
	if shared.system != nil {
		if err := shared.system.stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = max(status, 1)
		}
		os.RemoveAll(shared.system.data)
	}
	if name, err := launcher(); err == nil {
		os.RemoveAll(filepath.Dir(name))
	}
	os.Exit(status)
}

var shared struct {
	once   sync.Once
	system *system
	err    error
}

// portbook returns the address of the system that most tests share. Each test uses its
// own repositories.
func portbook(t *testing.T) string {
	t.Helper()
	shared.once.Do(func() {
		var data string
		if data, shared.err = os.MkdirTemp("", "portbook-clients-"); shared.err != nil {
			return
		}
		if shared.system, shared.err = start(freeAddress(t), data); shared.err != nil {
			os.RemoveAll(data)
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.system.addr
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A system is a running `make up`.
type system struct {
	addr, data string
	cmd        *exec.Cmd
	ended      chan struct{}
	output     *output
}

// start starts a system and waits until it prints that it is ready.
func start(addr, data string, args ...string) (*system, error) {
	name, err := launcher()
	if err != nil {
		return nil, err
	}
	s := &system{addr: addr, data: data, ended: make(chan struct{}), output: &output{ready: make(chan struct{})}}
	s.cmd = exec.Command(name, append([]string{"-addr", addr, "-data", data}, args...)...)
	s.cmd.Dir = root
	s.cmd.Env = workspace()
	pipe, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Stderr = s.cmd.Stdout
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		s.output.read(pipe, "Portbook is ready: http://"+addr)
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	select {
	case <-s.output.ready:
		return s, nil
	case <-s.ended:
		return nil, fmt.Errorf("make up ended (%v):\n%s", s.cmd.ProcessState, s.output)
	case <-time.After(startTimeout):
		_ = s.stop()
		return nil, fmt.Errorf("make up is not ready after %v:\n%s", startTimeout, s.output)
	}
}

// stop ends the system as Ctrl-C does. It returns an error if the status is not 0.
func (s *system) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-s.ended:
	case <-time.After(stopTimeout):
		_ = s.cmd.Process.Kill()
		return fmt.Errorf("make up is still running %v after SIGINT:\n%s", stopTimeout, s.output)
	}
	if !s.cmd.ProcessState.Success() {
		return fmt.Errorf("make up ended with %v:\n%s", s.cmd.ProcessState, s.output)
	}
	return nil
}

// An output collects what a system prints.
type output struct {
	mu    sync.Mutex
	text  strings.Builder
	ready chan struct{} // closed when the system has printed that it is ready
}

func (o *output) read(r io.Reader, ready string) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		o.mu.Lock()
		o.text.WriteString(lines.Text() + "\n")
		o.mu.Unlock()
		if lines.Text() == ready {
			close(o.ready)
		}
	}
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// need skips the test if a program is missing, or fails it if CI is set.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, name := range programs {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed; deploy/prerequisites.sh lists what to install", name)
		}
		t.Skipf("%s is not installed; deploy/prerequisites.sh lists what to install", name)
	}
}

// needRoot skips the test if the user is not root.
func needRoot(t *testing.T, why string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("%s: run as root", why)
	}
}

// run runs a program and returns its output. It fails the test if the program fails.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := try(t, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// try runs a program and returns its output, which is also in the error.
func try(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// accept runs a script of accept with settings such as EXPECT_DESC=text.
func accept(t *testing.T, script string, settings []string, args ...string) error {
	t.Helper()
	_, err := try(t, "env", append(append(settings, "bash", "accept/"+script), args...)...)
	return err
}

// eventually waits until ask returns nil. After newsTimeout it fails with the last
// error.
func eventually(t *testing.T, ask func() error) {
	t.Helper()
	deadline := time.After(newsTimeout)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("after %v: %v", newsTimeout, err)
		case <-tick.C:
		}
	}
}

// page returns the status and the body of a page.
func page(t *testing.T, addr, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
