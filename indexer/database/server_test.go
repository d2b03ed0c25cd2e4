package database_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer/config"
	"github.com/portbook/portbook/indexer/database"
	"github.com/portbook/portbook/schema/localpg"
)

// serverDir is the directory of the server that passwordServer starts, or "".
var serverDir string

// passwordServer starts the server of this test program. It asks for passwords, which
// the shared server of other tests does not.
var passwordServer = sync.OnceValues(func() (*localpg.Server, error) {
	dir, err := os.MkdirTemp("", "database-test-")
	if err != nil {
		return nil, err
	}
	serverDir = dir
	if err := os.Chmod(dir, 0o755); err != nil { // the server's account must be able to enter it
		return nil, err
	}
	return localpg.Start(context.Background(), localpg.Config{Dir: filepath.Join(dir, "postgres"), Durable: true})
})

func TestMain(m *testing.M) {
	code := m.Run()
	if serverDir != "" {
		if server, err := passwordServer(); err == nil {
			server.Stop()
		}
		os.RemoveAll(serverDir)
	}
	os.Exit(code)
}

// serverURL returns the URL of a database as a user, and as the superuser if user is "".
// Without PostgreSQL it skips the test, or fails it if the variable CI is set.
func serverURL(t *testing.T, name, user, password string) string {
	t.Helper()
	server, err := passwordServer()
	if err != nil && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server.URL(name))
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		u.User = url.User(user)
	}
	if password != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

// execute runs SQL as the superuser.
func execute(t *testing.T, name, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), serverURL(t, name, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// load returns the configuration of a database. Without another pgpass file among
// the variables, there is none.
func load(t *testing.T, url string, environ ...string) config.Config {
	t.Helper()
	all := []string{"PORTBOOK_DATABASE_POSTGRES_URL=" + url, "HOME=" + t.TempDir()}
	c, err := config.Load(config.Source{Environ: append(all, environ...), OnlyDatabase: true})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// parse returns the connections of a configuration and what was logged.
func parse(t *testing.T, url string, environ ...string) (*database.Connections, string) {
	t.Helper()
	var log strings.Builder
	cs, err := database.Parse(load(t, url, environ...), slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return cs, log.String()
}

// file writes a file that only we can read, and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// login returns the error of a query on each pool of the connections, nil if both work.
func login(t *testing.T, cs *database.Connections) error {
	t.Helper()
	pools, err := cs.OpenPools(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer pools.Close()
	if err := pools.Ingest.Ping(t.Context()); err != nil {
		return fmt.Errorf("ingest: %w", err)
	}
	return pools.Read.Ping(t.Context())
}
