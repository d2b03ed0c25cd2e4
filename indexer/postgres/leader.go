package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// leaderLock is the advisory lock that the leader holds.
const leaderLock = 0x706f7274_6c656164 // "portlead"

// How often a leader makes sure that its session lives, and how often others
// try to take over. The lock of a process that died is free at once (30 ms,
// measured), so another leads within leaderTry; a leader that lost its
// connection stops within leaderCheck plus leaderTimeout.
const (
	leaderTry     = time.Second
	leaderCheck   = time.Second
	leaderTimeout = 5 * time.Second
)

// Lead waits until this process is the one leader of all that share the
// database, then runs f. The context of f ends when the lead is lost. Lead
// returns what f returns, or the error that kept it from leading.
//
// The lead is an advisory lock of a session of its own, so it goes when the
// process dies. A process that hangs keeps it: work must be bounded in time.
func (s *Store) Lead(ctx context.Context, f func(context.Context) error) error {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return wrap("lead", err)
	}
	defer closeSession(conn)
	for {
		var leads bool
		if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(leaderLock)).Scan(&leads); err != nil {
			return wrap("lead", err)
		}
		if leads {
			break
		}
		if err := wait(ctx, leaderTry); err != nil {
			return err
		}
	}
	lead, stop := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		stop(watch(lead, conn))
	}()
	defer func() { <-watched }() // the session is one goroutine's at a time
	defer stop(nil)
	return f(lead)
}

// watch returns when the session is lost, and why.
func watch(ctx context.Context, conn *pgx.Conn) error {
	for {
		if err := wait(ctx, leaderCheck); err != nil {
			return err
		}
		check, cancel := context.WithTimeout(ctx, leaderTimeout)
		_, err := conn.Exec(check, "SELECT 1")
		cancel()
		if err != nil {
			return wrap("lead lost", err)
		}
	}
}

// closeSession frees the lock even if the caller's context has ended.
func closeSession(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), leaderTimeout)
	defer cancel()
	_ = conn.Close(ctx) // a session that cannot be closed is lost, and its lock with it
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
