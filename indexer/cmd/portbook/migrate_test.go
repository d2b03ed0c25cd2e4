package main_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/registry/registrytest"
	"github.com/portbook/portbook/schema/localpg"
	"github.com/portbook/portbook/schema/localpg/process"
)

// answered runs a command with an input, and returns its output and exit status.
func answered(t *testing.T, environ []string, input string, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, build(t), args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "PORTBOOK_REGISTRY_URL=" + nowhere}, environ...)
	cmd.Stdin = strings.NewReader(input)
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	if err := cmd.Run(); ctx.Err() != nil {
		t.Fatalf("portbook %s did not end: %v\n%s", strings.Join(args, " "), err, b.String())
	}
	return b.String(), cmd.ProcessState.ExitCode()
}

// number returns one number from the database at url.
func number(t *testing.T, url, q string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.QueryRow(t.Context(), q).Scan(&n); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return n
}

const (
	tablesQuery     = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
	migrationsQuery = "SELECT count(*) FROM schema_migrations WHERE version_id > 0"
	// untidyQuery counts the versions without exactly one row that is applied.
	untidyQuery = "SELECT count(*) FROM (SELECT FROM schema_migrations GROUP BY version_id HAVING count(*) <> 1 OR NOT bool_and(is_applied)) untidy"
)

// The commands must ask before they act, and end with the status and the texts of the
// ToolHive registry server.
func TestMigrateCommands(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localpg.Config{})
	url := server.URL("postgres")
	environ := []string{"PORTBOOK_DATABASE_POSTGRES_URL=" + url}
	all := number(t, url, "SELECT 0")
	for _, test := range []struct {
		name, input string
		args        []string
		code        int
		says        string
		applied     func(int) bool // afterwards
	}{
		{"declined", "no", []string{"up"}, 0, "Continue? (yes/no): Migration cancelled by user", none},
		{"no input", "", []string{"up"}, 1, "failed to read user input: EOF", none},
		{"an empty line", "\n", []string{"up"}, 0, "Migration cancelled by user", none},
		{"status before", "", []string{"status"}, 0, "not applied  00001_catalogue.sql", none},
		{"y", "y\n", []string{"up"}, 0, "applied      00004_growth.sql", some},
		{"again", "", []string{"up", "--yes"}, 0, "all migrations are already applied", some},
		{"status after", "", []string{"status"}, 0, "applied      00004_growth.sql", some},
		{"no number", "yes\n", []string{"down"}, 2, "--num-steps flag is required for down migrations (safety measure)", some},
		{"zero", "yes\n", []string{"down", "-n", "0"}, 2, "--num-steps flag is required", some},
		{"negative", "yes\n", []string{"down", "-n=-1"}, 2, "--num-steps flag is required", some},
		{"above the limit", "yes\n", []string{"down", "-n", "1001"}, 2, "num-steps must be less than 1000", some},
		{"more than are applied", "yes\n", []string{"down", "-n", "100"}, 1, "cannot undo 100 migrations", some},
		{"more than are applied, without confirmation", "", []string{"down", "-n", "100", "-y"}, 1, "cannot undo 100 migrations", some},
		{"y is not enough", "y\n", []string{"down", "-n", "1"}, 0, "Type 'yes' to proceed: Migration cancelled by user", some},
		{"no input is not enough", "", []string{"down", "-n", "1"}, 0, "Migration cancelled by user", some},
		{"one step", "yes\n", []string{"down", "--num-steps", "1"}, 0, "not applied", func(n int) bool { return n == all-1 }},
		{"up again", "yes\n", []string{"up"}, 0, "applied", some},
	} {
		out, code := answered(t, environ, test.input, append([]string{"migrate"}, test.args...)...)
		if code != test.code || !strings.Contains(out, test.says) {
			t.Errorf("%s: migrate %v: got exit status %d, want %d and %q in:\n%s", test.name, test.args, code, test.code, test.says, out)
		}
		if test.name == "y" {
			all = number(t, url, migrationsQuery)
			execute(t, url, "INSERT INTO event (id, at, action, repository) VALUES ('kept', now(), 'push', 'r')")
			execute(t, url, "INSERT INTO tag_history (repository, tag, to_digest, seen_by) VALUES ('r', 't', '\\x01', 'scan')")
		}
		applied := 0
		if number(t, url, tablesQuery) > 0 {
			applied = number(t, url, migrationsQuery)
		}
		if !test.applied(applied) {
			t.Errorf("%s: migrate %v: got %d applied migrations", test.name, test.args, applied)
		}
	}
	if n := number(t, url, "SELECT (SELECT count(*) FROM event) + (SELECT count(*) FROM tag_history)"); n != 2 {
		t.Errorf("got %d rows left, want the event and the move", n)
	}
	if _, code := answered(t, nil, "", "migrate", "up", "--yes"); code != 1 {
		t.Errorf("migrate up without a database: got exit status %d, want 1", code)
	}
}

