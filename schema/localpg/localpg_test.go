package localpg_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/schema/localpg"
)

// start starts a server on dir and stops it when the test ends.
func start(t *testing.T, cfg localpg.Config) *localpg.Server {
	t.Helper()
	s, err := localpg.Start(t.Context(), cfg)
	if errors.Is(err, localpg.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// tempDir returns a new directory that the server's account can reach. t.TempDir is
// below a directory of mode 0700.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "localpg-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var got string
	if err := conn.QueryRow(t.Context(), sql).Scan(&got); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return got
}

// Committed data survives a stop, a crash and a restart, and the address stays the
// same.
func TestDataSurvives(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{true, false} {
		t.Run(fmt.Sprintf("durable=%v", durable), func(t *testing.T) {
			t.Parallel()
			s := start(t, localpg.Config{Dir: tempDir(t), Durable: durable})
			url := s.URL("postgres")
			for name, end := range map[string]func(){"stop": s.Stop, "kill": s.Kill, "nothing": func() {}} {
				execute(t, url, "CREATE TABLE ship_"+name+" AS SELECT 'Argo' AS name")
				end()
				if err := s.Restart(t.Context()); err != nil {
					t.Fatalf("restart after %s: %v", name, err)
				}
				if got := query(t, url, "SELECT name FROM ship_"+name); got != "Argo" {
					t.Errorf("after %s got %q, want Argo", name, got)
				}
			}
		})
	}
}

// A second Start finds the data and the password of the first.
func TestStartAgain(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	first := start(t, localpg.Config{Dir: dir, Durable: true, User: "book"})
	if err := first.EnsureDatabase(t.Context(), "book"); err != nil {
		t.Fatal(err)
	}
	execute(t, first.URL("book"), "CREATE TABLE ship AS SELECT 'Argo' AS name")
	first.Stop()

	second := start(t, localpg.Config{Dir: dir, Durable: true, User: "book"})
	if err := second.EnsureDatabase(t.Context(), "book"); err != nil {
		t.Fatalf("EnsureDatabase for a database that exists: %v", err)
	}
	if got := query(t, second.URL("book"), "SELECT name FROM ship"); got != "Argo" {
		t.Errorf("got %q, want Argo", got)
	}
}

// Two servers at the same time do not share tables.
func TestSideBySide(t *testing.T) {
	t.Parallel()
	one := start(t, localpg.Config{Dir: tempDir(t)})
	two := start(t, localpg.Config{Dir: tempDir(t)})
	execute(t, one.URL("postgres"), "CREATE TABLE one ()")
	execute(t, two.URL("postgres"), "CREATE TABLE two ()")
	const q = "SELECT string_agg(relname, ' ') FROM pg_class WHERE relname IN ('one', 'two')"
	if got := query(t, one.URL("postgres"), q); got != "one" {
		t.Errorf("the first server has tables %q, want one", got)
	}
	if got := query(t, two.URL("postgres"), q); got != "two" {
		t.Errorf("the second server has tables %q, want two", got)
	}
}

// Start refuses a directory that another server uses.
func TestDirectoryInUse(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	first := start(t, localpg.Config{Dir: dir})
	_, err := localpg.Start(t.Context(), localpg.Config{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("second start: got %v, want an error that names another server", err)
	}
	if got := query(t, first.URL("postgres"), "SELECT 'alive'"); got != "alive" {
		t.Errorf("the first server answers %q, want alive", got)
	}
}

// A server starts even if the process id in the pid file of a killed server now belongs
// to another process, here this test.
func TestStalePIDFile(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := start(t, localpg.Config{Dir: dir})
	name := filepath.Join(dir, "data", "postmaster.pid")
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	s.Kill()
	_, rest, _ := strings.Cut(string(content), "\n")
	if err := os.WriteFile(name, fmt.Appendf(nil, "%d\n%s", os.Getpid(), rest), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, s.URL("postgres"), "SELECT 'alive'"); got != "alive" {
		t.Errorf("got %q", got)
	}
}

// Start does not use a cluster that initdb did not finish.
func TestInterruptedInitdb(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "data.new", "base"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, localpg.Config{Dir: dir})
	if got := query(t, s.URL("postgres"), "SELECT 'alive'"); got != "alive" {
		t.Errorf("got %q", got)
	}
}

// Start refuses a directory with other files, and does not change it.
func TestForeignDirectory(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	if err := os.WriteFile(filepath.Join(dir, "passwd"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = localpg.Start(t.Context(), localpg.Config{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "foreign file") {
		t.Errorf("got %v, want an error about the foreign file", err)
	}
	after, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if owner(before) != owner(after) || before.Mode() != after.Mode() {
		t.Errorf("got owner %d and mode %v, want %d and %v as before",
			owner(after), after.Mode(), owner(before), before.Mode())
	}
}

func owner(fi os.FileInfo) uint32 { return fi.Sys().(*syscall.Stat_t).Uid }

// A durable server requires its password, and only the owner can read the file.
func TestPassword(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	s := start(t, localpg.Config{Dir: dir, Durable: true})
	fi, err := os.Stat(filepath.Join(dir, "password"))
	if err != nil {
		t.Fatal(err)
	}
	if got := fi.Mode().Perm(); got != 0o600 {
		t.Errorf("mode of the password file: got %v, want 0600", got)
	}
	cfg, err := pgx.ParseConfig(s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Password = "wrong"
	if conn, err := pgx.ConnectConfig(t.Context(), cfg); err == nil {
		conn.Close(t.Context())
		t.Error("a wrong password was accepted")
	}
}

// For root, the server runs as another user. If that user cannot reach the directory,
// the error names the remedy.
func TestUnreachableDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can change the account: run as root")
	}
	closed := filepath.Join(tempDir(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := localpg.Start(t.Context(), localpg.Config{Dir: filepath.Join(closed, "pg")})
	if err == nil || !strings.Contains(err.Error(), "chmod o+x "+closed) {
		t.Errorf("got %v, want an error that names %s and the remedy", err, closed)
	}
}

// Done is closed if the server ends without Stop.
func TestDone(t *testing.T) {
	t.Parallel()
	s := start(t, localpg.Config{Dir: tempDir(t)})
	done := s.Done()
	s.Kill()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("Done is not closed 10 s after the server was killed")
	}
}
