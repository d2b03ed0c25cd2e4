package postgres_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// Unneeded connections above the limit are closed; the leader's session counts.
func TestKeepIdle(t *testing.T) {
	t.Parallel()
	pool, look := keptIdle(t, 2)
	s := postgres.New(pool, postgres.Config{})
	leads := make(chan struct{})
	var work sync.WaitGroup
	defer work.Wait()
	lead, release := context.WithCancel(t.Context())
	defer release()
	work.Go(func() {
		_ = s.Lead(lead, func(ctx context.Context) error { close(leads); <-ctx.Done(); return nil })
	})
	<-leads
	burst(t, pool, 4)
	for range postgres.IdleLooks {
		look(t.Context())
	}
	if n := pool.Stat().TotalConns(); n != 5 {
		t.Fatalf("got %d connections while the burst is remembered, want 4 and the leader's", n)
	}
	look(t.Context())
	within(t, "two connections are left", func() bool { return pool.Stat().TotalConns() <= 2 })
	for range postgres.IdleLooks {
		look(t.Context())
	}
	if n := pool.Stat().TotalConns(); n < 2 {
		t.Errorf("%d connections are left, want 2: the limit must close no more", n)
	}
}

// Work in bursts does not open new connections for each burst.
func TestKeepIdleBursts(t *testing.T) {
	t.Parallel()
	pool, look := keptIdle(t, 1)
	for range 3 * postgres.IdleLooks {
		burst(t, pool, 4)
		for range postgres.IdleLooks - 1 {
			look(t.Context())
		}
	}
	if n := pool.Stat().NewConnsCount(); n > 4 {
		t.Errorf("%d connections were opened for bursts of 4", n)
	}
}

// burst uses n connections at once.
func burst(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	var conns []*pgxpool.Conn
	for range n {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		conn.Release()
	}
}

// keptIdle returns a pool that keeps at most most idle connections for long, and the
// function that makes one look at it.
func keptIdle(t *testing.T, most int) (*pgxpool.Pool, func(context.Context)) {
	config, err := pgxpool.ParseConfig(schematest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 10
	pool, look, err := postgres.OpenPoolByHand(t.Context(), config, most)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool, look
}
