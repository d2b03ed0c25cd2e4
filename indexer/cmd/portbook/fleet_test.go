package main_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/registry/registrytest"
	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/schema/localpg/process"
)

// A fleet is the whole system as processes that a test may kill: PostgreSQL, the stock
// registry, and indexers.
type fleet struct {
	t        *testing.T
	dir      string // for files that the account of the servers can read
	postgres *localpg.Server
	registry *registrytest.Process
	binary   string
	address  string   // of the first indexer; the registry sends events to it
	database string   // URL for writers and commands
	settings []string // of indexers and commands, besides the usual ones
	input    string   // standard input of commands
}

const token = "a token for tests"

// launch starts PostgreSQL and the registry, but no indexer.
func launch(t *testing.T) *fleet {
	t.Helper()
	return launchWith(t, func(*fleet) registrytest.ProcessConfig { return registrytest.ProcessConfig{} })
}

// launchWith is launch with a registry that is configured for the fleet.
func launchWith(t *testing.T, configure func(*fleet) registrytest.ProcessConfig) *fleet {
	t.Helper()
	if testing.Short() {
		t.Skip("starts real processes")
	}
	ctx := t.Context()
	dir, err := localpg.MkdirTemp("fleet") // the server's account cannot enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	pg, err := localpg.Start(ctx, localpg.Config{Dir: filepath.Join(dir, "postgres")})
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(pg.Stop)
	f := &fleet{
		t: t, dir: dir, postgres: pg, binary: build(t), address: registrytest.FreeAddr(t), database: pg.URL("postgres"),
		registry: &registrytest.Process{},
	}
	config := configure(f)
	config.Notify, config.Token = "http://"+f.address+"/events", token
	f.registry = registrytest.StartProcess(t, config)
	return f
}

var builds struct {
	once   sync.Once
	binary string
	err    error
}

// build builds the indexer once, and returns its path.
func build(t *testing.T) string {
	t.Helper()
	builds.once.Do(func() {
		dir, err := os.MkdirTemp("", "portbook")
		if err != nil {
			builds.err = err
			return
		}
		builds.binary = filepath.Join(dir, "portbook")
		out, err := exec.Command("go", "build", "-o", builds.binary, ".").CombinedOutput()
		if err != nil {
			builds.err = fmt.Errorf("go build: %w: %s", err, out)
		}
	})
	if builds.err != nil {
		t.Fatal(builds.err)
	}
	return builds.binary
}

// TestMain runs twice as many tests at the same time as there are cores, unless -parallel
// is set: most of their time they wait for processes.
func TestMain(m *testing.M) {
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "test.parallel" })
	if !set {
		_ = flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))) // fails only for an unknown flag
	}
	code := m.Run()
	if builds.binary != "" {
		os.RemoveAll(filepath.Dir(builds.binary))
	}
	os.Exit(code)
}

// standby starts a streaming hot standby. Writers and commands that start afterwards
// use both servers. It restarts the primary.
func (f *fleet) standby(config localpg.Config) *localpg.Server {
	f.t.Helper()
	config.Dir = filepath.Join(f.dir, "standby")
	standby, err := f.postgres.Standby(f.t.Context(), config)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(standby.Stop)
	one, err := url.Parse(f.postgres.URL("postgres"))
	if err != nil {
		f.t.Fatal(err)
	}
	two, err := url.Parse(standby.URL("postgres"))
	if err != nil {
		f.t.Fatal(err)
	}
	one.Host += "," + two.Host
	f.database = one.String()
	return standby
}

// reader starts a reader of one server and returns when it is ready.
func (f *fleet) reader(server *localpg.Server, settings ...string) *indexerProcess {
	f.t.Helper()
	return f.indexer(registrytest.FreeAddr(f.t), append([]string{
		"PORTBOOK_ROLE=reader", "PORTBOOK_EVENTS_TOKEN=", "PORTBOOK_DATABASE_POSTGRES_URL=" + server.URL("postgres")}, settings...)...)
}

// An indexerProcess is a running indexer.
type indexerProcess struct {
	address, operations string
	process             *process.Process
	log                 *text // what it has logged
}

// A text collects what a process writes.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (x *text) Write(b []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(b)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// indexer starts an indexer on an address and returns when it is ready.
func (f *fleet) indexer(address string, settings ...string) *indexerProcess {
	f.t.Helper()
	i := f.start(address, settings...)
	i.ready(f.t)
	return i
}

// start starts an indexer and does not wait for it.
func (f *fleet) start(address string, settings ...string) *indexerProcess {
	f.t.Helper()
	i := &indexerProcess{address: address, operations: registrytest.FreeAddr(f.t), log: &text{}}
	cmd := exec.Command(f.binary, "serve")
	cmd.Env = f.environment("PORTBOOK_HTTP_ADDRESS="+address, "PORTBOOK_HTTP_OPERATIONS_ADDRESS="+i.operations)
	cmd.Env = append(cmd.Env, settings...)
	var err error
	if i.process, err = process.Start(cmd, nil, i.log); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(i.process.Kill)
	return i
}

