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
// The lead is an advisory lock of a session, one of the pool's, so it goes when
// the process dies. A process that hangs keeps it: work must be bounded in time.
//
// Before f runs, the catalogue version is made whole, and its epoch another one
// if the leader leads elsewhere than the last.
func (s *Store) Lead(ctx context.Context, f func(context.Context) error) error {
	conn, err := s.waitForLead(ctx)
	if err != nil {
		return pg.Wrap("lead", err)
	}
	defer closeSession(conn) // and with it the lock
	if err := s.settle(ctx, conn.Conn()); err != nil {
		return pg.Wrap("lead", err)
	}
	lead, stop := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		stop(watch(lead, conn.Conn()))
	}()
	defer func() { <-watched }() // the session is one goroutine's at a time
	defer stop(nil)
	return f(lead)
}

// waitForLead gives the session that holds the lock. While another process does,
// none is kept.
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

// settle makes sure of the catalogue version: see restore.
func (s *Store) settle(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, leaderTimeout)
	defer cancel()
	c, err := s.clusterOf(ctx, conn)
	if err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return restore(ctx, tx, c) })
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
