package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// leaderLock is the advisory lock that the leader holds.
const leaderLock = 0x706f7274_6c656164 // "portlead"

// leaderTry is how often a process tries to take the lock, and leaderCheck how often
// a leader checks its connection. The lock of a process that died is released at
// once (30 ms, measured), so another process leads within leaderTry. A leader that
// has lost its connection stops within leaderCheck plus leaderTimeout.
const (
	leaderTry     = time.Second
	leaderCheck   = time.Second
	leaderTimeout = 5 * time.Second
)

// Lead waits until this process is the only leader of all processes that share the
// database, then runs f. The context of f ends when the lead is lost. Lead returns
// the error of f, or the error that prevented it from leading.
//
// The lead is a session-level advisory lock on a connection of the pool, so it is
// released when the process dies. A process that hangs keeps it: the work of f must
// have time limits.
//
// Before it runs f, Lead inserts missing rows of the catalogue version, and changes
// the epoch if the last leader led on another cluster.
func (s *Store) Lead(ctx context.Context, f func(context.Context) error) error {
	conn, err := s.waitForLead(ctx)
	if err != nil {
		return pg.Wrap("lead", err)
	}
	defer closeSession(conn) // this releases the lock
	if err := s.settle(ctx, conn.Conn()); err != nil {
		return pg.Wrap("lead", err)
	}
	lead, stop := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		stop(watch(lead, conn.Conn()))
	}()
	defer func() { <-watched }() // only one goroutine may use the session at a time
	defer stop(nil)
	return f(lead)
}

// waitForLead returns the session that holds the lock. It keeps no session while
// another process holds the lock.
func (s *Store) waitForLead(ctx context.Context) (*pgxpool.Conn, error) {
	for {
		conn, err := s.pool.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		var leads bool
		try, cancel := context.WithTimeout(ctx, leaderTimeout)
		err = conn.QueryRow(try, "SELECT pg_try_advisory_lock($1)", int64(leaderLock)).Scan(&leads)
		cancel()
		if err != nil {
			closeSession(conn) // it may hold the lock
			return nil, err
		}
		if leads {
			return conn, nil
		}
		conn.Release()
		if err := wait(ctx, leaderTry); err != nil {
			return nil, err
		}
	}
}

// settle calls restore in a transaction on conn.
func (s *Store) settle(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	c, err := s.clusterOf(ctx, conn)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return restore(ctx, tx, c) })
}

// watch returns an error when the session is lost or ctx ends.
func watch(ctx context.Context, conn *pgx.Conn) error {
	for {
		if err := wait(ctx, leaderCheck); err != nil {
			return err
		}
		check, cancel := context.WithTimeout(ctx, leaderTimeout)
		_, err := conn.Exec(check, "SELECT 1")
		cancel()
		if err != nil {
			return pg.Wrap("lead lost", err)
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
