package postgres_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
)

// Of 50 uses at the same time in two processes, exactly as many are allowed as the rate says;
// after each pause one more is.
func TestUseRate(t *testing.T) {
	t.Parallel()
	shelf := postgrestest.New(t)
	ctx := t.Context()
	stores := []*postgres.Store{postgres.New(shelf.Pool, postgres.Config{}), postgres.New(shelf.Pool, postgres.Config{})}
	rate := access.Rate{AtOnce: 12, Pause: time.Hour} // so that a slow machine makes no difference
	use := func(i int, key string) (time.Duration, bool) {
		full, ok, err := stores[i%2].UseRate(ctx, key, rate)
		if err != nil {
			t.Error(err)
		}
		return full, ok
	}
	var allowed atomic.Int64
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			full, ok := use(i, "write alice")
			if ok {
				allowed.Add(1)
			}
			if ok && full <= 0 || full > 12*time.Hour {
				t.Errorf("use %d: allowed: %v, %v until all may be used", i, ok, full)
			}
		})
	}
	group.Wait()
	if n := allowed.Load(); n != 12 {
		t.Fatalf("%d of 50 uses at once were allowed, want 12", n)
	}
	for i := range 2 {
		full, ok := use(i, "write alice")
		if wait := rate.Wait(full); ok || wait <= 59*time.Minute || wait > time.Hour {
			t.Errorf("the next use: allowed: %v, wait %v, want a refusal for an hour", ok, wait)
		}
	}
	if full, ok := use(0, "write bob"); !ok || rate.Left(full) != 11 {
		t.Errorf("another user: allowed: %v, %d left", ok, rate.Left(full))
	}
	pass := func(hours int) {
		t.Helper()
		if _, err := shelf.Pool.Exec(ctx, "UPDATE rate_limit SET full_at = full_at - $1 * interval '1 hour'", hours); err != nil {
			t.Fatal(err)
		}
	}
	pass(1)
	if full, ok := use(0, "write alice"); !ok || rate.Left(full) != 0 {
		t.Errorf("after a pause: allowed: %v, %d left", ok, rate.Left(full))
	}
	if _, ok := use(1, "write alice"); ok {
		t.Error("after a pause two uses are allowed")
	}
	pass(100)
	if full, ok := use(1, "write alice"); !ok || rate.Left(full) != 11 {
		t.Errorf("after many pauses: allowed: %v, %d left, want 11: nothing is saved up", ok, rate.Left(full))
	}
}

// Rows that are not needed any more are deleted.
func TestRatesAreForgotten(t *testing.T) {
	t.Parallel()
	shelf := postgrestest.New(t)
	store := postgres.New(shelf.Pool, postgres.Config{})
	rate := access.Rate{AtOnce: 2, Pause: time.Hour}
	for round := range 3 {
		for i := range 30 {
			if _, ok, err := store.UseRate(t.Context(), fmt.Sprintf("write user %d of round %d", i, round), rate); !ok || err != nil {
				t.Fatal(ok, err)
			}
		}
		if n := shelf.Rows("SELECT count(*) FROM rate_limit"); n != 30 {
			t.Errorf("%d rows in round %d, want 30", n, round)
		}
		if _, err := shelf.Pool.Exec(t.Context(), "UPDATE rate_limit SET full_at = now() - interval '1 second'"); err != nil {
			t.Fatal(err)
		}
	}
}
