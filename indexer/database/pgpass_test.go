package database_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer/database"
)

// The password of a pgpass file must log in, at PostgreSQL itself.
func TestPgpassLogsIn(t *testing.T) {
	t.Parallel()
	execute(t, "postgres", `CREATE ROLE "pass:u" LOGIN PASSWORD 'a:b\c'`)
	url := serverURL(t, "postgres", "pass:u", "")
	cs, log := parse(t, url, "PGPASSFILE="+file(t, "# a comment\n*:*:*:other:x\n127.0.0.1:*:postgres:pass\\:u:a\\:b\\\\c\n"))
	if err := login(t, cs); err != nil || log != "" {
		t.Errorf("%v, log: %s", err, log)
	}
	cs, _ = parse(t, url, "PGPASSFILE="+file(t, "*:*:*:*:wrong\n"))
	if err := login(t, cs); err == nil {
		t.Error("the server takes any password, so this test says nothing")
	}
}

// The source must name the file and the line, or say why there is no password.
func TestPasswordSources(t *testing.T) {
	t.Parallel()
	path := file(t, "h1:5432:d:u:p1\n*:*:*:m:p2\n/run/x:5432:d:u:p3\nlocalhost:5432:d:u:p4\n")
	for _, test := range []struct{ url, work, migrate string }{
		{"postgres://u@h1/d", "pgpass file " + path + ":1", "pgpass file " + path + ":2"},
		{"postgres://u@h1,h2/d", "pgpass file " + path + ":1", "pgpass file " + path + ":2"},
		{"postgres://u@/d?host=/run/x", "pgpass file " + path + ":3", "pgpass file " + path + ":2"},
		{"postgres://u@/d?host=/run/y", "pgpass file " + path + ":4", "pgpass file " + path + ":2"},
		{"postgres://u@h3/d", "none: no matching line in pgpass file " + path, "pgpass file " + path + ":2"},
		{"postgres://u:given@h1/d", "given", "pgpass file " + path + ":2"},
	} {
		cs, _ := parse(t, test.url, "PGPASSFILE="+path, "PORTBOOK_DATABASE_MIGRATIONUSER=m")
		if work, migrate := cs.PasswordSources(); work != test.work || migrate != test.migrate {
			t.Errorf("%s: got %q and %q, want %q and %q", test.url, work, migrate, test.work, test.migrate)
		}
	}
}

// pgx has one password for all hosts, so lines with different ones are a mistake. The
// error must not show them.
func TestPgpassOfDifferentHosts(t *testing.T) {
	t.Parallel()
	path := file(t, "a:*:*:*:secret1\nb:*:*:*:secret2\n")
	c := load(t, "postgres://u@a,b/d", "PGPASSFILE="+path)
	_, err := database.Parse(c, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "lines 1 and 2") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want an error that names both lines and no password", err)
	}
}

// A file that cannot be used must be logged with a remedy and not read. Only the
// default file may be absent.
func TestPgpassNotUsed(t *testing.T) {
	t.Parallel()
	dir, home := t.TempDir(), t.TempDir()
	open, large := file(t, "*:*:*:*:p\n"), file(t, strings.Repeat("#\n", 1<<19+1))
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, variable, logged string }{
		{"the default is absent", "HOME=" + home, ""},
		{"a named file is absent", "PGPASSFILE=" + filepath.Join(home, "none"), "create it with mode 0600"},
		{"others may read it", "PGPASSFILE=" + open, "chmod 600 " + open},
		{"a directory", "PGPASSFILE=" + dir, dir + " is not a regular file"},
		{"too large", "PGPASSFILE=" + large, "more than 1048576"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cs, log := parse(t, "postgres://u@h/d", test.variable)
			if test.logged == "" && log != "" || !strings.Contains(log, test.logged) {
				t.Errorf("the log has %q, want %q", log, test.logged)
			}
			if work, _ := cs.PasswordSources(); !strings.HasPrefix(work, "none: pgpass file ") {
				t.Errorf("the password comes from %q", work)
			}
		})
	}
}
