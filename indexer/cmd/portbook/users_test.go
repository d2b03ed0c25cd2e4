package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/registry/registrytest"
	"github.com/portbook/portbook/schema"
	"github.com/portbook/portbook/schema/localpg"
)

// The two statements that create users in the manual of the ToolHive registry server,
// unchanged.
const (
	handbookMigrator = `DO $$
DECLARE
migrator_user TEXT := 'db_migrator';
migrator_password TEXT := 'migrator_password';
db_name TEXT := 'registry';
BEGIN
EXECUTE format('CREATE USER %I WITH PASSWORD %L', migrator_user, migrator_password);
EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', db_name, migrator_user);
EXECUTE format('GRANT CREATE ON SCHEMA public TO %I', migrator_user);
EXECUTE format('GRANT ALL PRIVILEGES ON ALL TABLES IN SCHEMA public TO %I', migrator_user);
END
$$;`
	handbookApp = `DO $$
DECLARE
app_user TEXT := 'db_app';
app_password TEXT := 'app_password';
db_name TEXT := 'registry';
BEGIN
CREATE ROLE toolhive_registry_server;
EXECUTE format('CREATE USER %I WITH PASSWORD %L', app_user, app_password);
EXECUTE format('GRANT toolhive_registry_server TO %I', app_user);
EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', db_name, app_user);
END
$$;`
)

