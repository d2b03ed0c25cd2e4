// Package localpg starts and stops a private PostgreSQL server, for tests and for
// `make up`. It is not for production.
//
// A server listens on 127.0.0.1 only, never on a Unix socket, and ends with the
// process that started it. PostgreSQL must be installed; Find returns where it is.
// Versions 14 to 18 are known to work.
//
// PostgreSQL refuses to run as root. If the caller is root, the server runs as the
// account that process.Unprivileged returns, and its files belong to that account.
package localpg

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/schema/localpg/process"
)

const (
	// startTimeout limits a start. A start takes 0.2 to 0.4 s (measured), but recovery
	// after a crash may take longer.
	startTimeout = time.Minute

	// stopTimeout limits a fast shutdown. It takes 0.1 to 0.3 s (measured), but its
	// checkpoint may take longer on a slow disk.
	stopTimeout = 30 * time.Second

	// pollInterval is the pause between two attempts to connect to a starting server.
	pollInterval = 25 * time.Millisecond
)

// Files in Config.Dir.
const (
	dataName     = "data"     // the database cluster
	newDataName  = "data.new" // a cluster that initdb has not finished
	passwordName = "password" // of the superuser, mode 0600; durable servers only
)

// A Config says how to run a server.
type Config struct {
	// Dir holds the server's files. It is created if it does not exist; else it must
	// be empty or hold a server of this package. If the caller is root, its owner
	// becomes the account that the server runs as.
	Dir string

	// Port is the TCP port; 0 chooses a free one.
	Port int

	// Durable servers never lose committed data, and require a password. Other
	// servers are for tests: they trust every local user, and lose data if the machine
	// crashes, but not if only the server crashes.
	Durable bool

	// Settings override those of postgresql.conf and ours, for example
	// "max_standby_streaming_delay": "0".
	Settings map[string]string

	// Files are written to the data directory before each start, such as certificates
	// or pg_hba.conf. Only the server's account can read them. Settings name them
	// without a directory. A pg_hba.conf may refuse the superuser: the server then
	// counts as started when it does so.
	Files map[string][]byte

	User   string    // the superuser; "" means portbook
	Log    io.Writer // receives the server's log; may be nil
	BinDir string    // the directory of initdb and postgres; "" means that of Find
	Env    []string  // added to the server's environment, such as LD_LIBRARY_PATH
}

// A Server is a PostgreSQL server that Start started. It is safe for concurrent use.
type Server struct {
	cfg      Config
	account  *process.Account // nil means the caller's
	password string

	mu   sync.Mutex // held while the server starts or stops
	proc *process.Process
}

// Start starts a server and waits until it accepts connections. The context limits
// the start only; the server runs until Stop or the end of the process.
//
// It returns ErrNotInstalled if PostgreSQL is not found.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.User == "" {
		cfg.User = "portbook"
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, err
	}
	cfg.Dir = dir
	account, err := process.Unprivileged()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, account: account}
	if err := s.prepare(ctx); err != nil {
		return nil, fmt.Errorf("PostgreSQL in %s: %w", cfg.Dir, err)
	}
	if err := s.start(ctx); err != nil {
		return nil, fmt.Errorf("PostgreSQL in %s: %w", cfg.Dir, err)
	}
	return s, nil
}

// prepare creates the directory, the password and the cluster if they do not exist,
// and finds programs of the cluster's version.
func (s *Server) prepare(ctx context.Context) error {
	if err := s.claimDir(); err != nil {
		return err
	}
	if s.cfg.Durable {
		if err := s.readPassword(); err != nil {
			return err
		}
	}
	version, err := clusterVersion(s.path(dataName))
	if err != nil {
		return err
	}
	if s.cfg.BinDir == "" {
		if s.cfg.BinDir, err = find(version); err != nil {
			return err
		}
	}
	if version == "" {
		return s.initdb(ctx)
	}
	return nil
}

func (s *Server) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

