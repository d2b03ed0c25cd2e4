package schema_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/schema"
	"github.com/portbook/portbook/schema/schematest"
)

// Check must distinguish the states of the schema and need only SELECT.
func TestCheck(t *testing.T) {
	t.Parallel()
	address := schematest.Empty(t)
	c := config(t, address)
	pool := connect(t, address)
	role := someone(t, address)
	conn, err := pgx.Connect(t.Context(), strings.Replace(address, "portbook@", role+"@", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	check := func() error { return schema.Check(t.Context(), conn) }

	if err := check(); !errors.Is(err, schema.ErrNotMigrated) {
		t.Errorf("empty database: %v", err)
	}
	up(t, c)
	if err := check(); err == nil || errors.Is(err, schema.ErrNotMigrated) || !strings.Contains(err.Error(), "GRANT SELECT ON schema_migrations") {
		t.Errorf("without SELECT: %v", err)
	}
	run(t, pool, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO "+role)
	if err := check(); err != nil {
		t.Errorf("all migrations applied: %v", err)
	}
	down(t, c, 1)
	if err := check(); !errors.Is(err, schema.ErrNotMigrated) {
		t.Errorf("one migration missing: %v", err)
	}
	up(t, c)
	run(t, pool, "INSERT INTO schema_migrations (version_id, is_applied) VALUES (99, true)")
	want := &schema.NewerError{Database: 99, Program: int64(len(files(t)))}
	var newer *schema.NewerError
	if err := check(); !errors.As(err, &newer) || *newer != *want {
		t.Errorf("newer database: %v", err)
	}
	if _, err := schema.Up(t.Context(), c); !errors.As(err, &newer) {
		t.Errorf("Up on a newer database: %v", err)
	}
	if _, err := schema.Down(t.Context(), c, 1); !errors.As(err, &newer) {
		t.Errorf("Down on a newer database: %v", err)
	}
	all, err := schema.Status(t.Context(), c)
	if err != nil || len(all) != len(files(t))+1 || !cmp.Equal(all[len(all)-1], schema.Migration{Version: 99, Applied: true}) {
		t.Errorf("Status of a newer database: %v, %v", all, err)
	}
}

// Status does not change an empty database.
func TestStatusChangesNothing(t *testing.T) {
	t.Parallel()
	address := schematest.Empty(t)
	all, err := schema.Status(t.Context(), config(t, address))
	if err != nil || len(all) != len(files(t)) || all[0].Applied {
		t.Errorf("Status: %v, %v", all, err)
	}
	if got := rows(t, connect(t, address), "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"); len(got) > 0 {
		t.Errorf("Status created %v", got)
	}
}

// A migration fails if its session is lost. It does not continue in another session,
// which would not have the lock.
func TestSessionLost(t *testing.T) {
	t.Parallel()
	address := schematest.Empty(t)
	c := config(t, address)
	up(t, c)
	down(t, c, len(files(t))-wholeVersion)
	pool := connect(t, address)
	holder, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Rollback(context.Background())
	rows(t, holder, "SELECT id::text FROM tag_history")
	migrated := make(chan error)
	go func() {
		_, err := schema.Up(context.Background(), c)
		migrated <- err
	}()
	const end = "SELECT pg_terminate_backend(pid)::text FROM pg_locks WHERE NOT granted AND relation = 'tag_history'::regclass"
	for start := time.Now(); len(rows(t, pool, end)) == 0; {
		if time.Since(start) > 20*time.Second {
			t.Fatal("the migration does not wait for the lock of tag_history")
		}
	}
	if err := <-migrated; code(err) != "57P01" { // admin_shutdown
		t.Errorf("migration: got %v, want 57P01", err)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	const versions = "SELECT version_id::text FROM schema_migrations WHERE version_id > 0 ORDER BY version_id"
	if got := rows(t, pool, versions); len(got) != wholeVersion {
		t.Errorf("got applied versions %v, want %d", got, wholeVersion)
	}
	up(t, c)
	if got := rows(t, pool, versions); len(got) != len(files(t)) {
		t.Errorf("got applied versions %v, want all", got)
	}
}

// Up grants the writer its rights. If they are all granted, Up writes nothing; if some
// were revoked, Up grants them again.
func TestGrants(t *testing.T) {
	t.Parallel()
	address := schematest.Empty(t)
	c := config(t, address)
	c.Writer = someone(t, address)
	up(t, c)
	pool := connect(t, address)
	const state = `SELECT xmin::text || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
		UNION ALL SELECT xmin::text FROM pg_default_acl UNION ALL SELECT xmin::text || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1`
	first := rows(t, pool, state)
	up(t, c)
	if diff := cmp.Diff(first, rows(t, pool, state)); diff != "" {
		t.Errorf("the second Up wrote (-first +second)\n%s", diff)
	}
	rights := "SELECT concat_ws(' ', has_table_privilege('" + c.Writer + "', 'tag', 'DELETE'), has_table_privilege('" + c.Writer +
		"', 'schema_migrations', 'INSERT, UPDATE, DELETE, TRUNCATE'), has_function_privilege('" + c.Writer + "', 'create_partitions()', 'EXECUTE'))"
	run(t, pool, fmt.Sprintf("REVOKE ALL ON tag FROM %[1]s; GRANT ALL ON schema_migrations TO %[1]s; REVOKE ALL ON FUNCTION create_partitions FROM %[1]s", c.Writer))
	if got := rows(t, pool, rights); got[0] != "f t f" {
		t.Fatalf("after REVOKE and GRANT: got privileges %s, want f t f", got)
	}
	up(t, c)
	if got := rows(t, pool, rights); got[0] != "t f t" {
		t.Errorf("after another Up: got privileges %s, want t f t", got)
	}
}

// For a user without rights on the schema, Up succeeds if nothing is missing, and else
// returns an error with the remedy.
func TestUpWithoutRights(t *testing.T) {
	t.Parallel()
	address := schematest.Empty(t)
	pool := connect(t, address)
	run(t, pool, "REVOKE CREATE ON SCHEMA public FROM PUBLIC") // PostgreSQL 14
	owner, worker := config(t, address), config(t, address)
	worker.Conn.User = someone(t, address)
	owner.Writer = worker.Conn.User
	remedy := "may not change the schema: set database.migrationUser"
	if _, err := schema.Up(t.Context(), worker); code(err) != "42501" || !strings.Contains(err.Error(), remedy) {
		t.Errorf("Up on an empty database: %v", err)
	}
	up(t, owner)
	const state = "SELECT xmin::text || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace UNION ALL SELECT xmin::text FROM pg_default_acl ORDER BY 1"
	before := rows(t, pool, state)
	if done, err := schema.Up(t.Context(), worker); err != nil || len(done) > 0 {
		t.Errorf("Up on a schema that is up to date: %v, %v", done, err)
	}
	if diff := cmp.Diff(before, rows(t, pool, state)); diff != "" {
		t.Errorf("Up wrote (-before +after)\n%s", diff)
	}
	if _, err := schema.Down(t.Context(), worker, 1); code(err) != "42501" || !strings.Contains(err.Error(), remedy) {
		t.Errorf("Down: %v", err)
	}
	down(t, owner, 1)
	if _, err := schema.Up(t.Context(), worker); code(err) != "42501" || !strings.Contains(err.Error(), remedy) {
		t.Errorf("Up with a migration missing: %v", err)
	}
}

// someone creates a role that may only log in.
func someone(t *testing.T, address string) string {
	t.Helper()
	pool := connect(t, address)
	role := fmt.Sprintf("someone_%d", time.Now().UnixNano()) // all databases of a server share roles
	run(t, pool, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() { run(t, pool, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	return role
}
