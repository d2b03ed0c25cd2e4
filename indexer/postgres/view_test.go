package postgres

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/schema/schematest"
)

// A view is one state and read-only. A statement that takes too long in it is
// cancelled, and its error differs from that of an unavailable database.
func TestViewIsBounded(t *testing.T) {
	t.Parallel()
	s := New(schematest.New(t), Config{})
	ctx := t.Context()
	err := s.View(ctx, indexer.Everyone, func(v *View) error {
		var settings [3]string
		const q = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'), current_setting('statement_timeout')"
		if err := v.tx.QueryRow(ctx, q).Scan(&settings[0], &settings[1], &settings[2]); err != nil {
			return err
		}
		if diff := cmp.Diff([3]string{"repeatable read", "on", "5s"}, settings); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		if _, err := v.tx.Exec(ctx, "SET LOCAL statement_timeout = 20"); err != nil {
			return err
		}
		_, err := v.tx.Exec(ctx, "SELECT pg_sleep(10)")
		return pg.Wrap("sleep", err)
	})
	if !errors.Is(err, indexer.ErrTooSlow) || !errors.Is(err, indexer.ErrUnavailable) {
		t.Errorf("slow statement: got %v", err)
	}
	if _, err := s.pool.Exec(ctx, "SELECT 1"); err != nil {
		t.Errorf("the connection is lost: %v", err)
	}
}

// The time limit of a view covers all its statements together: many fast statements
// must not run for ever. The connection can be used again.
func TestViewHasOneBudget(t *testing.T) {
	t.Parallel()
	s := New(schematest.New(t), Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	statements := 0
	err := s.View(ctx, indexer.Everyone, func(v *View) error {
		for {
			if _, err := v.tx.Exec(ctx, "SELECT pg_sleep(0.1)"); err != nil {
				return pg.Wrap("sleep", err)
			}
			statements++
		}
	})
	if !errors.Is(err, indexer.ErrTooSlow) || statements == 0 || statements > 20 {
		t.Errorf("got %d statements of 0.1 s, then %v", statements, err)
	}
	one, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err = s.View(one, indexer.Everyone, func(v *View) error {
		var limit int // ms
		if err := v.tx.QueryRow(one, "SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'").Scan(&limit); err != nil {
			return err
		}
		if limit < 1 || limit > 900 {
			t.Errorf("got a statement timeout of %d ms, want less than the 1,000 of the context", limit)
		}
		_, err := v.tx.Exec(one, "SELECT pg_sleep(60)")
		return pg.Wrap("sleep", err)
	})
	if !errors.Is(err, indexer.ErrTooSlow) {
		t.Errorf("statement of a minute: got %v", err)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// A reader that waits for a connection gets an error in time if none becomes free.
func TestViewWaitsForAConnection(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	var held []interface{ Release() }
	for range pool.Config().MaxConns {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := New(pool, Config{}).View(ctx, indexer.Everyone, func(*View) error { return nil })
	if !errors.Is(err, indexer.ErrUnavailable) {
		t.Errorf("without a free connection: got %v, want ErrUnavailable", err)
	}
	for _, conn := range held {
		conn.Release()
	}
}

// A view that cannot even begin returns an error of a known kind; any other error
// would be answered with 500.
func TestViewCannotBegin(t *testing.T) {
	t.Parallel()
	config := schematest.New(t).Config()
	broken := false
	config.PrepareConn = func(_ context.Context, conn *pgx.Conn) (bool, error) {
		if broken {
			_ = conn.PgConn().Conn().Close() // the next statement fails in any case
		}
		return true, nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	s := New(pool, Config{})
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	broken = true
	if err := s.View(t.Context(), indexer.Everyone, func(*View) error { return nil }); !errors.Is(err, indexer.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}