func none(n int) bool { return n == 0 }
func some(n int) bool { return n > 0 }

// A database that a newer program migrated must not be changed, and the error must name
// both versions.
func TestNewerSchema(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localpg.Config{})
	url := server.URL("postgres")
	environ := []string{"PORTBOOK_DATABASE_POSTGRES_URL=" + url}
	if out, code := answered(t, environ, "", "migrate", "up", "-y"); code != 0 {
		t.Fatal(out)
	}
	known := number(t, url, migrationsQuery)
	newest := number(t, url, "SELECT max(version_id) FROM schema_migrations")
	execute(t, url, "INSERT INTO schema_migrations (version_id, is_applied) VALUES (4711, true)")
	says := fmt.Sprintf("at version 4711, and this program knows versions up to %d", newest)
	for _, args := range [][]string{{"migrate", "up", "-y"}, {"migrate", "down", "-n", "1", "-y"}, {"serve"}, {"serve", "--role", "reader"}} {
		addresses := []string{"PORTBOOK_HTTP_ADDRESS=127.0.0.1:0", "PORTBOOK_HTTP_OPERATIONS_ADDRESS=127.0.0.1:0"}
		out, code := answered(t, append(addresses, environ...), "", args...)
		if code != 1 || !strings.Contains(out, says) {
			t.Errorf("%v: got exit status %d, want 1 and %q in:\n%s", args, code, says, out)
		}
	}
	out, code := answered(t, environ, "", "migrate", "status")
	if code != 0 || !strings.Contains(out, "4711  applied      (unknown to this program)") || !strings.Contains(out, "the database is newer than this program") {
		t.Errorf("migrate status: got exit status %d:\n%s", code, out)
	}
	if n := number(t, url, migrationsQuery); n != known+1 {
		t.Errorf("got %d applied migrations", n)
	}
}

// If four indexers start at once on an empty database, all must become ready, and each
// migration must be applied once.
func TestFourStarts(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localpg.Config{})
	url := server.URL("postgres")
	build(t) // before the time is measured
	var starts sync.WaitGroup
	for range 4 {
		starts.Go(func() { serves(t, []string{"PORTBOOK_DATABASE_POSTGRES_URL=" + url}) })
	}
	starts.Wait()
	if n := number(t, url, untidyQuery); n != 0 {
		t.Errorf("%d versions do not have exactly one applied row", n)
	}
	if n := number(t, url, migrationsQuery); n < 4 {
		t.Errorf("got %d applied migrations", n)
	}
}

// An indexer is killed in the middle of a migration that waits for a lock on a table.
// No part of the migration may remain, its advisory lock must be free within two
// seconds, and the next start must do the whole migration.
func TestMigratorKilled(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localpg.Config{})
	url := server.URL("postgres")
	environ := []string{"PORTBOOK_DATABASE_POSTGRES_URL=" + url}
	if out, code := answered(t, environ, "", "migrate", "up", "-y"); code != 0 {
		t.Fatal(out)
	}
	all := number(t, url, migrationsQuery)
	if out, code := answered(t, environ, "", "migrate", "down", "-y", "-n", fmt.Sprint(all-3)); code != 0 {
		t.Fatal(out)
	}
	execute(t, url, "INSERT INTO tag_history (repository, tag, to_digest, seen_by) VALUES ('r', 't', '\\x01', 'scan')")
	ctx := t.Context()
	holder, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.Background())
	if _, err := holder.Exec(ctx, "BEGIN; LOCK TABLE tag_history IN ACCESS SHARE MODE"); err != nil {
		t.Fatal(err)
	}

	start := func() (p *process.Process, operations string) {
		operations = registrytest.FreeAddr(t)
		cmd := exec.Command(build(t), "serve")
		cmd.Env = append([]string{
			"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "PORTBOOK_REGISTRY_URL=" + nowhere,
			"PORTBOOK_HTTP_ADDRESS=127.0.0.1:0", "PORTBOOK_HTTP_OPERATIONS_ADDRESS=" + operations,
		}, environ...)
		p, err := process.Start(cmd, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		return p, operations
	}
	const waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'tag_history'::regclass"
	const locked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
	first, _ := start()
	within(t, patience, "the migration waits for the table", func() bool { return number(t, url, waiting) == 1 })
	first.Kill()
	killed := time.Now()
	within(t, patience, "the lock of the killed indexer is free", func() bool { return number(t, url, locked) == 0 })
	t.Logf("the lock was free %v after the kill", time.Since(killed).Round(time.Millisecond))
	if n := number(t, url, migrationsQuery); n != 3 {
		t.Errorf("after the kill: got %d applied migrations, want 3", n)
	}

	_, second := start()
	within(t, patience, "the next migration waits for the table", func() bool { return number(t, url, waiting) == 1 })
	waiter, third := start() // it waits for the second
	within(t, patience, "the third indexer logs that it waits", func() bool {
		return strings.Contains(waiter.Tail(), "waiting for another migration...")
	})
	if _, err := holder.Exec(ctx, "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	for _, operations := range []string{second, third} {
		within(t, patience, "the indexer is ready", func() bool { return status("http://"+operations+"/readyz") == http.StatusOK })
	}
	if n := number(t, url, migrationsQuery); n != all {
		t.Errorf("got %d applied migrations, want %d", n, all)
	}
	if n := number(t, url, untidyQuery); n != 0 {
		t.Errorf("%d versions do not have exactly one applied row", n)
	}
	if n := number(t, url, "SELECT count(*) FROM tag_history"); n != 1 {
		t.Errorf("got %d moves left, want 1", n)
	}
}