// claimDir creates the directory and gives it to the server's account. It refuses a
// directory with other files, so that a mistake (Dir: /etc) does no harm.
func (s *Server) claimDir() error {
	if err := os.MkdirAll(filepath.Dir(s.cfg.Dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(s.cfg.Dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch e.Name() {
		case dataName, newDataName, passwordName:
		default:
			return fmt.Errorf("the directory contains a foreign file, %s: choose an empty directory", e.Name())
		}
	}
	return s.account.Own(s.cfg.Dir)
}

// readPassword reads the superuser's password, or generates one for a new cluster.
func (s *Server) readPassword() error {
	name := s.path(passwordName)
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		b = []byte(rand.Text())
		if err := os.WriteFile(name, b, 0o600); err != nil {
			return err
		}
		// initdb, which runs as the account, must be able to read it.
		err = s.account.Own(name)
	}
	s.password = strings.TrimSpace(string(b))
	return err
}

// clusterVersion returns the major version of the cluster in dir, or "" if there is
// no cluster.
func clusterVersion(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// initdb creates a new cluster under another name and renames it, so that an
// interrupted initdb leaves no incomplete cluster.
func (s *Server) initdb(ctx context.Context) error {
	if err := os.RemoveAll(s.path(newDataName)); err != nil {
		return err
	}
	args := []string{"-D", s.path(newDataName), "-U", s.cfg.User, "-E", "UTF8", "--locale=" + locale}
	if s.cfg.Durable {
		args = append(args, "--auth=scram-sha-256", "--pwfile="+s.path(passwordName))
	} else {
		args = append(args, "--auth=trust", "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.cfg.BinDir, "initdb"), args...)
	s.dress(cmd)
	cmd.SysProcAttr = s.account.Attributes()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, process.LastLines(out))
	}
	return os.Rename(s.path(newDataName), s.path(dataName))
}

// dress sets the directory and environment of cmd. From the caller's environment it
// passes only PATH: variables such as PGDATA and PGOPTIONS would change the server,
// and a locale that is not installed would stop it.
func (s *Server) dress(cmd *exec.Cmd) {
	cmd.Dir = s.cfg.Dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=" + locale, "TZ=UTC"}, s.cfg.Env...)
}

// start starts the server on the existing cluster. It chooses a port the first time
// and keeps it.
func (s *Server) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := waitUnused(ctx, s.path(dataName)); err != nil {
		return err
	}
	if s.cfg.Port == 0 {
		port, err := FreePort()
		if err != nil {
			return err
		}
		s.cfg.Port = port
	}
	if err := s.writeFiles(); err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(s.cfg.BinDir, "postgres"), s.arguments()...)
	s.dress(cmd)
	proc, err := process.Start(cmd, s.account, s.cfg.Log)
	if err != nil {
		return err
	}
	if err := s.waitReady(ctx, proc); err != nil {
		proc.Stop(syscall.SIGINT, stopTimeout)
		return err
	}
	s.proc = proc
	return nil
}

// writeFiles writes Config.Files to the data directory.
func (s *Server) writeFiles() error {
	for name, content := range s.cfg.Files {
		name = filepath.Join(s.path(dataName), filepath.Base(name))
		// PostgreSQL refuses a private key that other users can read.
		if err := os.WriteFile(name, content, 0o600); err != nil {
			return err
		}
		if err := s.account.Own(name); err != nil {
			return err
		}
	}
	return nil
}

// testSettings are the settings of a server that is not durable.
var testSettings = []string{
	// The kernel keeps the writes of a killed server, so this loses data only if the
	// machine crashes. With synchronous_commit=off, killing the server would lose
	// commits.
	"fsync=off",
	"max_connections=300", // packages are tested in parallel, each with a pool per test
	// A standby that was stopped for a while can catch up: no test writes 256 MB.
	"wal_keep_size=256MB",
}

func (s *Server) arguments() []string {
	args := []string{"-D", s.path(dataName), "-p", strconv.Itoa(s.cfg.Port), "-k", "", "-h", "127.0.0.1"}
	if !s.cfg.Durable {
		for _, setting := range testSettings {
			args = append(args, "-c", setting)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Settings)) {
		args = append(args, "-c", name+"="+s.cfg.Settings[name]) // overrides earlier arguments
	}
	return args
}

// waitReady waits until proc accepts connections. It fails if proc ends.
func (s *Server) waitReady(ctx context.Context, proc *process.Process) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		if s.isRefusal(err) {
			return nil
		}
		select {
		case <-proc.Done():
			return fmt.Errorf("the server ended during its start: %s", proc.Tail())
		case <-ctx.Done():
			return fmt.Errorf("the server does not accept connections: %w", err)
		case <-tick.C:
		}
	}
}

// isRefusal reports whether err is a refusal by the caller's pg_hba.conf. Only a server
// that accepts connections can refuse one so.
func (s *Server) isRefusal(err error) bool {
	_, own := s.cfg.Files["pg_hba.conf"]
	refused, answered := errors.AsType[*pgconn.PgError](err)
	return own && answered && refused.Code == "28000" // invalid_authorization_specification
}

// URL returns the address of a database with the superuser and the password. The
// database need not exist; postgres always does.
func (s *Server) URL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User(s.cfg.User),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.cfg.Port)), Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	if s.password != "" {
		u.User = url.UserPassword(s.cfg.User, s.password)
	}
	return u.String()
}

// EnsureDatabase creates a database if it does not exist.
func (s *Server) EnsureDatabase(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, s.URL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var exists bool
	const q = `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`
	if err := conn.QueryRow(ctx, q, name).Scan(&exists); err != nil {
		return fmt.Errorf("database %q: %w", name, err)
	}
	if exists {
		return nil
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("database %q: %w", name, err)
	}
	return nil
}

// Done returns a channel that is closed when the server process ends for any reason.
// Restart replaces the channel.
func (s *Server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.Done()
}

// Stop ends the server by a fast shutdown, which breaks connections and rolls back
// transactions. After 30 s it kills the server. It does nothing if the server has
// ended.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.Stop(syscall.SIGINT, stopTimeout)
}

// Kill ends the server as a crash would.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.Kill()
}

// Restart stops the server if it runs, and starts it with the same port and data.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.Stop(syscall.SIGINT, stopTimeout)
	return s.start(ctx)
}

// Tail returns the end of the server's log as one line.
func (s *Server) Tail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.Tail()
}
