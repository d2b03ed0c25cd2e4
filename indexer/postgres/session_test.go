package postgres_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// Stored sessions are found until they end, by themselves or not; of an account the last
// hundred stay, however many begin at once, and those of others are not touched.
func TestStoredSessions(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	must(t, s.AddAccount(ctx, access.Account{Name: "alice"}))
	must(t, s.AddAccount(ctx, access.Account{Name: "bob"}))
	a := access.NewAccounts(s, signerOf(t))
	sessions := a.StoredSessions(s)
	first, _, err := sessions.Begin(ctx, "alice", time.Now())
	must(t, err)
	bobs, _, err := sessions.Begin(ctx, "bob", time.Now())
	must(t, err)
	found, err := sessions.Find(ctx, first)
	if err != nil || found.Actor != "alice" {
		t.Fatalf("found %+v, %v", found, err)
	}
	if _, _, err := sessions.Begin(ctx, "nobody", time.Now()); !errors.Is(err, indexer.ErrNotFound) {
		t.Errorf("a session of nobody: %v", err)
	}
	_, err = pool.Exec(ctx, "UPDATE session SET expires_at = now() - interval '1 s' WHERE id = $1", found.ID)
	must(t, err)
	if _, err := access.NewAccounts(s, signerOf(t)).StoredSessions(s).Find(ctx, first); !errors.Is(err, access.ErrDenied) {
		t.Errorf("a session that has expired: %v", err)
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 15 {
				if _, _, err := sessions.Begin(ctx, "alice", time.Now()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	var n, expired int
	must(t, pool.QueryRow(ctx, "SELECT count(*), count(*) FILTER (WHERE expires_at < now()) FROM session").Scan(&n, &expired))
	if n != access.MaxSessions+1 || expired != 0 {
		t.Errorf("%d sessions, %d of them have expired, want %d and none", n, expired, access.MaxSessions+1)
	}
	b, err := sessions.Find(ctx, bobs)
	if err != nil || b.Actor != "bob" {
		t.Fatalf("bob: %+v, %v", b, err)
	}
	must(t, sessions.End(ctx, b))
	must(t, sessions.End(ctx, b)) // twice is no mistake
	deadline := time.Now().Add(30 * time.Second)
	for _, err = sessions.Find(ctx, bobs); err == nil && time.Now().Before(deadline); _, err = sessions.Find(ctx, bobs) {
		time.Sleep(20 * time.Millisecond)
	}
	if !errors.Is(err, access.ErrDenied) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := sessions.Find(ctx, fmt.Sprint("pbs_", bobs)); !errors.Is(err, access.ErrDenied) {
		t.Errorf("another cookie: %v", err)
	}
}

// A new session waits for a change of accounts that has begun, before it locks its own, so
// that the change never waits for it.
func TestSessionsAndChangesTakeTurns(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	url := schematest.URL(t)
	s, other := postgres.New(connect(t, url), postgres.Config{}), connect(t, url)
	must(t, s.AddAccount(ctx, access.Account{Name: "alice"}))
	change, err := other.Begin(ctx)
	must(t, err)
	defer func() { _ = change.Rollback(ctx) }() // if the test fails
	_, err = change.Exec(ctx, "UPDATE access_version SET v = v + 1")
	must(t, err)
	added := make(chan error, 1)
	go func() {
		_, hash := access.NewCookie()
		added <- s.AddSession(ctx, access.NewSession("alice", time.Now(), hash))
	}()
	within(t, "the session waits", func() bool {
		const waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
		return one[int](t, other, waiting) == 1
	})
	_, err = change.Exec(ctx, "SELECT FROM account WHERE name = 'alice' FOR UPDATE NOWAIT")
	must(t, err)
	must(t, change.Commit(ctx))
	must(t, <-added)
}
