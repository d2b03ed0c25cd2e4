package postgres_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// meets receives an event of an instance.
func meets(t *testing.T, s *postgres.Store, instance string) {
	t.Helper()
	events := []indexer.Event{{ID: instance + time.Now().String(), At: time.Now(), Action: "push", Repository: "a", Tag: "t", Instance: instance}}
	if _, err := s.Receive(t.Context(), events); err != nil {
		t.Fatal(err)
	}
}

// begins runs the next scan if there is one, and returns its reason.
func begins(t *testing.T, s *postgres.Store) string {
	t.Helper()
	scan, _, err := s.NextScan(t.Context())
	if errors.Is(err, indexer.ErrNotFound) {
		return ""
	}
	if err == nil {
		err = s.FinishScan(t.Context(), scan, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	return scan.Reason
}

// later makes all scans older than instancePause.
func later(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), "UPDATE scan SET started_at = started_at - interval '61 seconds'"); err != nil {
		t.Fatal(err)
	}
}

// If anybody may send events, new instances start at most one scan a minute, none of
// them is forgotten, and requests for other reasons do not wait.
func TestInstancesOfStrangers(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{Strangers: true})
	meets(t, s, "first")
	if got := begins(t, s); got != "instance" {
		t.Errorf("first instance: got a scan for %q, want one", got)
	}
	for i := range 5 {
		meets(t, s, fmt.Sprint("soon after ", i))
		if got := begins(t, s); got != "" {
			t.Errorf("instance %d within a minute: got a scan for %q, want none", i, got)
		}
	}
	if err := s.RequestScan(t.Context(), "command"); err != nil {
		t.Fatal(err)
	}
	meets(t, s, "after the command")
	if got := begins(t, s); got != "command" {
		t.Errorf("command: got a scan for %q, want its own", got)
	}
	meets(t, s, "last")
	if got := begins(t, s); got != "" {
		t.Errorf("instance within a minute: got a scan for %q, want none", got)
	}
	later(t, pool)
	if got := begins(t, s); got != "instance" {
		t.Errorf("a minute later: got a scan for %q, want that of the last instance", got)
	}
	s = postgres.New(pool, postgres.Config{})
	meets(t, s, "by token")
	if got := begins(t, s); got != "instance" {
		t.Errorf("instance of a sender with the token: got a scan for %q, want one at once", got)
	}
}

// Made-up instances do not fill the table, and do not hide a real new instance.
func TestInstancesAreBounded(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	const fill = "INSERT INTO registry_instance (id, first_seen_at) SELECT n::text, now() - interval '1 day' - n * interval '1 second' FROM generate_series(1, 1000) n"
	if _, err := pool.Exec(t.Context(), fill); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ instance, want string }{{"1", ""}, {"one more", "instance"}, {"one more", ""}, {"another", "instance"}, {"1000", "instance"}} {
		meets(t, s, test.instance)
		if got := begins(t, s); got != test.want {
			t.Errorf("instance %q: got a scan for %q, want %q", test.instance, got, test.want)
		}
	}
	var n int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM registry_instance").Scan(&n); err != nil || n != 1000 {
		t.Errorf("got %d stored instances, %v, want 1000", n, err)
	}
}