// registryServer starts a server that requires passwords, with an empty database named
// registry. If log is not nil, it gets every statement. In PostgreSQL 14, every user
// may create tables in a database until its owner revokes that, which the manual does
// not mention.
func registryServer(t *testing.T, log *lockedBuffer) *localpg.Server {
	t.Helper()
	c := localpg.Config{Durable: true}
	if log != nil {
		c.Log, c.Settings = log, map[string]string{"log_statement": "all"}
	}
	server := startPostgres(t, c)
	execute(t, server.URL("postgres"), "CREATE DATABASE registry")
	if number(t, server.URL("postgres"), "SELECT current_setting('server_version_num')::int") < 150000 {
		execute(t, server.URL("registry"), "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
	}
	return server
}

// as returns the URL of the database registry for a user.
func as(t *testing.T, server *localpg.Server, user, password string) string {
	t.Helper()
	u, err := url.Parse(server.URL("registry"))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}

// Migrations run as one user, which may only create tables. An indexer works as
// another, which may create none. A third user has only SELECT and reads. PostgreSQL
// must refuse none of their statements.
func TestTwoUsers(t *testing.T) {
	t.Parallel()
	log := &lockedBuffer{}
	server := registryServer(t, log)
	superuser := server.URL("registry")
	execute(t, superuser, handbookMigrator)
	execute(t, superuser, handbookApp)
	execute(t, superuser, "CREATE ROLE portbook_reader; CREATE USER db_reader PASSWORD 'reader_password' IN ROLE portbook_reader")
	f := &fleet{t: t, postgres: server, binary: build(t), address: registrytest.FreeAddr(t)}
	f.registry = registrytest.StartProcess(t, registrytest.ProcessConfig{Notify: "http://" + f.address + "/events", Token: token})
	work := []string{
		"PORTBOOK_DATABASE_POSTGRES_URL=" + as(t, server, "db_app", "app_password"),
		"PORTBOOK_DATABASE_MIGRATIONUSER=db_migrator", "PORTBOOK_DATABASE_MIGRATIONPASSWORD=migrator_password",
	}
	if out, code := answered(t, work, "", "migrate", "up", "--yes"); code != 0 {
		t.Fatal(out)
	}
	if n := number(t, superuser, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relowner <> 'db_migrator'::regrole"); n != 0 {
		t.Errorf("got %d tables that do not belong to the migrating user", n)
	}
	// An old month must be dropped, and the month of the next event must be created.
	execute(t, superuser, "SET ROLE db_migrator; SELECT create_partition('event', '2020-01-01 00:00Z')")
	execute(t, superuser, "DROP TABLE event_"+time.Now().UTC().AddDate(0, 3, 1-time.Now().UTC().Day()).Format("2006_01"))
	execute(t, superuser, "DROP TABLE event_"+time.Now().UTC().Format("2006_01"))

	indexer := f.indexer(f.address, append(work, "PORTBOOK_INTERVAL_GARBAGE_COLLECT=1s", "PORTBOOK_INTERVAL_FETCH_ALL=2s", "PORTBOOK_COMPONENTS_ASSERT_ENDPOINT=true")...)
	within(t, patience, "the old month is dropped and the new ones are created", func() bool {
		return number(t, superuser, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'event'::regclass") == len(months())
	})
	ctx := t.Context()
	for _, tag := range []string{"v1", "v2", "gone"} {
		if _, err := f.registry.Push.Image(ctx, "two/users", tag, push.ImageSpec{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.registry.Push.Artifact(ctx, "two/users", "art", push.ArtifactSpec{}); err != nil {
		t.Fatal(err)
	}
	if err := f.registry.Push.Delete(ctx, "two/users", "gone"); err != nil {
		t.Fatal(err)
	}
	within(t, patience, "the book equals the registry", func() bool {
		cmd := exec.Command(f.binary, "verify")
		cmd.Env = append(f.environment("PORTBOOK_LOG_LEVEL=warn"), work...)
		return cmd.Run() == nil
	})
	within(t, patience, "the leader has tidied", func() bool { return strings.Contains(indexer.process.Tail(), "msg=tidied") })
	if n := number(t, superuser, "SELECT count(*) FROM event"); n == 0 {
		t.Error("got no stored events")
	}
	if n := number(t, superuser, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'db_migrator'"); n != 0 {
		t.Errorf("got %d sessions of the migrating user, want none", n)
	}

	reader := f.indexer(registrytest.FreeAddr(t), "PORTBOOK_ROLE=reader", "PORTBOOK_DATABASE_POSTGRES_URL="+as(t, server, "db_reader", "reader_password"))
	for _, path := range []string{"/v1/_ping", "/v1/search?q=users", "/index/static?tag=v1", "/index/dynamic?tag=v1", "/", "/?q=two", "/r/two/users", "/r/two/users:v1", "/status"} {
		for _, address := range []string{indexer.address, reader.address} {
			if got := status("http://" + address + path); got != http.StatusOK {
				t.Errorf("%s: got status %d", path, got)
			}
		}
	}
	if said := regexp.MustCompile(`(?i).*permission denied.*`).FindAllString(log.String(), -1); len(said) > 0 {
		t.Errorf("PostgreSQL refused statements:\n%s", strings.Join(said, "\n"))
	}

	app, readOnly := as(t, server, "db_app", "app_password"), as(t, server, "db_reader", "reader_password")
	for _, test := range []struct{ user, statement string }{
		{app, "CREATE TABLE x ()"}, {app, "CREATE SCHEMA x"}, {app, "DROP TABLE event"}, {app, "ALTER TABLE tag ADD COLUMN x int"},
		{app, "TRUNCATE tag_history"}, {app, "CREATE ROLE x"},
		{app, "INSERT INTO schema_migrations (version_id, is_applied) VALUES (99, true)"}, {app, "DELETE FROM schema_migrations"},
		{app, "UPDATE schema_migrations SET is_applied = false"}, {app, "TRUNCATE schema_migrations"},
		{app, "SELECT create_partition('event', '2020-01-01 00:00Z')"},
		{readOnly, "CREATE TABLE x ()"}, {readOnly, "DELETE FROM tag"}, {readOnly, "INSERT INTO media_type (name) VALUES ('x')"},
		{readOnly, "UPDATE catalogue_version SET v = v + 1"}, {readOnly, "SELECT create_partitions()"},
		{readOnly, "SELECT drop_partitions('event', interval '1 year')"}, {readOnly, "DELETE FROM schema_migrations"},
		{readOnly, "SELECT nextval('tag_history_id_seq')"},
	} {
		if got := refusalCode(t, test.user, test.statement); got != "42501" { // insufficient_privilege
			t.Errorf("%s: %q", test.statement, got)
		}
	}
}

// months returns the months that must have partitions.
func months() (list []string) {
	now := time.Now().UTC()
	from := now.AddDate(0, 0, -7)
	for m := time.Date(from.Year(), from.Month(), 1, 0, 0, 0, 0, time.UTC); m.Before(now.AddDate(0, 4, 1-now.Day()).Truncate(24 * time.Hour)); m = m.AddDate(0, 1, 0) {
		list = append(list, m.Format("2006_01"))
	}
	return list
}

// refusalCode returns the SQLSTATE of a failed statement, or "" if it succeeds.
func refusalCode(t *testing.T, url, statement string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), statement)
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return fmt.Sprint(err)
}

// hardNames are unusual names that prime-db must accept.
var hardNames = []string{"o'brien", `the "app" user`, "Größe; DROP TABLE tag; --", "日本 $do$ @verifier@", `back\slash E'`, "portbook app\nof two lines"}

// A user with any name can be created, before and after the tables exist, repeatedly,
// by the command and by psql from the output of --dry-run. The user must then log in
// and work.
func TestPrimeDB(t *testing.T) {
	t.Parallel()
	log := &lockedBuffer{}
	server := registryServer(t, log)
	execute(t, server.URL("registry"), "CREATE ROLE mig LOGIN CREATEROLE PASSWORD 'm'; GRANT CREATE ON SCHEMA public TO mig")
	environ := []string{"PORTBOOK_DATABASE_POSTGRES_URL=" + as(t, server, "mig", "m"), "PGPASSFILE=/nonexistent"}
	const password = "pa ss'wörd\\"
	prime := func(user string, args ...string) string {
		t.Helper()
		out, code := answered(t, environ, password+"\n", append([]string{"prime-db", user}, args...)...)
		if code != 0 || strings.Contains(out, password) {
			t.Fatalf("prime-db %q %v: got exit status %d:\n%s", user, args, code, out)
		}
		return out
	}
	works := func(user string, reads bool) {
		t.Helper()
		url := as(t, server, user, password)
		if n := number(t, url, "SELECT count(*) FROM tag"); n != 0 {
			t.Errorf("%q: got %d tags, want none", user, n)
		}
		want := ""
		if reads {
			want = "42501"
		}
		got := refusalCode(t, url, "INSERT INTO media_type (name) VALUES ('x') ON CONFLICT (name) DO UPDATE SET name = 'x'")
		if strings.TrimPrefix(got, "<nil>") != want {
			t.Errorf("writing as %q: got %q, want %q", user, got, want)
		}
		if got := refusalCode(t, url, "CREATE TABLE x ()"); got != "42501" {
			t.Errorf("creating a table as %q: got %q", user, got)
		}
	}

	prime("early") // before the tables exist
	prime("early reader", "--reader")
	if out, code := answered(t, environ, "", "migrate", "up", "-y"); code != 0 {
		t.Fatal(out)
	}
	works("early", false)
	works("early reader", true)
	for i, name := range hardNames {
		for range 2 {
			if i%2 == 0 {
				prime(name)
			} else {
				pipe(t, server, prime(name, "--dry-run"))
			}
		}
		works(name, false)
	}
	prime("o'brien", "--reader") // has fewer privileges from now on
	works("o'brien", true)
	out := prime("o'brien", "--dry-run")
	pipe(t, server, strings.Replace(out, "'registry'", "'elsewhere'", 1)) // must not change another database
	works("o'brien", true)

	if out, code := answered(t, environ, password, "prime-db", "new owner", "--migration"); code != 1 || !strings.Contains(out, "cannot grant") {
		t.Errorf("prime-db without a privilege of mig: got exit status %d:\n%s", code, out)
	}
	pipe(t, server, prime("new owner", "--migration", "--dry-run"))
	url := as(t, server, "new owner", password)
	if got := refusalCode(t, url, "CREATE TABLE mine (); DROP TABLE mine"); got != "<nil>" {
		t.Errorf("creating a table as the migrating user: got %s", got)
	}
	// psql must log in with the same password.
	cmd := exec.CommandContext(t.Context(), "psql", "-X", "-At", "-h", "127.0.0.1", "-p", port(t, server), "-U", "new owner", "-d", "registry", "-c", "SELECT current_user")
	cmd.Env = append(os.Environ(), "PGPASSWORD="+password)
	if got, err := cmd.CombinedOutput(); err != nil || string(got) != "new owner\n" {
		t.Errorf("psql: %v: %s", err, got)
	}
	if said := log.String(); !strings.Contains(said, "SCRAM-SHA-256$4096:") || strings.Contains(said, password) || strings.Contains(said, schema.QuoteLiteral(password)) {
		t.Error("the log of the server, which has every statement, contains the password or lacks the verifier")
	}
}

// A request that cannot be fulfilled must be refused with the reason, and change
// nothing.
func TestPrimeDBRefuses(t *testing.T) {
	t.Parallel()
	server := registryServer(t, nil)
	execute(t, server.URL("registry"), "CREATE ROLE mig LOGIN PASSWORD 'm'; GRANT CREATE ON SCHEMA public TO mig")
	environ := []string{"PORTBOOK_DATABASE_POSTGRES_URL=" + as(t, server, "mig", "m")}
	for _, test := range []struct {
		input string
		args  []string
		code  int
		says  string
	}{
		{"secret\n", []string{"app"}, 1, `if the user may not create roles, run ALTER ROLE "mig" CREATEROLE`},
		{"", []string{"app"}, 1, "the password is empty"},
		{"\n", []string{"app", "--dry-run"}, 1, "the password is empty"},
		{"a\u00a0b\n", []string{"app"}, 1, "a character that clients encode differently"},
		{"\ufb01ne\n", []string{"app"}, 1, "a character that clients encode differently"},
		{strings.Repeat("x", 2000), []string{"app"}, 1, "longer than 1024 bytes"},
		{"secret\n", []string{""}, 2, "the user name is empty"},
		{"secret\n", []string{strings.Repeat("ö", 32)}, 2, "has 64 bytes"},
		{"secret\n", []string{"mig"}, 1, "is database.migrationUser"},
		{"secret\n", []string{"app", "--reader", "--migration"}, 2, "none of the others can be"},
		{"secret\n", nil, 2, "prime-db takes one user, and got 0: run portbook prime-db USER"},
	} {
		out, code := answered(t, environ, test.input, append([]string{"prime-db"}, test.args...)...)
		if code != test.code || !strings.Contains(out, test.says) || strings.Contains(out, "secret") {
			t.Errorf("prime-db %q with %.20q: got exit status %d, want %d and %q in:\n%s", test.args, test.input, code, test.code, test.says, out)
		}
	}
	if n := number(t, server.URL("registry"), "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'portbook\\_%' OR rolname = 'app'"); n != 0 {
		t.Errorf("got %d new roles, want none", n)
	}
}

// pipe runs a script with psql as a superuser, with another client encoding.
func pipe(t *testing.T, server *localpg.Server, script string) {
	t.Helper()
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("no psql: apt-get install postgresql-client")
	}
	cmd := exec.CommandContext(t.Context(), psql, "-X", "-q", server.URL("registry"))
	cmd.Env = append(os.Environ(), "PGCLIENTENCODING=LATIN1", "HOME="+filepath.Dir(psql))
	cmd.Stdin = strings.NewReader("SET standard_conforming_strings = off;\n" + script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	said := regexp.MustCompile(`(?m)^ERROR:.*`).FindAllString(out.String(), -1)
	if other := strings.Contains(script, "elsewhere"); err != nil || other != (len(said) > 0) {
		t.Fatalf("psql: %v\n%s\n%s", err, out.String(), script)
	}
}
