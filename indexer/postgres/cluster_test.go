package postgres_test

import (
	"context"
	"errors"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// A user with no privileges beyond the tables can read the identity of the server;
// and the first write to a database is not a failover.
func TestClusterIsLearned(t *testing.T) {
	t.Parallel()
	address := schematest.URL(t)
	pool := connect(t, address)
	s := postgres.New(asWriter(t, pool, address), postgres.Config{})
	before := version(t, s)
	setTag(t, s, "v1", image("demo/app", "first"))
	if got := version(t, s); got.Epoch != before.Epoch || got.Number != before.Number+1 {
		t.Errorf("got version %v after %v, want the same epoch and the next number", got, before)
	}
	want := one[string](t, pool, "SELECT system_identifier || '.' || lpad(to_hex(timeline_id), 8, '0') FROM pg_control_system(), pg_control_checkpoint()")
	if got := one[string](t, pool, "SELECT cluster FROM catalogue_epoch"); got != want {
		t.Errorf("the cluster is %q, want %q", got, want)
	}
	if got := one[int](t, pool, "SELECT count(*) FROM scan"); got != 0 {
		t.Errorf("got %d scans requested, want none", got)
	}
}

// If the database does not report its identity, everything else works.
func TestClusterUnknown(t *testing.T) {
	t.Parallel()
	address := schematest.URL(t)
	pool := connect(t, address)
	if _, err := pool.Exec(t.Context(), "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC"); err != nil {
		t.Fatal(err)
	}
	s := postgres.New(asWriter(t, pool, address), postgres.Config{})
	setTag(t, s, "v1", image("demo/app", "first"))
	if got := one[string](t, pool, "SELECT cluster FROM catalogue_epoch"); got != "" {
		t.Errorf("the cluster is known (%q): nothing was tested", got)
	}
}

// A backup without the derived tables has no catalogue version. Readers wait for
// one; a writer and a leader each create one that was never used before.
func TestVersionIsRestored(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, mend := range map[string]func(*postgres.Store){
		"writer": func(s *postgres.Store) { setTag(t, s, "v2", image("demo/app", "second")) },
		"leader": func(s *postgres.Store) {
			if err := s.Lead(ctx, func(context.Context) error { return nil }); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for _, lose := range []string{"TRUNCATE catalogue_version, catalogue_epoch", "TRUNCATE catalogue_version"} {
			pool := schematest.New(t)
			s := postgres.New(pool, postgres.Config{})
			setTag(t, s, "v1", image("demo/app", "first"))
			before := version(t, s)
			if _, err := pool.Exec(ctx, lose); err != nil {
				t.Fatal(err)
			}
			err := s.View(ctx, indexer.Everyone, func(v *postgres.View) error { _, err := v.Version(ctx); return err })
			if !errors.Is(err, indexer.ErrUnavailable) {
				t.Errorf("%s: version: got error %v, want ErrUnavailable", name, err)
			}
			err = s.View(ctx, indexer.Everyone, func(v *postgres.View) error { _, err := v.Freshness(ctx); return err })
			if !errors.Is(err, indexer.ErrUnavailable) {
				t.Errorf("%s: freshness: got error %v, want ErrUnavailable", name, err)
			}
			mend(s)
			if got := version(t, s); got.Epoch == before.Epoch || got.Epoch == "" {
				t.Errorf("%s, %s: version %v after %v, want another epoch", name, lose, got, before)
			}
			if got := one[int](t, pool, "SELECT count(*) FROM scan"); got != 1 {
				t.Errorf("%s, %s: got %d scans requested, want 1", name, lose, got)
			}
			const moves = "SELECT sum(v) = (SELECT count(*) FROM search_change) FROM catalogue_version"
			if !one[bool](t, pool, moves) {
				t.Errorf("%s, %s: search_change does not have one row for each number", name, lose)
			}
		}
	}
}

// asWriter returns a pool of a user who may only change rows.
func asWriter(t *testing.T, pool *pgxpool.Pool, address string) *pgxpool.Pool {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	user := "writer_of_" + u.Path[1:]
	execute := func(ctx context.Context, q string) {
		t.Helper()
		if _, err := pool.Exec(ctx, q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	execute(t.Context(), "CREATE ROLE "+user+" LOGIN PASSWORD 'writer'")
	execute(t.Context(), "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO "+user)
	execute(t.Context(), "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO "+user)
	t.Cleanup(func() { // after the writer's pool is closed
		execute(context.Background(), "DROP OWNED BY "+user)
		execute(context.Background(), "DROP ROLE "+user)
	})
	u.User = url.UserPassword(user, "writer")
	return connect(t, u.String())
}
