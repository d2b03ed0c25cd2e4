// Package harness is shared by the benchmarks: it runs a private PostgreSQL, the
// registry and the indexer of this clone, measures their resources, and formats the
// figures.
package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/schema/localpg/process"
)

// StopTimeout is how long a program may take to end.
const StopTimeout = 15 * time.Second

const (
	readyTimeout = time.Minute
	pause        = 50 * time.Millisecond // between two polls of Wait
)

// token is the token in the registry's events.
const token = "bench"

// EventsToken is the token that an indexer of StartBoth requires of who sends events.
const EventsToken = token

// A System holds the programs under measurement, in a directory that Close removes, and
// a PostgreSQL whose data may stay.
type System struct {
	Data     string // of PostgreSQL
	Postgres *localpg.Server

	dir     string
	clone   string
	log     *os.File   // for PostgreSQL's log; nil: no log
	running []*Program // registries and indexers, including those that have ended
}

// NewSystem builds the programs and starts PostgreSQL in data; "" is a directory that
// Close removes. If log is not "", PostgreSQL's log is written to that file.
func NewSystem(ctx context.Context, data, log string) (*System, error) {
	root, err := clone()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "portbook-bench-")
	if err != nil {
		return nil, err
	}
	s := &System{dir: dir, Data: data, clone: root}
	if s.Data == "" {
		s.Data = filepath.Join(dir, "postgres")
	}
	if log != "" {
		if s.log, err = os.Create(log); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	// PostgreSQL may run as another user, who must be able to enter.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *System) start(ctx context.Context) (err error) {
	if err := s.build(ctx, "registry", ".", "registry"); err != nil {
		return err
	}
	if err := s.build(ctx, "indexer", "./cmd/portbook", "portbook"); err != nil {
		return err
	}
	config := localpg.Config{Dir: s.Data, Durable: true}
	if s.log != nil {
		config.Log = s.log
	}
	s.Postgres, err = localpg.Start(ctx, config)
	return err
}

// build builds a package of a module with GOWORK=off, with the versions that users get,
// and copies the program into the System's directory, so that it stays as it is.
//
// It builds into the clone's .run, since go build keeps a program there that is up to
// date: linking takes some seconds of processor time.
func (s *System) build(ctx context.Context, module, pkg, name string) error {
	built := filepath.Join(s.clone, ".run", "bench", name)
	unlock, err := lock(filepath.Dir(built))
	if err != nil {
		return err
	}
	defer unlock()
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", built, pkg)
	cmd.Dir = filepath.Join(s.clone, module)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build in %s: %w: %s", cmd.Dir, err, process.LastLines(out))
	}
	program, err := os.ReadFile(built)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, name), program, 0o755)
}

// lock creates a directory and takes its lock, so that two benchmarks do not build the
// same program at the same time.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return func() { file.Close() }, nil
}

// Close stops all programs and removes the directory.
func (s *System) Close() error {
	for _, p := range s.running {
		p.Stop()
	}
	if s.Postgres != nil {
		s.Postgres.Stop()
	}
	if s.log != nil {
		s.log.Close()
	}
	return os.RemoveAll(s.dir)
}

// Postmaster returns the pid of PostgreSQL's first process, whose children do the work;
// 0 if it is not known.
func (s *System) Postmaster() int {
	b, _ := os.ReadFile(filepath.Join(s.Data, "data/postmaster.pid"))
	first, _, _ := strings.Cut(string(b), "\n")
	pid, _ := strconv.Atoi(first)
	return pid
}

// On runs f with a connection to a database.
func (s *System) On(ctx context.Context, database string, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.Postgres.URL(database))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return f(conn)
}

// NewDatabase makes a database with empty tables.
func (s *System) NewDatabase(ctx context.Context, name string) error {
	if err := s.DropDatabase(ctx, name); err != nil {
		return err
	}
	if err := s.Postgres.EnsureDatabase(ctx, name); err != nil {
		return err
	}
	return s.Migrate(ctx, name)
}

// DropDatabase drops a database, if it exists.
func (s *System) DropDatabase(ctx context.Context, name string) error {
	return s.On(ctx, "postgres", func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
		return err
	})
}

// A Program is a running program that writes its log to a file: through a pipe, the
// registry's line for each request would cost this process time.
type Program struct {
	*process.Process
	log string
}

// Tail returns the end of the log as one line.
func (p *Program) Tail() string {
	b, _ := os.ReadFile(p.log) // without its log the message is only shorter
	return process.LastLines(b)
}

// Gone reports whether the program has ended.
func (p *Program) Gone() bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// Stop stops the program and waits for its end.
func (p *Program) Stop() { p.Process.Stop(syscall.SIGTERM, StopTimeout) }

