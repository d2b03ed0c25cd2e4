package schema

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3/lock"
)

const (
	// lockTimeout is the default of Config.LockTimeout.
	lockTimeout = 2 * time.Minute
	// lockEvery is the pause between two attempts to take the lock. With it, five
	// programs that start together on an empty database are ready within a second.
	lockEvery = 200 * time.Millisecond
	// lockNews is the pause between two log messages about the wait.
	lockNews = 10 * time.Second
)

// migrationLock is the number that goose uses, so that programs whose locking is done
// by goose and this one wait for each other.
const migrationLock = lock.DefaultLockID

// open returns a handle that has only one session. That session holds the lock, so
// if it is lost, all further work fails and no new session is opened.
func open(c Config) *sql.DB {
	var opened atomic.Bool
	db := stdlib.OpenDB(*c.Conn,
		stdlib.OptionBeforeConnect(func(ctx context.Context, conn *pgx.ConnConfig) error {
			if opened.Load() {
				return errSessionLost
			}
			if c.BeforeConnect == nil {
				return nil
			}
			return c.BeforeConnect(ctx, conn)
		}),
		stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
			if err := supported(conn.PgConn()); err != nil {
				return err
			}
			opened.Store(true)
			return watchClient(ctx, conn)
		}))
	db.SetMaxOpenConns(1)
	return db
}

var errSessionLost = errors.New("the session with the migration lock was lost")

// watchClient makes PostgreSQL notice within two seconds if this program dies, even
// while a statement waits for a table, so that the lock becomes free. On some systems
// (PostgreSQL 14 outside Linux) that is not possible, and PostgreSQL notices it when
// the statement ends.
func watchClient(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "SET client_connection_check_interval = '2s'")
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return nil
	}
	return err
}

// lockSession waits until no other program migrates the database.
func lockSession(ctx context.Context, db *sql.DB, c Config) error {
	log, timeout := c.Log, c.LockTimeout
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if timeout == 0 {
		timeout = lockTimeout
	}
	start := time.Now()
	for news := start; ; {
		var free bool
		err := db.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", int64(migrationLock)).Scan(&free)
		if err != nil || free {
			return err
		}
		waited := time.Since(start)
		if waited >= timeout {
			return fmt.Errorf("another program (%s) has been migrating this database for longer than"+
				" database.migrationLockTimeout, %v: find out what it waits for, or increase the timeout", holder(ctx, db), timeout)
		}
		if !time.Now().Before(news) {
			log.InfoContext(ctx, "waiting for another migration...",
				"held_by", holder(ctx, db), "waited", waited.Round(time.Second), "timeout", timeout)
			news = news.Add(lockNews)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(lockEvery, timeout-waited)):
		}
	}
}

// holder describes the session that has the lock.
func holder(ctx context.Context, db *sql.DB) string {
	const q = `
		SELECT format('process %s of the server, user %s', l.pid, COALESCE(a.usename, '?')) FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
		WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
			AND (l.classid::bigint << 32) + l.objid::bigint = $1 AND l.objsubid = 1`
	who := "just finished"
	if err := db.QueryRowContext(ctx, q, int64(migrationLock)).Scan(&who); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "unknown: " + err.Error()
	}
	return who
}
