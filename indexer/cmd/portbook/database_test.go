package main_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/registry/registrytest"
	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/schema/localpg/process"
)

// users starts a server that requires passwords, with a database named registry and two
// users: db_app, the working user, and db_migrator, which creates the tables. Their
// passwords are app and migrator.
func users(t *testing.T) (server *localpg.Server, at string) {
	t.Helper()
	server = startPostgres(t, localpg.Config{Durable: true})
	execute(t, server.URL("postgres"), `CREATE DATABASE registry`)
	execute(t, server.URL("registry"), `
		CREATE ROLE db_app LOGIN PASSWORD 'app';
		CREATE ROLE db_migrator LOGIN PASSWORD 'migrator';
		GRANT CREATE ON SCHEMA public TO db_migrator`)
	return server, port(t, server)
}

// serves starts `portbook serve`, waits until it is ready, and returns its address and
// a function that returns its output so far.
func serves(t *testing.T, environ []string, args ...string) (address string, printed func() string) {
	t.Helper()
	address, operations := registrytest.FreeAddr(t), registrytest.FreeAddr(t)
	cmd := exec.Command(build(t), append([]string{"serve"}, args...)...)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "PORTBOOK_REGISTRY_URL=" + nowhere,
		"PORTBOOK_HTTP_ADDRESS=" + address, "PORTBOOK_HTTP_OPERATIONS_ADDRESS=" + operations,
	}, environ...)
	p, err := process.Start(cmd, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop(syscall.SIGTERM, 20*time.Second) })
	within(t, patience, "the indexer is ready", func() bool {
		select {
		case <-p.Done():
			t.Fatalf("the indexer ended: %s\n%s", p.Outcome(), p.Tail())
		default:
		}
		return status("http://"+operations+"/readyz") == http.StatusOK
	})
	return address, p.Tail
}

// A password may come from several sources. For both users, their order must be right.
func TestPasswords(t *testing.T) {
	t.Parallel()
	_, at := users(t)
	both := file(t, "pgpass", "127.0.0.1:"+at+":registry:db_app:app\n*:*:*:db_migrator:migrator\n")
	app := file(t, "pgpass", "*:*:*:db_app:app\n")
	migrator := file(t, "pgpass", "*:*:*:db_migrator:migrator\n")
	open := file(t, "pgpass", "*:*:*:*:app\n")
	if err := os.Chmod(open, 0o644); err != nil {
		t.Fatal(err)
	}
	const thv = "THV_REGISTRY_DATABASE_"
	yaml := func(more string) string {
		return file(t, "portbook.yaml", "database:\n  host: 127.0.0.1\n  port: "+at+"\n  user: db_app\n  migrationUser: db_migrator\n  database: registry\n  sslMode: disable\n"+more)
	}
	one := "database:\n  host: 127.0.0.1\n  port: " + at + "\n  user: db_migrator\n  database: registry\n  sslMode: disable\n  password: migrator\n"
	url := fmt.Sprintf("postgres://db_app@127.0.0.1:%s/registry?sslmode=disable", at)
	withPassword := strings.Replace(url, "db_app@", "db_app:app@", 1)
	for _, test := range []struct {
		name    string
		file    string
		environ []string
		want    []string // parts of the error; none: it starts
	}{
		{"file", yaml("  password: app\n  migrationPassword: migrator\n"), nil, nil},
		{"environment over file", yaml("  password: wrong\n  migrationPassword: wrong\n"), []string{thv + "PASSWORD=app", thv + "MIGRATIONPASSWORD=migrator"}, nil},
		{"pgpass", yaml(""), []string{"PGPASSFILE=" + both}, nil},
		{"one user", file(t, "portbook.yaml", one), nil, nil},
		{"one user, named twice", file(t, "portbook.yaml", one+"  migrationUser: db_migrator\n"), nil, nil},
		{"file for one, pgpass for the other", yaml("  password: app\n"), []string{"PGPASSFILE=" + migrator}, nil},
		{"pgpass for one, environment for the other", yaml(""), []string{"PGPASSFILE=" + app, thv + "MIGRATIONPASSWORD=migrator"}, nil},
		{"PGPASSWORD for one, pgpass for the other", yaml(""), []string{"PGPASSWORD=app", "PGPASSFILE=" + migrator}, nil},
		{"URL", "", []string{"DB_URL=" + withPassword, thv + "MIGRATIONUSER=db_migrator", thv + "MIGRATIONPASSWORD=migrator"}, nil},
		{"URL with passfile", "", []string{"DB_URL=" + url + "&passfile=" + both, thv + "MIGRATIONUSER=db_migrator"}, nil},

		{"wrong in the environment, right in pgpass", yaml(""), []string{thv + "PASSWORD=" + secret, thv + "MIGRATIONPASSWORD=" + secret, "PGPASSFILE=" + both}, []string{"28P01", "db_migrator@127.0.0.1:" + at + "/registry"}},
		{"wrong for the working user alone", yaml(""), []string{thv + "PASSWORD=" + secret, "PGPASSFILE=" + both}, []string{"28P01", "db_app@127.0.0.1:" + at + "/registry"}},
		{"the password of the other user", yaml("  password: app\n"), nil, []string{"28P01", "db_migrator@", "no password was given"}},
		{"PGPASSWORD is not for the other user", yaml(""), []string{"PGPASSWORD=migrator"}, []string{"28P01", "db_migrator@", "no password was given"}},
		{"none", yaml(""), nil, []string{"28P01", "db_migrator@", "no password was given"}},
		{"pgpass open to others", yaml(""), []string{"PGPASSFILE=" + open}, []string{"28P01", "no password was given", "chmod 600 " + open}},
		{"token and password", yaml("  dynamicAuth: {awsRdsIam: {region: eu-west-1}}\n"), []string{thv + "PASSWORD=" + secret}, []string{"mutually exclusive", thv + "PASSWORD"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var args []string
			if test.file != "" {
				args = []string{"--config", test.file}
			}
			if test.want == nil {
				serves(t, test.environ, args...)
				return
			}
			out, code := indexerCommand(t, append(test.environ, "PORTBOOK_HTTP_ADDRESS=127.0.0.1:0", "PORTBOOK_HTTP_OPERATIONS_ADDRESS=127.0.0.1:0"), append([]string{"serve"}, args...)...)
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("the error lacks %q:\n%s", want, out)
				}
			}
			if code != 1 || strings.Contains(out, secret) {
				t.Errorf("got exit status %d, want 1 and no password:\n%s", code, out)
			}
		})
	}
}

