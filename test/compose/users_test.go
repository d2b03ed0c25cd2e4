package compose

import (
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/schema"
	"github.com/portbook/portbook/schema/localpg"
)

// script is the file that the image of PostgreSQL runs when it creates the database.
const script = "deploy/users.sql"

// TestUsers runs the script with the environment of docker-compose.yml, and connects as
// each service does: to a new database, and to one whose tables the superuser created,
// as in versions without the script.
func TestUsers(t *testing.T) {
	t.Parallel()
	p := project(t)
	mounted := false
	for _, v := range p.Services["postgres"].Volumes {
		mounted = mounted || strings.HasSuffix(v.Source, script) && v.Target == "/docker-entrypoint-initdb.d/users.sql" && v.ReadOnly
	}
	if !mounted {
		t.Errorf("%s is not mounted in the directory that the image of PostgreSQL reads", script)
	}
	for name, before := range map[string]func(*testing.T, string){
		"new": func(*testing.T, string) {},
		"old": migrate,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			super := startPostgres(t)
			before(t, super)
			for range 2 { // the script can run again
				runScript(t, super)
			}
			migrate(t, as(t, super, "migrate"))
			for _, service := range []string{"indexer", "reader-1", "reader-2", "migrate"} {
				checkUser(t, as(t, super, service), service)
			}
			if name == "new" {
				refused(t, "a client with a wrong password", strings.Replace(super, "portbook:", "portbook_app:wrong", 1), "28P01")
			}
		})
	}
}

// startPostgres starts a server that requires passwords, with the superuser and the
// database of docker-compose.yml, and returns the superuser's URL.
func startPostgres(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "postgres") // the server's account cannot enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	server, err := localpg.Start(t.Context(), localpg.Config{Dir: filepath.Join(dir, "postgres"), Durable: true})
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(server.Stop)
	if err := server.EnsureDatabase(t.Context(), "portbook"); err != nil {
		t.Fatal(err)
	}
	return server.URL("portbook")
}

// runScript runs the script with psql, as the image does.
func runScript(t *testing.T, super string) {
	t.Helper()
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(psql, "-X", "-v", "ON_ERROR_STOP=1", "--no-password", "-d", super, "-f", filepath.Join(root, script))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for key, v := range project(t).Services["postgres"].Environment {
		cmd.Env = append(cmd.Env, key+"="+*v)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// migrate creates the tables as the user of a URL.
func migrate(t *testing.T, url string) {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := schema.Up(t.Context(), schema.Config{Conn: c}); err != nil {
		t.Fatalf("migrate as %s: %v", c.User, err)
	}
}

// as returns the URL of a service's database, with the server of the URL super.
func as(t *testing.T, super, service string) string {
	t.Helper()
	u, err := url.Parse(value(project(t).Services[service].Environment, "PORTBOOK_DATABASE_POSTGRES_URL"))
	if err != nil {
		t.Fatal(err)
	}
	at, err := url.Parse(super)
	if err != nil {
		t.Fatal(err)
	}
	u.Host, u.RawQuery = at.Host, at.RawQuery
	return u.String()
}

// rights are statements and the services that may run them.
var rights = []struct {
	sql string
	may []string
}{
	{"SELECT count(*) FROM repository", []string{"indexer", "reader-1", "reader-2", "migrate"}},
	{"INSERT INTO repository (name) VALUES ('x')", []string{"indexer", "migrate"}},
	{"UPDATE repository SET name = 'x'", []string{"indexer", "migrate"}},
	{"DELETE FROM tag", []string{"indexer", "migrate"}},
	{"SELECT create_partitions()", []string{"indexer", "migrate"}},
	{"TRUNCATE tag", []string{"migrate"}},
	{"CREATE TABLE t (i int)", []string{"migrate"}},
	{"CREATE TEMPORARY TABLE t (i int)", []string{"migrate"}},
	{"CREATE SCHEMA s", []string{"migrate"}},
	{"ALTER TABLE tag ADD COLUMN i int", []string{"migrate"}},
	{"DROP TABLE tag CASCADE", []string{"migrate"}},
	{"CREATE ROLE r", nil},
	{"CREATE DATABASE d", nil},
	{"COPY tag TO PROGRAM 'true'", nil},
	{"SELECT pg_read_file('/etc/passwd')", nil},
	{"ALTER ROLE portbook_view SUPERUSER", nil},
	{"SET ROLE portbook_migrator", []string{"migrate"}},
}

// checkUser runs each statement as a service and rolls it back.
func checkUser(t *testing.T, url, service string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Errorf("%s cannot log in: %v", service, err)
		return
	}
	defer conn.Close(t.Context())
	for _, r := range rights {
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = tx.Exec(t.Context(), r.sql)
		if may := slices.Contains(r.may, service); may != (err == nil) {
			t.Errorf("%s: %s: got %v, want allowed: %v", service, r.sql, err, may)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// refused checks that a login fails with a code.
func refused(t *testing.T, who, url, code string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	var pg *pgconn.PgError
	if err == nil {
		conn.Close(t.Context())
		t.Errorf("%s: got a login, want an error", who)
	} else if !errors.As(err, &pg) || pg.Code != code {
		t.Errorf("%s: got %v, want %s", who, err, code)
	}
}
