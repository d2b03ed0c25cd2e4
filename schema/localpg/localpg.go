// Package localpg starts and stops a private PostgreSQL server: for tests, and
// for trying Portbook out with `make up`. A server in production is somebody
// else's to run.
//
// A server listens on 127.0.0.1 only, never on a Unix socket, and does not
// outlive the process that started it. PostgreSQL itself must be installed;
// Find says where it is, or how to get it. Versions 14 to 18 are known to work.
//
// PostgreSQL refuses to run as root. For root the server therefore runs as the
// account that process.Unprivileged gives, and its files belong to that account.
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
	// startTimeout bounds one start. A start takes 0.2 to 0.4 s (measured); the
	// rest is for recovery after a crash with much to replay.
	startTimeout = time.Minute

	// stopTimeout bounds a fast shutdown, which takes 0.1 to 0.3 s (measured)
	// and longer if its checkpoint has much to write to a slow disk.
	stopTimeout = 30 * time.Second

	// pollInterval is how often a server that is starting is asked.
	pollInterval = 25 * time.Millisecond
)

// Files in Config.Dir.
const (
	dataName     = "data"     // the database cluster
	newDataName  = "data.new" // a cluster that initdb has not finished
	passwordName = "password" // of the superuser, 0600; absent for test servers
)

// Config says what server to start.
type Config struct {
	// Dir holds the server's files. It is made if it is missing; if it exists it
	// must be empty or hold a server of this package. For root it is given to
	// the account that the server runs as.
	Dir string

	// Port is the TCP port; 0 chooses a free one.
	Port int

	// Durable servers keep what was committed and ask for a password. Others
	// are for tests: they trust every local user, and lose data in a crash of
	// the machine (not of the server alone).
	Durable bool

	// Settings are added to those of postgresql.conf and win over ours, as
	// "max_standby_streaming_delay": "0".
	Settings map[string]string

	// Files are written into the data directory before each start, readable by
	// the server's account alone: certificates, pg_hba.conf. Settings name them
	// without a directory. A pg_hba.conf that keeps the superuser out is taken:
	// the server counts as started when it refuses him.
	Files map[string][]byte

	User   string    // the superuser; portbook if empty
	Log    io.Writer // gets the server's log; may be nil
	BinDir string    // where initdb and postgres are; asks Find if empty
	Env    []string  // added to the server's environment, such as LD_LIBRARY_PATH
}

// A Server is a PostgreSQL server that Start started. Its methods may be called
// from several goroutines.
type Server struct {
	cfg      Config
	account  *process.Account // nil: the caller's own
	password string

	mu   sync.Mutex // held while the server starts or stops
	proc *process.Process
}

// Start starts a server and waits until it takes connections. The context
// bounds the start, not the life of the server.
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

// prepare makes everything that a start needs: the directory, the password, the
// cluster and the programs that fit it.
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

// claimDir makes the directory and gives it to the server's account. It touches
// no directory with files of others, or a slip of the pen (Dir: /etc) would
// take the machine down.
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
			return fmt.Errorf("the directory holds %s, which is not ours: choose an empty directory", e.Name())
		}
	}
	return s.account.Own(s.cfg.Dir)
}

// readPassword reads the superuser's password, or makes one for a new cluster.
func (s *Server) readPassword() error {
	name := s.path(passwordName)
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		b = []byte(rand.Text())
		if err := os.WriteFile(name, b, 0o600); err != nil {
			return err
		}
		// initdb, which runs as the account, reads it too.
		err = s.account.Own(name)
	}
	s.password = strings.TrimSpace(string(b))
	return err
}

// clusterVersion is the major version of the cluster in dir, and empty if there
// is none yet.
func clusterVersion(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// initdb makes a new cluster. It is made beside its place and renamed, so that
// one that was interrupted is never taken for a whole one.
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

// dress gives cmd the directory and environment of the server. Nothing
// of the caller's environment is passed on but PATH: PGDATA, PGOPTIONS and the
// like would change what is started, and a locale that is not installed stops it.
func (s *Server) dress(cmd *exec.Cmd) {
	cmd.Dir = s.cfg.Dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=" + locale, "TZ=UTC"}, s.cfg.Env...)
}

// start starts the server on the cluster that is there. It sets the port the
// first time and keeps it from then on.
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

// writeFiles puts the caller's files into the data directory.
func (s *Server) writeFiles() error {
	for name, content := range s.cfg.Files {
		name = filepath.Join(s.path(dataName), filepath.Base(name))
		// PostgreSQL refuses a private key that others may read.
		if err := os.WriteFile(name, content, 0o600); err != nil {
			return err
		}
		if err := s.account.Own(name); err != nil {
			return err
		}
	}
	return nil
}

// testSettings are those of a server that need not be durable.
var testSettings = []string{
	// The kernel keeps what a killed server wrote, so that this loses nothing
	// but in a crash of the machine. synchronous_commit=off would: a test that
	// kills the server then finds commits gone.
	"fsync=off",
	"max_connections=300", // packages test in parallel, each with a pool per test
	// A standby that was stopped for a while finds what it missed: 256 MB is
	// more than any test writes.
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
		args = append(args, "-c", name+"="+s.cfg.Settings[name]) // of two the last one counts
	}
	return args
}

// waitReady waits until proc takes connections, or ends.
func (s *Server) waitReady(ctx context.Context, proc *process.Process) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		if s.keepsOut(err) {
			return nil
		}
		select {
		case <-proc.Done():
			return fmt.Errorf("the server ended while starting: %s", proc.Tail())
		case <-ctx.Done():
			return fmt.Errorf("the server takes no connections: %w", err)
		case <-tick.C:
		}
	}
}

// keepsOut tells whether err is the refusal of a pg_hba.conf that the caller
// wrote, which a server that takes no connections yet does not read.
func (s *Server) keepsOut(err error) bool {
	_, own := s.cfg.Files["pg_hba.conf"]
	refused, answered := errors.AsType[*pgconn.PgError](err)
	return own && answered && refused.Code == "28000" // invalid_authorization_specification
}

// URL is the address of a database of the server, with the superuser and the
// password. The database need not exist; postgres always does.
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

// EnsureDatabase makes a database unless it exists.
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

// Done is closed when the server process has ended, wanted or not. After
// Restart there is a new channel.
func (s *Server) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.Done()
}

// Stop ends the server by a fast shutdown: open connections are cut, open
// transactions rolled back. A server that has not ended after half a minute is
// killed. Stopping a server that has ended does nothing.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.Stop(syscall.SIGINT, stopTimeout)
}

// Kill ends the server as a crash does, for tests of what happens then.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.Kill()
}

// Restart stops the server if it runs, and starts it on the same port with the
// same data.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proc.Stop(syscall.SIGINT, stopTimeout)
	return s.start(ctx)
}

// Tail is the end of the server's log, in one line for a message.
func (s *Server) Tail() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.Tail()
}