// Each way to name the database must work alone, and two at once must be refused.
func TestWhereTheDatabaseIs(t *testing.T) {
	t.Parallel()
	server, at := users(t)
	execute(t, server.URL("postgres"), `CREATE DATABASE db_app`)
	execute(t, server.URL("db_app"), `GRANT CREATE ON SCHEMA public TO db_migrator`)
	url := fmt.Sprintf("postgres://db_migrator:migrator@127.0.0.1:%s/registry?sslmode=disable", at)
	libpq := []string{"PGHOST=127.0.0.1", "PGPORT=" + at, "PGUSER=db_migrator", "PGDATABASE=registry", "PGSSLMODE=disable"}
	pgpass := file(t, "pgpass", "*:*:*:db_migrator:migrator\n")
	services := file(t, "services", "[book]\nhost=127.0.0.1\nport="+at+"\nuser=db_migrator\ndbname=registry\npassword=migrator\nsslmode=disable\n")
	for _, test := range []struct {
		name    string
		environ []string
		args    []string
	}{
		{"DB_URL", []string{"DB_URL=" + url}, nil},
		{"database.postgres.url", nil, []string{"--config", file(t, "portbook.yaml", "database: {postgres: {url: \""+url+"\"}}")}},
		{"variable of the key", []string{"PORTBOOK_DATABASE_POSTGRES_URL=" + url}, nil},
		{"PGPASSWORD", append(libpq[:5:5], "PGPASSWORD=migrator"), nil},
		{"PGPASSFILE", append(libpq[:5:5], "PGPASSFILE="+pgpass), nil},
		{"a database with the name of the working user", []string{
			"DB_URL=" + fmt.Sprintf("postgres://db_app:app@127.0.0.1:%s?sslmode=disable", at),
			"PORTBOOK_DATABASE_MIGRATIONUSER=db_migrator", "PORTBOOK_DATABASE_MIGRATIONPASSWORD=migrator",
		}, nil},
		{"PGSERVICE", []string{"PGSERVICE=book", "PGSERVICEFILE=" + services}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			serves(t, test.environ, test.args...)
		})
	}
	for _, environ := range [][]string{
		{"DB_URL=" + url, "PORTBOOK_DATABASE_HOST=h"},
		{"DB_URL=" + url, "DATABASE_URL=postgres://h/d"},
		{"DB_URL=" + url, "PORTBOOK_DATABASE_POSTGRES_URL=postgres://h/d"},
	} {
		if out, code := indexerCommand(t, environ, "serve"); code != 1 || !strings.Contains(out, "keep one") || strings.Contains(out, ":migrator") {
			t.Errorf("got exit status %d, want 1 and the remedy to keep one:\n%s", code, out)
		}
	}
}