// An indexer that waits too long for another migration must name the setting that
// limits the wait.
func TestMigrationLockTimeout(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localpg.Config{})
	url := server.URL("postgres")
	holder, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(context.Background())
	if _, err := holder.Exec(t.Context(), "SELECT pg_advisory_lock(4097083626)"); err != nil { // the number of goose's lock
		t.Fatal(err)
	}
	out, code := answered(t, []string{"PORTBOOK_DATABASE_POSTGRES_URL=" + url, "PORTBOOK_DATABASE_MIGRATIONLOCKTIMEOUT=1s"}, "", "migrate", "up", "-y")
	for _, want := range []string{"waiting for another migration...", "database.migrationLockTimeout, 1s", fmt.Sprintf("process %d of the server", holder.PgConn().PID())} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("got exit status %d, want 1 and %q in:\n%s", code, want, out)
		}
	}
	if n := number(t, url, tablesQuery); n != 0 {
		t.Errorf("got %d tables, want none", n)
	}
}

// A server that is too old must be refused, with its version in the error. A proxy
// makes the real server look like PostgreSQL 13.
func TestOldServer(t *testing.T) {
	t.Parallel()
	server := startPostgres(t, localpg.Config{})
	url := strings.Replace(server.URL("postgres"), port(t, server), aged(t, port(t, server)), 1)
	environ := []string{"PORTBOOK_DATABASE_POSTGRES_URL=" + url, "PORTBOOK_HTTP_ADDRESS=127.0.0.1:0", "PORTBOOK_HTTP_OPERATIONS_ADDRESS=127.0.0.1:0"}
	for _, args := range [][]string{{"migrate", "up", "-y"}, {"serve"}, {"serve", "--role", "reader"}} {
		out, code := answered(t, environ, "", args...)
		if code != 1 || !strings.Contains(out, "the server is PostgreSQL 13") || !strings.Contains(out, "14 or later is required; upgrade it") {
			t.Errorf("%v: got exit status %d:\n%s", args, code, out)
		}
	}
	if n := number(t, server.URL("postgres"), tablesQuery); n != 0 {
		t.Errorf("got %d tables, want none", n)
	}
}

// aged starts a proxy of a server that changes the server's major version to 13. It
// returns the proxy's port.
func aged(t *testing.T, server string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				up, err := net.Dial("tcp", "127.0.0.1:"+server)
				if err != nil {
					return
				}
				defer up.Close()
				go func() { _, _ = io.Copy(up, client) }() // ends with either
				buffer := make([]byte, 1<<16)              // a server's answer to a login arrives in one read
				for {
					n, err := up.Read(buffer)
					if i := bytes.Index(buffer[:n], []byte("server_version\x00")); i >= 0 {
						copy(buffer[i+len("server_version\x00"):n], "13") // any version in use has two digits
					}
					if _, writeErr := client.Write(buffer[:n]); err != nil || writeErr != nil {
						return
					}
				}
			}()
		}
	}()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