// ready waits until the indexer is ready.
func (i *indexerProcess) ready(t *testing.T) {
	t.Helper()
	within(t, patience, "the indexer is ready", func() bool {
		i.alive(t)
		return status("http://"+i.operations+"/readyz") == http.StatusOK
	})
}

// alive fails the test if the indexer has ended.
func (i *indexerProcess) alive(t *testing.T) {
	t.Helper()
	select {
	case <-i.process.Done():
		t.Fatalf("the indexer ended: %s\n%s", i.process.Outcome(), i.process.Tail())
	default:
	}
}

func (f *fleet) environment(more ...string) []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"),
		"PORTBOOK_REGISTRY_URL=" + f.registry.URL,
		"PORTBOOK_EVENTS_TOKEN=" + token,
		"PORTBOOK_FRONT_TOKEN=" + frontToken,
		"PORTBOOK_DATABASE_POSTGRES_URL=" + f.database,
		"PORTBOOK_LOG_LEVEL=debug",
		"PORTBOOK_COMPONENTS_WEB_UI=true",
	}, append(slices.Clone(f.settings), more...)...)
}

// run runs a command of the indexer to its end.
func (f *fleet) run(args ...string) (output string, err error) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, f.binary, args...)
	cmd.Env = f.environment("PORTBOOK_LOG_LEVEL=warn")
	cmd.Stdin = strings.NewReader(f.input)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// equal waits until `portbook verify` finds no difference. Between two looks it waits twice as
// long each time, up to a second, because a look is a process that reads everything: without
// pauses it would keep the machine busy while a lease ends.
func (f *fleet) equal(patience time.Duration) {
	f.t.Helper()
	var last string
	pause := 25 * time.Millisecond
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		pause = min(2*pause, time.Second)
		out, err := f.run("verify")
		if err == nil {
			return
		}
		if last = out; time.Now().After(deadline) {
			f.t.Fatalf("the book still differs from the registry: %v\n%s\n%s", err, last, f.tasks())
		}
	}
}

// tasks returns a text about the tasks that are left, for the message of a failure.
func (f *fleet) tasks() string {
	rows, err := f.pool().Query(f.t.Context(), `
		SELECT format('%s:%s priority %s, attempts %s, claims %s, due in %s, leased for %s, error %s', repository, reference, priority,
			attempts, claims, run_after - now(), leased_until - now(), error) FROM task ORDER BY id LIMIT 50`)
	if err != nil {
		return err.Error()
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return fmt.Sprint(strings.Join(lines, "\n"), err)
}

// pool connects to the fleet's database.
func (f *fleet) pool() *pgxpool.Pool {
	f.t.Helper()
	return f.poolOf(f.postgres)
}

// poolOf connects to one server.
func (f *fleet) poolOf(server *localpg.Server) *pgxpool.Pool {
	f.t.Helper()
	pool, err := pgxpool.New(f.t.Context(), server.URL("postgres"))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(pool.Close)
	return pool
}

// query returns one number from the database.
func (f *fleet) query(pool *pgxpool.Pool, q string, args ...any) (n int) {
	f.t.Helper()
	if err := pool.QueryRow(f.t.Context(), q, args...).Scan(&n); err != nil {
		f.t.Fatalf("%s: %v", q, err)
	}
	return n
}

var client = &http.Client{Timeout: 10 * time.Second}

// status requests a URL and returns the status, or 0 if there is no answer.
func status(url string) int {
	resp, err := client.Get(url)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
	return resp.StatusCode
}

// body requests a URL and returns the body, or "" if there is no answer.
func body(url string) string {
	resp, err := client.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// metric returns the text of a metric's value, or "" if there is no such metric.
func (i *indexerProcess) metric(name string) string {
	for line := range strings.Lines(body("http://" + i.operations + "/metrics")) {
		if value, found := strings.CutPrefix(line, name+" "); found {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// leads reports whether the metrics of an indexer say that it leads.
func (i *indexerProcess) leads() bool {
	return i.metric("portbook_leader") == "1"
}

// stop signals an indexer to end, and fails the test if it ends with an error.
func (i *indexerProcess) stop(t *testing.T) {
	t.Helper()
	i.process.Stop(syscall.SIGTERM, patience)
	if got := i.process.Outcome(); got != "exit status 0" {
		t.Errorf("after SIGTERM: got %s, want exit status 0\n%s", got, i.process.Tail())
	}
}

// patience limits the wait for something that must happen. On an idle machine it
// happens within seconds; the rest is for a busy machine. A shorter limit in a test is
// part of what the test asserts.
const patience = time.Minute

// within waits for a condition, which it checks every few milliseconds, and fails the
// test after limit.
func within(t *testing.T, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatalf("timeout after %v: %s", limit, what)
}
