package postgres_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

// overview returns the overview for tests to compare.
func overview(t *testing.T, s shelf) (o indexer.Overview) {
	t.Helper()
	err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) (err error) {
		o, err = v.Overview(t.Context())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// The overview counts the book as it is now, not as it was at the last scan.
func TestOverviewCounts(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	var want indexer.Overview
	const q = "SELECT (SELECT count(*) FROM repository_search), (SELECT count(*) FROM tag), (SELECT count(*) FROM manifest)"
	if err := s.Pool.QueryRow(t.Context(), q).Scan(&want.Repositories, &want.Tags.N, &want.Manifests.N); err != nil || want.Tags.N == 0 {
		t.Fatalf("%+v, %v", want, err)
	}
	if diff := cmp.Diff(want, overview(t, s)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A large table is not counted, and the number is marked as an estimate.
func TestOverviewEstimates(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	exec := func(q string) {
		t.Helper()
		if _, err := s.Pool.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	exec("INSERT INTO repository (name) VALUES ('a')")
	exec("INSERT INTO tag (repository_id, name, problem) SELECT r.id, 't' || n, 'x' FROM repository r, generate_series(1, 100000) n")
	if got, want := overview(t, s).Tags, (indexer.Count{N: 100_000}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	exec("INSERT INTO tag (repository_id, name, problem) SELECT r.id, 'u' || n, 'x' FROM repository r, generate_series(1, 20000) n")
	exec("ANALYZE tag")
	if got, want := overview(t, s).Tags, (indexer.Count{N: 120_000, About: true}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// The last event is reported regardless of its age; the time between scans is that
// of the last scan that started by interval.
func TestOverviewTimes(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	if o := overview(t, s); !o.LastEvent.IsZero() || o.ScansEvery != 0 {
		t.Errorf("empty book: got %+v", o)
	}
	for i, ago := range []time.Duration{40 * 24 * time.Hour, 5 * 24 * time.Hour, 3 * time.Hour, time.Hour, 5 * time.Minute, 3 * time.Second} {
		var want time.Time
		const q = "INSERT INTO event (id, received_at, at, action, repository) VALUES ($1, now() - $2::float8 * interval '1 second', now(), 'push', 'a') RETURNING received_at"
		if err := s.Pool.QueryRow(t.Context(), q, string(rune('a'+i)), ago.Seconds()).Scan(&want); err != nil {
			t.Fatal(err)
		}
		if got := overview(t, s).LastEvent; !got.Equal(want) {
			t.Errorf("the last event was received at %v, got %v", want, got)
		}
	}
	const q = `
		INSERT INTO scan (reason, asked_at, started_at, finished_at, error) VALUES
			('start', now() - interval '5 hours', now() - interval '5 hours', now() - interval '4 hours 50 minutes', NULL),
			('command', now() - interval '4 hours', now() - interval '4 hours', now() - interval '3 hours 50 minutes', 'broken off'),
			('interval', now() - interval '3 hours', now() - interval '3 hours', now() - interval '2 hours 50 minutes', NULL),
			('command', now() - interval '1 hour', now() - interval '1 hour', now() - interval '50 minutes', NULL)`
	if _, err := s.Pool.Exec(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if got := overview(t, s).ScansEvery; got != 2*time.Hour {
		t.Errorf("got a scan every %v, want 2 h", got)
	}
}
