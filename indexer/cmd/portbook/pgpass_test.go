package main_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/schema/localpg"
)

// odd is a password with every character that has a meaning in a pgpass file.
const odd = `pa:ss\wo rd#*`

// We must read a pgpass file as libpq does. If psql is installed, the test compares
// with it.
func TestPgpass(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localpg.Config{Durable: true})
	execute(t, server.URL("postgres"), `CREATE ROLE "o:d\d" LOGIN PASSWORD '`+odd+`'`)
	at := port(t, server)
	const user, password = `o\:d\\d`, `pa\:ss\\wo rd#*`
	for _, test := range []struct {
		name, text string
		mode       os.FileMode
		want       bool // logs in
	}{
		{"one line", "127.0.0.1:" + at + ":postgres:" + user + ":" + password, 0o600, true},
		{"escapes that need none", `12\7.0.0.1:` + at + `:p\ostgres:` + user + `:\pa\:ss\\wo rd\#\*`, 0o600, true},
		{"wildcards", "*:*:*:*:" + password, 0o600, true},
		{"user alone", "*:*:*:" + user + ":" + password, 0o600, true},
		{"first match wins", "*:*:*:*:wrong\n*:*:*:*:" + password, 0o600, false},
		{"other lines before", "other:*:*:*:wrong\n*:1:*:*:wrong\n*:*:other:*:wrong\n*:*:*:other:wrong\n*:*:*:*:" + password, 0o600, true},
		{"comments and empty lines", "# *:*:*:*:wrong\n\n*:*:*:*:" + password + "\n", 0o600, true},
		{"comment behind a space", " # *:*:*:*:wrong\n*:*:*:*:" + password, 0o600, true},
		{"CRLF line ends", "*:*:*:*:" + password + "\r\n", 0o600, true},
		{"no escape", "*:*:*:*:pa:ss", 0o600, false},
		{"an extra field", "*:*:*:*:" + password + ":more", 0o600, true},
		{"a space after the password", "*:*:*:*:" + password + " ", 0o600, false},
		{"a space before", " *:*:*:*:" + password, 0o600, false},
		{"escaped wildcard", `\*:*:*:*:` + password, 0o600, false},
		{"wildcard within a name", "127.*:*:*:*:" + password, 0o600, false},
		{"a missing field", "*:*:*:" + password, 0o600, false},
		{"a line without password", "*:*:*:*\n*:*:*:*:" + password, 0o600, true},
		{"empty password first", "*:*:*:*:\n*:*:*:*:" + password, 0o600, false},
		{"name of the host", "localhost:*:*:*:" + password, 0o600, false},
		{"read only", "*:*:*:*:" + password, 0o400, true},
		{"group may read", "*:*:*:*:" + password, 0o640, false},
		{"others may read", "*:*:*:*:" + password, 0o604, false},
		{"others may write", "*:*:*:*:" + password, 0o602, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path := file(t, "pgpass", test.text)
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			environ := []string{"PGHOST=127.0.0.1", "PGPORT=" + at, `PGUSER=o:d\d`, "PGDATABASE=postgres", "PGSSLMODE=disable", "PGPASSFILE=" + path}
			out, code := indexerCommand(t, environ, "migrate", "status")
			if refused := strings.Contains(out, "28P01"); refused == test.want || (code == 0) != test.want {
				t.Errorf("%q with mode %o: got exit status %d, want a login: %v\n%s", test.text, test.mode, code, test.want, out)
			}
			if psql := psql(t, environ); psql != nil && *psql != test.want {
				t.Errorf("%q with mode %o: got a login of psql: %v, want %v", test.text, test.mode, *psql, test.want)
			}
			warned := test.mode&0o077 != 0
			if got := strings.Count(out, "chmod 600 "+path); got != 1 && warned || got != 0 && !warned {
				t.Errorf("mode %o: got %d warnings:\n%s", test.mode, got, out)
			}
		})
	}
}

// psql reports whether psql logs in. It returns nil if psql is not installed.
func psql(t *testing.T, environ []string) *bool {
	t.Helper()
	path, err := exec.LookPath("psql")
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-w", "-X", "-c", "SELECT 1")
	cmd.Env = append(os.Environ(), environ...)
	out, err := cmd.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatalf("%v\n%s", err, out)
	}
	return new(err == nil)
}

// `config check` must name the right line of the pgpass file for lists of hosts,
// sockets and the default database.
func TestPgpassHosts(t *testing.T) {
	t.Parallel()
	const text = "db1:5432:d:u:a\ndb2:5433:d:u:a\n/run/pg:5432:d:u:a\nlocalhost:5432:d:u:a\n[::1]:5432:d:u:a\n\\:\\:1:5432:d:u:a\n*:*:u:u:a\n"
	path := file(t, "pgpass", text)
	for _, test := range []struct{ url, want string }{
		{"postgres://u@db1/d", "pgpass file " + path + ":1"},
		{"postgres://u@db0,db2:5433/d", "pgpass file " + path + ":2"}, // the first host with a line
		{"postgres://u@db1,db2:5433/d", "pgpass file " + path + ":1"},
		{"postgres://u@/d?host=/run/pg", "pgpass file " + path + ":3"},
		{"postgres://u@/d?host=/run/other", "pgpass file " + path + ":4"},
		{"postgres://u@[::1]/d", "pgpass file " + path + ":6"},
		{"postgres://u@db3", "pgpass file " + path + ":7"}, // the default database has the name of the user
		{"postgres://u@db3/d", "none: no matching line in pgpass file " + path},
	} {
		got := settings(t, []string{"DB_URL=" + test.url, "PGPASSFILE=" + path})["database.password"][1]
		if got != test.want {
			t.Errorf("%s: got the password from %q, want %q", test.url, got, test.want)
		}
	}
	path = file(t, "pgpass", "a:*:*:*:"+secret+"1\nb:*:*:*:"+secret+"2\n")
	out, code := indexerCommand(t, []string{"DB_URL=postgres://u@a,b/d", "PGPASSFILE=" + path}, "config", "check")
	if code != 1 || !strings.Contains(out, "lines 1 and 2 have different passwords") || strings.Contains(out, secret) {
		t.Errorf("got exit status %d, want 1 and both lines, without passwords:\n%s", code, out)
	}
}

// A pgpass file in the home directory must be found without a variable. A directory or
// a pipe instead of it must not block the start.
func TestPgpassPlaces(t *testing.T) {
	t.Parallel()
	home := filepath.Dir(file(t, ".pgpass", "*:*:*:*:"+secret))
	got := settings(t, []string{"DB_URL=postgres://u@h/d", "HOME=" + home})["database.password"][1]
	if want := "pgpass file " + home + "/.pgpass:1"; got != want {
		t.Errorf("got the password from %q, want %q", got, want)
	}
	out, code := indexerCommand(t, []string{"DB_URL=postgres://u@h/d", "PGPASSFILE=" + home}, "config", "check")
	if code != 0 || !strings.Contains(out, home+" is not a regular file") {
		t.Errorf("got exit status %d, want 0 and a warning about %s:\n%s", code, home, out)
	}
}

// execute runs a statement in the database at url.
func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
