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
	// lockTimeout is what Config.LockTimeout is if it is not set.
	lockTimeout = 2 * time.Minute
	// lockEvery is how often a program that waits tries: five that start at once
	// on an empty database are done within a second.
	lockEvery = 200 * time.Millisecond
	// lockNews is how often it says that it waits.
	lockNews = 10 * time.Second
)

// migrationLock is goose's own number, so that programs which leave the locking
// to goose wait for us, and we for them.
const migrationLock = lock.DefaultLockID

// open gives the one session that migrates. It holds the lock, so it is never
// replaced by another: work whose session is lost has failed.
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

var errSessionLost = errors.New("the session that holds the lock of migrations was lost")

// watchClient lets Postgres notice within two seconds that this program has
// died, even while a statement of its waits for a table: the next to migrate
// need not wait for that. Some systems cannot tell (PostgreSQL 14 on what is not
// Linux); there it is noticed when the statement ends.
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
		if err := db.QueryRowContext(ctx, "SELECT pg_try_advisory_lock($1)", int64(migrationLock)).Scan(&free); err != nil || free {
			return err
		}
		waited := time.Since(start)
		if waited >= timeout {
			return fmt.Errorf("another program (%s) has been migrating this database for longer than database.migrationLockTimeout, %v: see what it waits for, or allow more time", holder(ctx, db), timeout)
		}
		if !time.Now().Before(news) {
			log.InfoContext(ctx, "waiting for another migration...", "held_by", holder(ctx, db), "waited", waited.Round(time.Second), "timeout", timeout)
			news = news.Add(lockNews)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(min(lockEvery, timeout-waited)):
		}
	}
}

// holder describes who has the lock.
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
