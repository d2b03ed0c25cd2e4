package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/schema/localpg/process"
)

const (
	readyTimeout = time.Minute
	stopTimeout  = 15 * time.Second
	pause        = 50 * time.Millisecond // between two questions whether something has come to pass
)

// token is what the registry sends with its events.
const token = "bench"

// A system is the programs under measurement, in a directory that goes when it
// is closed, and a PostgreSQL whose data may stay.
type system struct {
	dir      string
	data     string // of PostgreSQL
	clone    string
	log      *os.File // for PostgreSQL's log; nil: it goes nowhere
	postgres *localpg.Server
	running  []*program // registries and indexers, those that have ended too
}

// newSystem starts PostgreSQL in data, "" for a directory that goes at the end.
// Its log goes to a file, if one is named.
func newSystem(ctx context.Context, clone, data, log string) (*system, error) {
	dir, err := os.MkdirTemp("", "portbook-benchsearch-")
	if err != nil {
		return nil, err
	}
	s := &system{dir: dir, data: data, clone: clone}
	if s.data == "" {
		s.data = filepath.Join(dir, "postgres")
	}
	if log != "" {
		if s.log, err = os.Create(log); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}
	// PostgreSQL may run as another account, which must be able to enter.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *system) start(ctx context.Context) (err error) {
	if err := s.build(ctx, "registry", "."); err != nil {
		return err
	}
	if err := s.build(ctx, "indexer", "./cmd/indexer"); err != nil {
		return err
	}
	s.postgres, err = localpg.Start(ctx, localpg.Config{Dir: s.data, Durable: true, Log: s.log})
	return err
}

// build makes a module's program, with the versions that users get.
func (s *system) build(ctx context.Context, module, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", filepath.Join(s.dir, module), pkg)
	cmd.Dir = filepath.Join(s.clone, module)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build in %s: %w: %s", cmd.Dir, err, process.LastLines(out))
	}
	return nil
}

func (s *system) close() error {
	for _, p := range s.running {
		p.Stop(syscall.SIGTERM, stopTimeout)
	}
	if s.postgres != nil {
		s.postgres.Stop()
	}
	if s.log != nil {
		s.log.Close()
	}
	return os.RemoveAll(s.dir)
}

// Settings of PostgreSQL while a book is loaded, and while it is measured. A load
// that is interrupted is begun anew, so it syncs nothing; what is measured syncs
// all. What is not said is PostgreSQL's own default.
var (
	loadSettings = []string{
		"fsync=off", "full_page_writes=off", "synchronous_commit=off", "wal_level=minimal", "max_wal_senders=0", "autovacuum=off",
		"max_wal_size=8GB", "checkpoint_timeout=1h", "maintenance_work_mem=1GB", "work_mem=64MB",
	}
	planSettings = []string{
		"session_preload_libraries=auto_explain", "auto_explain.log_min_duration=10ms", "auto_explain.log_analyze=on", "auto_explain.log_buffers=on",
		"auto_explain.log_timing=on",
	}
	measureSettings = []string{
		"work_mem=32MB",        // a bitmap of a million rows stays exact
		"random_page_cost=1.1", // of a solid-state disk
		"max_wal_size=4GB",     // a checkpoint every five minutes, not after each thousand pushes
	}
)