// launch starts a program. Its environment is only env: settings of the caller would
// change the measurement.
func (s *System) launch(name string, env []string, args ...string) (*Program, error) {
	log := filepath.Join(s.dir, fmt.Sprintf("%s-%d.log", name, len(s.running)))
	const toFile = `exec "$0" "$@" >"$LOG" 2>&1`
	cmd := exec.Command("/bin/sh", append([]string{"-c", toFile, filepath.Join(s.dir, name)}, args...)...)
	cmd.Dir = s.dir
	cmd.Env = append(env, "LOG="+log)
	started, err := process.Start(cmd, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("start the %s: %w", name, err)
	}
	p := &Program{started, log}
	s.running = append(s.running, p)
	return p, nil
}

// A Registry is the stock registry.
type Registry struct {
	*Program
	URL string
}

// InMemory is the storage of a registry whose speed does not matter: writing 10,000
// repositories to disk takes a minute, and removing them another.
const InMemory = "REGISTRY_STORAGE={inmemory: {}, cache: {blobdescriptor: inmemory}, " +
	"maintenance: {uploadpurging: {enabled: false}}}"

// OnDisk returns the setting for storage in the System's directory.
func (s *System) OnDisk() string {
	return "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + filepath.Join(s.dir, "content")
}

// StartRegistry starts the registry with config/filesystem.yml and the given storage.
// Events are sent to notify, unless it is "".
func (s *System) StartRegistry(ctx context.Context, storage, notify string) (*Registry, error) {
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	env := []string{"REGISTRY_HTTP_ADDR=" + address, storage}
	if notify == "" {
		env = append(env, "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_DISABLED=true")
	} else {
		env = append(env, "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL="+notify,
			`REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS={Authorization: ["Bearer `+token+`"]}`)
	}
	p, err := s.launch("registry", env, "serve", filepath.Join(s.clone, "registry/config/filesystem.yml"))
	if err != nil {
		return nil, err
	}
	r := &Registry{p, "http://" + address}
	return r, ready(ctx, p, r.URL+"/v2/")
}

// SweepToken is the token of a sweep.
const SweepToken = "0123456789abcdef"

// StartSweep starts "registry sweep serve" on a directory with the storage of a registry.
func (s *System) StartSweep(ctx context.Context, root string) (*Registry, error) {
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(s.dir, "sweep-token")
	if err := os.WriteFile(file, []byte(SweepToken), 0o600); err != nil {
		return nil, err
	}
	env := []string{"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + root, "TMPDIR=" + s.dir}
	p, err := s.launch("registry", env, "sweep", "serve", filepath.Join(s.clone, "registry/config/filesystem.yml"),
		"--address", address, "--token-file", file)
	if err != nil {
		return nil, err
	}
	r := &Registry{p, "http://" + address}
	return r, Wait(ctx, readyTimeout, "the sweep to listen", func() (bool, error) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil, nil
	})
}

// An Indexer serves one book.
type Indexer struct {
	*Program
	URL   string
	ready string // an address that answers 200 if the indexer can serve
}

// Ready waits until the indexer can serve.
func (i *Indexer) Ready(ctx context.Context) error { return ready(ctx, i.Program, i.ready) }

const (
	// quietTime is how long a program must be idle to be settled, and quietShare is the
	// most of one processor that an idle one uses. settleTimeout is how long to wait.
	quietTime     = 2 * time.Second
	quietShare    = 0.03
	settleTimeout = 10 * time.Minute
)

// Settled waits until a program is idle, since a reader prepares itself when it has
// started, and returns how long that took. Nobody may send requests meanwhile.
func Settled(ctx context.Context, p *Program) (time.Duration, error) {
	start := time.Now()
	since, used := start, ProcessorSeconds(p.PID())
	err := Wait(ctx, settleTimeout, "a program to be idle", func() (bool, error) {
		now := ProcessorSeconds(p.PID())
		if now-used > quietShare*quietTime.Seconds() {
			since, used = time.Now(), now
		}
		return time.Since(since) > quietTime, nil
	})
	return since.Sub(start), err
}

// StartIndexer starts "portbook serve" on a database. settings are added to the
// required ones; all others have their defaults.
func (s *System) StartIndexer(ctx context.Context, database, address string, settings ...string) (*Indexer, error) {
	operations, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	addresses := []string{"PORTBOOK_HTTP_ADDRESS=" + address, "PORTBOOK_HTTP_OPERATIONS_ADDRESS=" + operations}
	p, err := s.launchIndexer(database, append(addresses, settings...), "serve")
	if err != nil {
		return nil, err
	}
	i := &Indexer{p, "http://" + address, "http://" + operations + "/readyz"}
	return i, i.Ready(ctx)
}

