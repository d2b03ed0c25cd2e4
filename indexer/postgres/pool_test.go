package postgres_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// Unneeded connections above the limit are closed; the leader's session counts.
func TestKeepIdle(t *testing.T) {
	t.Parallel()
	pool := keptIdle(t, 2)
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
	if n := pool.Stat().TotalConns(); n != 5 {
		t.Fatalf("%d connections, want 4 and the leader's: nothing would be tested", n)
	}
	within(t, "two connections are left", func() bool { return pool.Stat().TotalConns() <= 2 })
	if n := pool.Stat().TotalConns(); n < 2 {
		t.Errorf("%d connections are left, want 2: the ceiling leaves what is below it", n)
	}
}

// Work in bursts does not open new connections for each burst.
func TestKeepIdleBursts(t *testing.T) {
	t.Parallel()
	pool := keptIdle(t, 1)
	for end := time.Now().Add(13 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Second) {
		burst(t, pool, 4)
	}
	if n := pool.Stat().NewConnsCount(); n > 4 {
		t.Errorf("%d connections were made for bursts of 4", n)
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

// keptIdle returns a pool that keeps at most most idle connections for long.
func keptIdle(t *testing.T, most int) *pgxpool.Pool {
	config, err := pgxpool.ParseConfig(schematest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = 10
	pool, keepIdle, err := postgres.OpenPool(t.Context(), config, most)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { _ = keepIdle(ctx) })
	t.Cleanup(func() { stop(); work.Wait(); pool.Close() })
	return pool
}
