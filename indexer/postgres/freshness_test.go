package postgres_test

import (
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// The count is that of the state asked, also when it is remembered.
func TestCountRepositories(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t))
	count := func(want int) {
		t.Helper()
		for range 2 {
			view(t, s, func(v *postgres.View) error {
				if n, err := v.CountRepositories(t.Context()); err != nil || n != want {
					t.Errorf("counted %d, %v, want %d", n, err, want)
				}
				return nil
			})
		}
	}
	count(0)
	names(t, s, "a", "b")
	count(2)
	store(t, s, "latest", indexer.Finding{Task: indexer.Task{Repository: "a"}, Outcome: indexer.Gone})
	count(1)
}

func TestFreshness(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool)
	fresh := func() (f indexer.Freshness) {
		view(t, s, func(v *postgres.View) (err error) { f, err = v.Freshness(t.Context()); return err })
		return f
	}
	if f := fresh(); !f.ScannedAt.IsZero() || f.Version.Epoch == "" {
		t.Errorf("before the first scan: %+v", f)
	}
	const scans = `
		INSERT INTO scan (reason, started_at, finished_at, error)
		VALUES ('start', now(), '2026-01-02', NULL), ('start', now(), '2026-01-03', 'broken'), ('start', now(), NULL, NULL)`
	if _, err := pool.Exec(t.Context(), scans); err != nil {
		t.Fatal(err)
	}
	if f := fresh(); !f.ScannedAt.Equal(time.Date(2026, 1, 2, 0, 0, 0, 0, f.ScannedAt.Location())) {
		t.Errorf("scanned at %v", f.ScannedAt)
	}
}