// settings restarts PostgreSQL with these settings and no others. What was
// written before is on the disk from then on.
func (s *system) settings(ctx context.Context, settings []string) error {
	err := s.on(ctx, "postgres", func(conn *pgx.Conn) error {
		for _, q := range []string{"CHECKPOINT", "ALTER SYSTEM RESET ALL"} {
			if _, err := conn.Exec(ctx, q); err != nil {
				return err
			}
		}
		for _, setting := range append(memorySettings(), settings...) {
			name, value, _ := strings.Cut(setting, "=")
			if strings.HasPrefix(name, "auto_explain.") { // unknown until it is loaded
				if _, err := conn.Exec(ctx, "LOAD 'auto_explain'"); err != nil {
					return err
				}
			}
			if _, err := conn.Exec(ctx, fmt.Sprintf("ALTER SYSTEM SET %s = '%s'", name, value)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	unix.Sync() // the checkpoint of a server without fsync does not
	return s.postgres.Restart(ctx)
}

// memorySettings are those that go by the memory of the machine: a quarter of it
// for PostgreSQL's own buffers (its documentation's "reasonable starting value"),
// at most 6 GB, and what the kernel keeps beside.
func memorySettings() []string {
	memory := memoryKiB() >> 10 // in MiB
	return []string{
		fmt.Sprintf("shared_buffers=%dMB", max(min(memory/4, 6<<10), 128)),
		fmt.Sprintf("effective_cache_size=%dMB", max(memory/2, 256)),
	}
}

func memoryKiB() int64 {
	b, _ := os.ReadFile("/proc/meminfo") // without it PostgreSQL gets its least
	rest, _ := strings.CutPrefix(string(b), "MemTotal:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[0], 10, 64) // the kernel writes numbers
	return n
}

// on runs f on one connection to a database.
func (s *system) on(ctx context.Context, database string, f func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.postgres.URL(database))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return f(conn)
}

// A program runs, and writes its log to a file: through a pipe, the registry's
// line for each request would cost this process time.
type program struct {
	*process.Process
	log string
}

// tail is the end of the log, in one line for a message.
func (p *program) tail() string {
	b, _ := os.ReadFile(p.log) // without its log the message is only shorter
	return process.LastLines(b)
}

func (p *program) gone() bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// launch starts a program. Its environment is env alone: a setting of the
// caller's would change what is measured.
func (s *system) launch(name string, env []string, args ...string) (*program, error) {
	log := filepath.Join(s.dir, fmt.Sprintf("%s-%d.log", name, len(s.running)))
	const toFile = `exec "$0" "$@" >"$LOG" 2>&1`
	cmd := exec.Command("/bin/sh", append([]string{"-c", toFile, filepath.Join(s.dir, name)}, args...)...)
	cmd.Dir = s.dir
	cmd.Env = append(env, "LOG="+log)
	started, err := process.Start(cmd, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("start the %s: %w", name, err)
	}
	p := &program{started, log}
	s.running = append(s.running, p)
	return p, nil
}

func (p *program) stop() { p.Stop(syscall.SIGTERM, stopTimeout) }

// A registry is the stock registry, which forgets everything when it stops.
type registry struct {
	*program
	url string
}

// startRegistry starts it on config/filesystem.yml, in memory: its own speed is
// not what is measured. Events go to notify.
func (s *system) startRegistry(ctx context.Context, notify string) (*registry, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	p, err := s.launch("registry", []string{
		"REGISTRY_HTTP_ADDR=" + address,
		"REGISTRY_STORAGE={inmemory: {}, cache: {blobdescriptor: inmemory}, maintenance: {uploadpurging: {enabled: false}}}",
		"REGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL=" + notify,
		`REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS={Authorization: ["Bearer ` + token + `"]}`,
	}, "serve", filepath.Join(s.clone, "registry/config/filesystem.yml"))
	if err != nil {
		return nil, err
	}
	r := &registry{p, "http://" + address}
	return r, ready(ctx, p, r.url+"/v2/")
}

// An indexer serves one book.
type indexer struct {
	*program
	url string
}

// startIndexer starts "indexer serve" on a database. Settings are added to what
// it needs; all else is as it comes.
func (s *system) startIndexer(ctx context.Context, database, address string, settings ...string) (*indexer, error) {
	operations, err := freeAddress()
	if err != nil {
		return nil, err
	}
	env := append([]string{
		"PORTBOOK_DATABASE_POSTGRES_URL=" + s.postgres.URL(database),
		"PORTBOOK_HTTP_ADDRESS=" + address, "PORTBOOK_HTTP_OPERATIONS_ADDRESS=" + operations,
	}, settings...)
	p, err := s.launch("indexer", env, "serve")
	if err != nil {
		return nil, err
	}
	return &indexer{p, "http://" + address}, ready(ctx, p, "http://"+operations+"/readyz")
}

// nowhere is the address of a registry that is never asked.
const nowhere = "http://registry.invalid"

// migrate runs "indexer migrate up" on a database.
func (s *system) migrate(ctx context.Context, database string) error {
	env := []string{"PORTBOOK_DATABASE_POSTGRES_URL=" + s.postgres.URL(database), "PORTBOOK_REGISTRY_URL=" + nowhere}
	p, err := s.launch("indexer", env, "migrate", "up", "--yes")
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	if outcome := p.Outcome(); outcome != "exit status 0" {
		return fmt.Errorf("indexer migrate up: %s: %s", outcome, p.tail())
	}
	return nil
}

// postmaster is the number of PostgreSQL's first process, whose children do the
// work; 0 if it cannot be told.
func (s *system) postmaster() int {
	b, _ := os.ReadFile(filepath.Join(s.data, "data/postmaster.pid"))
	first, _, _ := strings.Cut(string(b), "\n")
	pid, _ := strconv.Atoi(first)
	return pid
}

func freeAddress() (string, error) {
	port, err := localpg.FreePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// ready waits until a program answers 200 at address.
func ready(ctx context.Context, p *program, address string) error {
	return wait(ctx, readyTimeout, "an answer of "+address, func() (bool, error) {
		if p.gone() {
			return false, fmt.Errorf("it ended by itself (%s): %s", p.Outcome(), p.tail())
		}
		resp, err := http.Get(address)
		if err != nil {
			return false, nil
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
}

// wait asks until the answer is yes. It fails with the first error, with ctx, or
// when the time is over.
func wait(ctx context.Context, limit time.Duration, what string, ask func() (bool, error)) error {
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
