package postgres_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// While a request is read, pg_stat_activity shows its id, whatever the id and the
// name of the program contain. Afterwards the connection has its own name again.
func TestRequestInActivity(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ application, id, want string }{
		{"portbook-indexer", "4bf92f3577b34da6a3ce929d0e0e4736", "portbook-indexer 4bf92f3577b34da6a3ce929d0e0e4736"},
		{"portbook-indexer", "", "portbook-indexer"},
		{"portbook-indexer", strings.Repeat("x", 128), "portbook-indexer " + strings.Repeat("x", 46)},
		{strings.Repeat("n", 62), strings.Repeat("x", 32), strings.Repeat("n", 30) + " " + strings.Repeat("x", 32)},
		{`it's "C:\n"`, `a'; DROP TABLE tag; --\`, `it?s ?C:?n? a?? DROP TABLE tag? --?`},
		{"né", "é", "n?? ??"},
	} {
		pool := namedPool(t, test.application)
		ctx := t.Context()
		if test.id != "" {
			ctx = indexer.WithRequest(ctx, test.id)
		}
		s := postgres.New(pool, postgres.Config{})
		var during string
		err := s.View(ctx, indexer.Everyone, func(v *postgres.View) error {
			_, err := v.Version(ctx)
			during = applicationOf(t, pool)
			return err
		})
		if err != nil || during != test.want {
			t.Errorf("%q, %q: pg_stat_activity shows %q, want %q, %v", test.application, test.id, during, test.want, err)
		}
		if after := applicationOf(t, pool); strings.Contains(after, " ") && test.application == "portbook-indexer" {
			t.Errorf("afterwards pg_stat_activity shows %q", after)
		}
	}
}

// The transaction that stores events shows the request too.
func TestEventsInActivity(t *testing.T) {
	t.Parallel()
	pool := namedPool(t, "portbook-indexer")
	ctx := indexer.WithRequest(t.Context(), "7e57-1d")
	const trap = `
		CREATE TABLE noted (name text);
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO noted VALUES (current_setting('application_name')); RETURN NULL;
		END $$;
		CREATE TRIGGER note AFTER INSERT ON event FOR EACH STATEMENT EXECUTE FUNCTION note()`
	if _, err := pool.Exec(ctx, trap); err != nil {
		t.Fatal(err)
	}
	events := []indexer.Event{{ID: "1", At: time.Now(), Action: "push", Repository: "app", Tag: "v1"}}
	if _, err := postgres.New(pool, postgres.Config{}).Receive(ctx, events); err != nil {
		t.Fatal(err)
	}
	var got string
	if err := pool.QueryRow(ctx, "SELECT name FROM noted").Scan(&got); err != nil || got != "portbook-indexer 7e57-1d" {
		t.Errorf("the transaction had the name %q: %v", got, err)
	}
}

// namedPool returns two connections with an application name to a new database.
func namedPool(t *testing.T, application string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(schematest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.RuntimeParams["application_name"] = application
	config.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// applicationOf returns the name of the other session of the database, or of this one
// if there is no other.
func applicationOf(t *testing.T, pool *pgxpool.Pool) (name string) {
	t.Helper()
	const q = `SELECT application_name FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
		ORDER BY pid = pg_backend_pid() LIMIT 1`
	if err := pool.QueryRow(context.WithoutCancel(t.Context()), q).Scan(&name); err != nil {
		t.Fatal(err)
	}
	return name
}