// The error of a connection must be one line with the user, the address, the reason and
// the remedy.
func TestRefusals(t *testing.T) {
	t.Parallel()
	_, at := users(t)
	url := func(user, host, database string) string {
		return fmt.Sprintf("DB_URL=postgres://%s:%s@%s/%s?sslmode=disable", user, secret, host, database)
	}
	here := "127.0.0.1:" + at
	for _, test := range []struct {
		name, url string
		want      []string
	}{
		{"password", url("db_app", here, "registry"), []string{"db_app@" + here + "/registry", "28P01", "portbook config check"}},
		{"user", url("nobody", here, "registry"), []string{"nobody@" + here + "/registry", "28P01"}},
		{"database", strings.Replace(url("db_app", here, "none"), secret, "app", 1), []string{"db_app@" + here + "/none", "3D000", "create the database"}},
		{"host", url("db_app", "nowhere.invalid:5432", "registry"), []string{"db_app@nowhere.invalid:5432/registry", "correct database.host"}},
		{"port", url("db_app", "127.0.0.1:1", "registry"), []string{"db_app@127.0.0.1:1/registry", "connection refused", "start PostgreSQL"}},
		{"hosts", url("db_app", "127.0.0.1:1,127.0.0.1:2", "registry"), []string{"db_app@127.0.0.1:1,127.0.0.1:2/registry", "start PostgreSQL"}},
		{"socket", url("db_app", "%2Fnonexistent", "registry"), []string{"/nonexistent/.s.PGSQL.5432", "start PostgreSQL"}},
		{"parameter", strings.Replace(url("db_app", here, "registry")+"&no_such=1", secret, "app", 1), []string{"42704", "no_such", "correct the parameter"}},
		{"TLS", strings.Replace(url("db_app", here, "registry"), "disable", "require", 1), []string{"db_app@" + here + "/registry", "server refused TLS connection", "sslMode"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			out, code := indexerCommand(t, []string{test.url}, "migrate", "status")
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("the error lacks %q:\n%s", want, out)
				}
			}
			if code != 1 || strings.Count(out, "\n") != 1 || strings.Contains(out, secret) {
				t.Errorf("got exit status %d, want 1 and one line without the password:\n%s", code, out)
			}
		})
	}
}

// A variable must count even if its key is not in the file: with this one there are at
// most three connections, for any number of requests.
func TestVariableWithoutKey(t *testing.T) {
	t.Parallel()
	server, at := users(t)
	url := fmt.Sprintf("postgres://db_migrator:migrator@127.0.0.1:%s/registry?sslmode=disable", at)
	address, _ := serves(t, []string{"THV_REGISTRY_DATABASE_MAXOPENCONNS=3"}, "--config", file(t, "portbook.yaml", "database: {postgres: {url: \""+url+"\"}}"))
	conn, err := pgx.Connect(t.Context(), server.URL("registry"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var group sync.WaitGroup
	var most int
	done := make(chan struct{})
	for range 50 {
		group.Go(func() {
			for range 20 {
				if resp, err := client.Get("http://" + address + "/v1/search?q=x"); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body) // so that the connection is used again
					resp.Body.Close()
				}
			}
		})
	}
	go func() { group.Wait(); close(done) }()
	for asked := false; !asked; {
		var n int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE usename = 'db_migrator'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		most = max(most, n)
		select {
		case <-done:
			asked = true
		case <-time.After(5 * time.Millisecond):
		}
	}
	if most != 3 {
		t.Errorf("got up to %d connections at once, want 3", most)
	}
}