// StartReader starts an indexer that only serves a book, with pages.
func (s *System) StartReader(ctx context.Context, database string, settings ...string) (*Indexer, error) {
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	settings = append(settings, "PORTBOOK_ROLE=reader", "PORTBOOK_COMPONENTS_WEB_UI=true")
	return s.StartIndexer(ctx, database, address, settings...)
}

// StartPart starts a reader whose asker sees only the repositories whose names match
// one of the patterns; see test/bench/reader for args.
func (s *System) StartPart(ctx context.Context, database string, names []string, args ...string) (*Indexer, error) {
	if err := s.build(ctx, "test/bench", "./reader", "reader"); err != nil {
		return nil, err
	}
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	args = append(args, "-address", address, "-database", s.Postgres.URL(database), "-names", strings.Join(names, ","))
	p, err := s.launch("reader", nil, args...)
	if err != nil {
		return nil, err
	}
	i := &Indexer{p, "http://" + address, "http://" + address + "/api/v1/status"}
	return i, i.Ready(ctx)
}

// StartBoth starts a registry and an indexer that receives its events.
func (s *System) StartBoth(ctx context.Context, storage, database string) (*Registry, *Indexer, error) {
	address, err := FreeAddress()
	if err != nil {
		return nil, nil, err
	}
	registry, err := s.StartRegistry(ctx, storage, "http://"+address+"/events")
	if err != nil {
		return nil, nil, err
	}
	i, err := s.StartIndexer(ctx, database, address, "PORTBOOK_REGISTRY_URL="+registry.URL, "PORTBOOK_EVENTS_TOKEN="+token)
	return registry, i, err
}

// StartZot starts a program of zot, with its search and with storage in the System's
// directory. All else is as zot comes.
func (s *System) StartZot(ctx context.Context, program string) (*Registry, error) {
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	host, port, _ := strings.Cut(address, ":")
	config := fmt.Sprintf(`{
		"distSpecVersion": "1.1.1", "storage": {"rootDirectory": %q}, "http": {"address": %q, "port": %q},
		"log": {"level": "warn"}, "extensions": {"search": {"enable": true}}
	}`, filepath.Join(s.dir, "zot-content"), host, port)
	file := filepath.Join(s.dir, "zot.json")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	if err := os.Symlink(program, filepath.Join(s.dir, "zot")); err != nil {
		return nil, err
	}
	p, err := s.launch("zot", nil, "serve", file)
	if err != nil {
		return nil, err
	}
	r := &Registry{p, "http://" + address}
	return r, ready(ctx, p, r.URL+"/v2/")
}

// StartScan starts "portbook scan" of a registry.
func (s *System) StartScan(registry, database string) (*Program, error) {
	return s.launchIndexer(database, []string{"PORTBOOK_REGISTRY_URL=" + registry}, "scan")
}

// StartVerify starts "portbook verify", which compares a book with its registry.
func (s *System) StartVerify(registry, database string) (*Program, error) {
	return s.launchIndexer(database, []string{"PORTBOOK_REGISTRY_URL=" + registry}, "verify")
}

// nowhere is the address of a registry that is never used.
const nowhere = "http://registry.invalid"

// Migrate runs "portbook migrate up" on a database.
func (s *System) Migrate(ctx context.Context, database string) error {
	p, err := s.launchIndexer(database, []string{"PORTBOOK_REGISTRY_URL=" + nowhere}, "migrate", "up", "--yes")
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	if outcome := p.Outcome(); outcome != "exit status 0" {
		return fmt.Errorf("portbook migrate up: %s: %s", outcome, p.Tail())
	}
	return nil
}

func (s *System) launchIndexer(database string, settings []string, args ...string) (*Program, error) {
	settings = append(settings, "PORTBOOK_DATABASE_POSTGRES_URL="+s.Postgres.URL(database))
	return s.launch("portbook", settings, args...)
}

// FreeAddress returns a local address on which nobody listens.
func FreeAddress() (string, error) {
	port, err := localpg.FreePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// ready waits until a program answers 200 at address.
func ready(ctx context.Context, p *Program, address string) error {
	return Wait(ctx, readyTimeout, "an answer of "+address, func() (bool, error) {
		if p.Gone() {
			return false, fmt.Errorf("it ended by itself (%s): %s", p.Outcome(), p.Tail())
		}
		resp, err := http.Get(address)
		if err != nil {
			return false, nil
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
}

// Wait calls ask until it returns true. It fails with the first error, with ctx, or
// after limit.
func Wait(ctx context.Context, limit time.Duration, what string, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		yes, err := ask()
		if yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting %v for %s: %w", limit, what, ctx.Err())
		case <-tick.C:
		}
	}
}
