//go:build unix

package registrytest

import (
	"bytes"
	"cmp"
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

// A ProcessConfig says how to run the real registry. The zero value runs it with
// config/filesystem.yml in a temporary directory, without notifications.
type ProcessConfig struct {
	File   string   // in the module's directory config; "" means filesystem.yml
	Path   string   // a configuration elsewhere, instead of File; Root, Notify, Token and Pulls do not change it
	Root   string   // directory of the content; "" means a temporary one; s3.yml ignores it
	Notify string   // URL that events are posted to; "" turns notifications off
	Token  string   // sent with each event as Authorization: Bearer; "" sends none
	Pulls  bool     // post events of pulls too, from a queue of their own
	Env    []string // more variables, which override ours
}

// A Process is the real registry, the binary of registry/main.go, as a child of the
// test binary. On Linux it ends with the test binary, even if that is killed.
type Process struct {
	URL  string       // http://127.0.0.1:port, the same after each Start
	Push *push.Client // without credentials
	Root string

	t     testing.TB
	args  []string
	env   []string
	log   output
	child *child.Child // nil while it does not run
}

// StartProcess builds the registry if necessary, starts it and returns when it
// answers. The process is killed when the test ends.
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
		args: []string{built.binary, "serve", cmp.Or(config.Path, filepath.Join(built.dir, "config", config.File))},
		env:  append(environment(addr, config), config.Env...),
	}
	t.Cleanup(p.Kill)
	t.Cleanup(p.Push.HTTP.CloseIdleConnections)
	p.Start()
	return p
}

// Start starts the process again after Kill or Stop, with the same address and root,
// and returns when it answers.
func (p *Process) Start() {
	p.t.Helper()
	if p.child != nil {
		p.t.Fatal("registrytest: the process is already running")
	}
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Env = p.env
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	var err error
	if p.child, err = child.Start(cmd); err != nil {
		p.t.Fatalf("registrytest: %v", err)
	}
	if err := p.ready(); err != nil {
		p.t.Fatalf("registrytest: %v; log:\n%s", err, p.Log())
	}
}

// Kill sends SIGKILL and returns when the process has ended. It does nothing if the
// process does not run.
func (p *Process) Kill() {
	if p.child != nil {
		p.child.End(syscall.SIGKILL)
		p.child = nil
	}
}

// Stop sends SIGTERM, as service managers do, and returns when the process has ended.
// It fails the test if that takes more than 30 s.
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

// Log returns the output of the process so far, including that before a restart.
func (p *Process) Log() string { return p.log.String() }

// ready waits until the registry answers with 200, or with 401 if it requires a
// login.
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
			return errors.New("the registry ended during its start")
		case <-ctx.Done():
			return fmt.Errorf("the registry did not answer within %v", patience)
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

// environment returns the variables of the registry: ours without REGISTRY_*, and
// the settings of config.
func environment(addr string, config ProcessConfig) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "REGISTRY_") })
	env = append(env, "REGISTRY_HTTP_ADDR="+addr)
	if config.Path != "" {
		return env
	}
	if config.File != "s3.yml" { // the registry refuses two kinds of storage
		env = append(env, "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="+config.Root)
	}
	if config.Notify == "" {
		return append(env, "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_DISABLED=true")
	}
	if config.Pulls {
		env = append(env, "REGISTRY_NOTIFICATIONS_ENDPOINTS_1_DISABLED=false")
	}
	for _, n := range []string{"0", "1"} {
		env = append(env, "REGISTRY_NOTIFICATIONS_ENDPOINTS_"+n+"_URL="+config.Notify)
		if config.Token != "" {
			headers := fmt.Sprintf("{Authorization: [%q]}", "Bearer "+config.Token)
			env = append(env, "REGISTRY_NOTIFICATIONS_ENDPOINTS_"+n+"_HEADERS="+headers)
		}
	}
	return env
}

// FreeAddr returns an address of this machine with a free port, for a process that
// must open its listener itself. It never returns an address twice. The port is
// below those that the kernel gives to listeners on port 0 (32768 and up on Linux)
// and those that localpg uses, so no other test takes it.
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
	t.Fatal("registrytest: no free port in 100 attempts")
	return ""
}

// givenAddrs has the addresses that FreeAddr has returned.
var givenAddrs sync.Map

// An output collects what a process writes. It is safe for concurrent use.
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

// built is the path of the registry's binary and the directory of its module.
type built struct{ binary, dir string }

// build builds the registry once in each test binary. The result, 78 MB, stays in
// the user's cache directory, because linking takes 3 s of processor time and go
// build keeps a binary that is up to date.
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
	cmd.Env = append(os.Environ(), "GOWORK=off") // uses the dependencies that users get
	_, err = outputOf(cmd)
	return b, err
})

// Binary returns the path of the real registry's program, and builds it if necessary.
func Binary(t testing.TB) string {
	t.Helper()
	b, err := build()
	if err != nil {
		t.Fatalf("registrytest: %v", err)
	}
	return b.binary
}

// lock creates the directory and takes its lock, so that two test binaries do not
// build the same file at the same time.
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

// outputOf returns the standard output of a command without surrounding white space.
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
