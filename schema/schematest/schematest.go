// Package schematest creates a database for each test on a real PostgreSQL server.
package schematest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/schema"
	"github.com/portbook/portbook/schema/localpg"
)

// New returns a pool of connections to a new database with the schema, which is
// dropped when the test ends. That takes about 50 ms, because the database is a copy
// of a template that is built once for each state of the migrations. New is safe for
// parallel tests.
//
// Without PostgreSQL the test is skipped, or fails if the variable CI is set.
func New(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// URL is like New but returns the address of the database, for another process.
func URL(t testing.TB) string {
	t.Helper()
	template, err := template()
	if err != nil {
		unavailable(t, err)
	}
	return create(t, "TEMPLATE "+template)
}

// Copy is like URL but copies a database that URL has created, with its rows. Nobody may be
// connected to it.
func Copy(t testing.TB, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return create(t, "TEMPLATE "+strings.TrimPrefix(u.Path, "/"))
}

// Empty is like URL but creates a database without the schema.
func Empty(t testing.TB) string {
	t.Helper()
	if _, err := localpg.Shared(); err != nil {
		unavailable(t, err)
	}
	return create(t, "TEMPLATE template0")
}

func unavailable(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("no PostgreSQL for tests: %v", err)
	}
	t.Skipf("no PostgreSQL for tests: %v", err)
}

var databases atomic.Int64

// create creates a database with the given options and returns its address.
func create(t testing.TB, how string) string {
	t.Helper()
	name := fmt.Sprintf("test_%d_%d", os.Getpid(), databases.Add(1))
	exec(t, "CREATE DATABASE "+name+" "+how)
	t.Cleanup(func() { exec(t, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	server, err := localpg.Shared()
	if err != nil {
		t.Fatal(err)
	}
	return at(server, name)
}

func exec(t testing.TB, statement string) {
	t.Helper()
	server, err := localpg.Shared()
	if err == nil {
		err = admin(server, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, statement)
			return err
		})
	}
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// template returns the name of the template database for these migrations. It builds
// the template if no test program has done so.
var template = sync.OnceValues(func() (string, error) {
	server, err := localpg.Shared()
	if err != nil {
		return "", err
	}
	name, err := templateName()
	if err != nil {
		return "", err
	}
	return name, admin(server, func(ctx context.Context, conn *pgx.Conn) error {
		// Of the test programs that run at the same time, one builds, the others wait.
		const lockID = 0x706f7274 // arbitrary
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", lockID); err != nil {
			return err
		}
		var found bool
		const exists = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)"
		if err := conn.QueryRow(ctx, exists, name).Scan(&found); err != nil || found {
			return err
		}
		return build(ctx, conn, server, name)
	})
})

// build builds the template under another name and renames it, so that a program
// that is killed leaves no incomplete template.
func build(ctx context.Context, conn *pgx.Conn, server, name string) error {
	draft := name + "_draft"
	if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+draft+" WITH (FORCE)"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+draft+" TEMPLATE template0"); err != nil {
		return err
	}
	config, err := pgx.ParseConfig(at(server, draft))
	if err != nil {
		return err
	}
	if _, err := schema.Up(ctx, schema.Config{Conn: config}); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "ALTER DATABASE "+draft+" RENAME TO "+name)
	var already *pgconn.PgError
	if errors.As(err, &already) && already.Code == "42P04" { // duplicate_database
		return nil
	}
	return err
}

// templateName returns a name that depends on the content of the migrations.
func templateName() (string, error) {
	sum := sha256.New()
	files := schema.Migrations()
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, path)
		fmt.Fprintf(sum, "%s\x00%s\x00", path, body)
		return err
	})
	return "template_" + hex.EncodeToString(sum.Sum(nil)[:8]), err
}

// admin runs f on a connection to the server's maintenance database.
func admin(server string, f func(context.Context, *pgx.Conn) error) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, at(server, "postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return f(ctx, conn)
}

// at returns server, an address, with another database.
func at(server, database string) string {
	u, err := url.Parse(server)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		panic("not a Postgres URL: " + server) // localpg returns only such URLs
	}
	u.Path = "/" + database
	return u.String()
}
