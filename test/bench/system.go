package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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

const (
	readyTimeout = time.Minute
	stopTimeout  = 15 * time.Second
	pause        = 50 * time.Millisecond // between two questions whether something has come to pass
)

// token is what the registry sends with its events.
const token = "bench"

// A system is the programs under measurement and what they need, in a directory
// that goes when it is closed.
type system struct {
	dir      string
	clone    string
	postgres *localpg.Server
	running  []*program // registries and indexers, those that have ended too
}

func newSystem(ctx context.Context, clone string) (*system, error) {
	dir, err := os.MkdirTemp("", "portbook-bench-")
	if err != nil {
		return nil, err
	}
	s := &system{dir: dir, clone: clone}
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
	s.postgres, err = localpg.Start(ctx, localpg.Config{Dir: filepath.Join(s.dir, "postgres"), Durable: true})
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
	return os.RemoveAll(s.dir)
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

// A registry is the stock registry on a directory of its own.
type registry struct {
	url     string
	program *program
}

// inMemory is the storage of a registry whose speed does not matter: filling
// 10,000 repositories on disk takes a minute, and removing them another.
const inMemory = "REGISTRY_STORAGE={inmemory: {}, cache: {blobdescriptor: inmemory}, maintenance: {uploadpurging: {enabled: false}}}"

// onDisk is a directory of ours.
func (s *system) onDisk() string {
	return "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + filepath.Join(s.dir, "content")
}

// startRegistry starts it on config/filesystem.yml, with its content as storage
// says. Events go to notify, or nowhere if that is "".
func (s *system) startRegistry(ctx context.Context, storage, notify string) (*registry, error) {
	address, err := freeAddress()
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
	r := &registry{url: "http://" + address, program: p}
	return r, ready(ctx, p, r.url+"/v2/")
}

func (r *registry) stop() { r.program.Stop(syscall.SIGTERM, stopTimeout) }

// indexerEnv is how an indexer is told of a registry and a database; all else is
// as it comes.
func (s *system) indexerEnv(registry, database string) []string {
	return []string{"PORTBOOK_REGISTRY_URL=" + registry, "PORTBOOK_DATABASE_POSTGRES_URL=" + s.postgres.URL(database)}
}

// indexer runs a command of the indexer to its end.
func (s *system) indexer(ctx context.Context, env []string, args ...string) error {
	p, err := s.launch("indexer", env, args...)
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	if outcome := p.Outcome(); outcome != "exit status 0" {
		return fmt.Errorf("indexer %s: %s: %s", strings.Join(args, " "), outcome, p.tail())
	}
	return nil
}

// newDatabase makes an empty database with the tables in it, and nothing left
// to be written of the one before.
func (s *system) newDatabase(ctx context.Context, registry, name string) (*pgx.Conn, error) {
	if err := s.postgres.EnsureDatabase(ctx, name); err != nil {
		return nil, err
	}
	if err := s.indexer(ctx, s.indexerEnv(registry, name), "migrate", "up", "--yes"); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, s.postgres.URL(name))
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, "CHECKPOINT")
	return conn, err
}

// dropDatabase drops it, with its connection.
func (s *system) dropDatabase(ctx context.Context, conn *pgx.Conn) error {
	name := conn.Config().Database
	if err := conn.Close(ctx); err != nil {
		return err
	}
	admin, err := pgx.Connect(ctx, s.postgres.URL("postgres"))
	if err != nil {
		return err
	}
	defer admin.Close(ctx)
	_, err = admin.Exec(ctx, "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
	return err
}

// postmaster is the number of PostgreSQL's first process, whose children do the
// work; 0 if it cannot be told.
func (s *system) postmaster() int {
	b, _ := os.ReadFile(filepath.Join(s.dir, "postgres/data/postmaster.pid"))
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
	return wait(ctx, readyTimeout, "an answer of "+pathOf(address), func() (bool, error) {
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

func pathOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Path
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
