//go:build unix

package registrytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/portbook/portbook/registry/internal/child"
	"github.com/portbook/portbook/registry/push"
)

const module = "github.com/portbook/portbook/registry"

// A ProcessConfig says how to run the real registry. The zero value runs it
// with config/filesystem.yml in a temporary directory, telling nobody.
type ProcessConfig struct {
	File   string   // configuration in the module's directory config; "" is filesystem.yml
	Root   string   // directory of the content; "" is one that ends with the test; unused by s3.yml
	Notify string   // URL that events are posted to; "" turns notifications off
	Token  string   // sent with each event as Authorization: Bearer; "" sends none
	Env    []string // REGISTRY_* and other variables, after ours
}

// A Process is the real registry, the binary of registry/main.go, as a child of
// the test. It dies with the test binary, also when that is killed (on Linux).
type Process struct {
	URL  string       // http://127.0.0.1:port, the same after each Start
	Push *push.Client // without credentials
	Root string

	t     testing.TB
	args  []string
	env   []string
	log   output
	child *child.Child // nil if not running
}

// StartProcess builds the registry if need be, starts it and returns when it
// answers. It is stopped when the test ends.
func StartProcess(t testing.TB, config ProcessConfig) *Process {
	t.Helper()
	built, err := build()
	if err != nil {
		t.Fatalf("registrytest: %v", err)
	}
	if config.File == "" {
		config.File = "filesystem.yml"
	}
	if config.Root == "" {
		config.Root = t.TempDir()
	}
	addr := FreeAddr(t)
	p := &Process{
		URL: "http://" + addr, Push: push.New("http://" + addr), Root: config.Root,
		t:    t,
		args: []string{built.binary, "serve", filepath.Join(built.dir, "config", config.File)},
		env:  append(environment(addr, config), config.Env...),
	}
	t.Cleanup(p.Kill)
	t.Cleanup(p.Push.HTTP.CloseIdleConnections)
	p.Start()
	return p
}

// Start starts the process again after Kill or Stop, on the same address and
// root, and returns when it answers.
func (p *Process) Start() {
	p.t.Helper()
	if p.child != nil {
		p.t.Fatal("registrytest: process runs already")
	}
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Env = p.env
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	var err error
	if p.child, err = child.Start(cmd); err != nil {
		p.t.Fatalf("registrytest: %v", err)
	}
	if err := p.ready(); err != nil {
		p.t.Fatalf("registrytest: %v; its log:\n%s", err, p.Log())
	}
}

// Kill ends the process by SIGKILL and returns when it is gone. Killing a
// process that does not run does nothing.
func (p *Process) Kill() {
	if p.child != nil {
		p.child.End(syscall.SIGKILL)
		p.child = nil
	}
}

// Stop ends the process by SIGTERM, as service managers do, and returns when it
// is gone. It fails the test if that takes more than half a minute.
func (p *Process) Stop() {
	p.t.Helper()
	if p.child == nil {
		return
	}
	c := p.child
	p.child = nil
	timer := time.AfterFunc(patience, func() { c.Signal(syscall.SIGKILL) })
	c.End(syscall.SIGTERM)
	if !timer.Stop() {
		p.t.Errorf("registrytest: still running %v after SIGTERM", patience)
	}
}

// Log returns all that the process has written so far, in all its lives.
func (p *Process) Log() string { return p.log.String() }

// ready waits until the registry answers, with 200 or, if it wants to know who
// asks, 401.
func (p *Process) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		if p.answers(ctx) {
			return nil
		}
		select {
		case <-p.child.Gone:
			return errors.New("registry ended at its start")
		case <-ctx.Done():
			return fmt.Errorf("registry did not answer in %v", patience)
		case <-again.C:
		}
	}
}

func (p *Process) answers(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/v2/", nil)
	if err != nil {
		return false
	}
	resp, err := p.Push.HTTP.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusUnauthorized
}

// environment is ours without its REGISTRY_* variables, and with the settings
// that make the registry the test's own.
func environment(addr string, config ProcessConfig) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "REGISTRY_") })
	env = append(env, "REGISTRY_HTTP_ADDR="+addr)
	if config.File != "s3.yml" { // a second kind of storage is refused
		env = append(env, "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="+config.Root)
	}
	if config.Notify == "" {
		return append(env, "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_DISABLED=true")
	}
	env = append(env, "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL="+config.Notify)
	if config.Token != "" {
		env = append(env, fmt.Sprintf("REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS={Authorization: [%q]}", "Bearer "+config.Token))
	}
	return env
}

// FreeAddr is an address of this machine on which nobody listens now, for a
// process that cannot be given a listener. The port is not one of those that the
// kernel gives to whoever asks for any (32768 and up on Linux), so that no other
// test gets it before the process does, nor one that localpg gives to a server,
// and none is given twice: a test asks for several before it uses any.
func FreeAddr(t testing.TB) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10_000+rand.IntN(10_000))
		if _, given := givenAddrs.LoadOrStore(addr, true); given {
			continue
		}
		listener, err := net.Listen("tcp", addr)
		if err == nil {
			listener.Close()
			return addr
		}
	}
	t.Fatal("registrytest: no free port in 100 tries")
	return ""
}

// givenAddrs are the addresses that FreeAddr gave.
var givenAddrs sync.Map

// An output keeps what a process writes. It is safe for concurrent use.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// A built registry: the binary, and the directory of its module.
type built struct{ binary, dir string }

// build builds the registry, once in a test binary. The binary stays in the
// user's cache directory, 78 MB: linking takes 3 s of processor time, and go
// build leaves alone what is up to date.
var build = sync.OnceValues(func() (built, error) {
	dir, err := outputOf(exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module))
	if err != nil {
		return built{}, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return built{}, fmt.Errorf("cache directory: %w", err)
	}
	cache = filepath.Join(cache, "portbook", "registrytest")
	unlock, err := lock(cache)
	if err != nil {
		return built{}, err
	}
	defer unlock()
	b := built{binary: filepath.Join(cache, "registry"), dir: dir}
	cmd := exec.Command("go", "build", "-C", dir, "-o", b.binary, ".")
	cmd.Env = append(os.Environ(), "GOWORK=off") // the versions that users get
	_, err = outputOf(cmd)
	return b, err
})

// lock makes the directory and takes its lock, so that the test binaries that
// go test runs at the same time do not write one file together.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return func() { file.Close() }, nil
}

// outputOf returns what a command prints, without the end of the line.
func outputOf(cmd *exec.Cmd) (string, error) {
	out, err := cmd.Output()
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		return "", fmt.Errorf("%s: %w: %s", cmd, err, failed.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", cmd, err)
	}
	return strings.TrimSpace(string(out)), nil
}
