// Package postgres is the store: the book in PostgreSQL, one file for each noun.
//
// Writers go through Store, each method one transaction. Readers go through
// View, which is one consistent state. Rows about content change in Apply alone,
// together with the tag history, the search row and the catalogue version.
//
// Locks are taken in one order, so that writers wait for each other and never
// for ever: the repositories of a transaction in order of their name, blobs in
// order of digest, new words in theirs, tasks, and one shard of the catalogue
// version last. Tasks are
// locked by name when they are asked for and by number when they end; should two
// transactions meet there, Postgres ends one, and what it did is done again.
package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
)

// psql builds statements whose clauses vary. It is the only builder with $
// placeholders; what is nested in it is built by plain sq.Select.
var psql = sq.StatementBuilder.PlaceholderFormat(sq.Dollar)

// A Store is a database with the schema in it. It is safe for concurrent use.
type Store struct {
	pool   *pgxpool.Pool
	dict   atomic.Pointer[dictionary]
	warned sync.Once // that a database does not tell its identity
	// Log gets what an operator should know; nil: nobody does.
	Log *slog.Logger
	// Official are the namespaces whose repositories a search marks official.
	Official []string
	// Strangers says that anybody may send events: then new instances of the
	// registry, which they can make up, begin a scan once in instancePause at most.
	Strangers bool
	caches    *caches
}

// New gives the store on a pool, which stays the caller's to close.
func New(pool *pgxpool.Pool) *Store { return &Store{pool: pool, caches: newCaches()} }

// Ping returns ErrUnavailable if the database does not answer.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	return wrap("ping", s.pool.QueryRow(ctx, "SELECT 1").Scan(&one))
}

// planOnce says how the statements of a transaction are planned, of which the same
// come again and again: once for a connection, whatever the values, since to plan
// one takes longer than to run it. No plan reads a whole table because that is
// small today. Such plans look dear to Postgres, which would compile each for a
// second.
const planOnce = "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off; SET LOCAL jit = off"

// beginPlanned begins a transaction whose statements are planned once.
const beginPlanned = "BEGIN; " + planOnce

// begin runs f in a transaction of the cluster that it is told.
func (s *Store) begin(ctx context.Context, f func(pgx.Tx, cluster) error) error {
	return s.beginAs(ctx, "BEGIN", f)
}

func (s *Store) beginAs(ctx context.Context, begin string, f func(pgx.Tx, cluster) error) error {
	return s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		c, err := s.clusterOf(ctx, conn.Conn())
		if err != nil {
			return err
		}
		return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error { return f(tx, c) })
	})
}

// querier is what a pool, a connection and a transaction have in common.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// collect runs a statement and scans its rows into structs by column name.
func collect[T any](ctx context.Context, db querier, sql string, args ...any) ([]T, error) {
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[T])
}

// selected is collect for a statement that was built.
func selected[T any](ctx context.Context, db querier, sel sq.SelectBuilder) ([]T, error) {
	sql, args, err := sel.ToSql()
	if err != nil {
		return nil, err
	}
	return collect[T](ctx, db, sql, args...)
}

// queue adds a statement to a batch, whose rows go into a slice as collect gives
// them.
func queue[T any](batch *pgx.Batch, into *[]T, sql string, args ...any) {
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) (err error) {
		*into, err = pgx.CollectRows(rows, pgx.RowToStructByName[T])
		return err
	})
}

// wrap says what was asked for, and makes the errors of a database that is away
// or going away ErrUnavailable. It returns nil for nil.
func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	if timedOut(err) {
		return fmt.Errorf("%s: %w: %w", what, err, indexer.ErrTooSlow)
	}
	if unavailable(err) {
		return fmt.Errorf("%s: %w: %w", what, err, indexer.ErrUnavailable)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// timedOut reports whether Postgres ended a statement because of its time limit.
// query_canceled is what it says also when an administrator did; either way it
// has run for too long.
func timedOut(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "57014"
}

// unavailable reports whether the same call may succeed later: the connection
// was lost or refused, or the server is starting, stopping or out of room.
func unavailable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code[:2] {
		case "08", "53", "57", "40": // connection, resources, operator intervention, rollback
			return true
		}
		return pg.Code == "25006" // read_only_sql_transaction: the primary has become a standby
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, net.ErrClosed) || isLost(err)
}

// isLost reports whether the connection broke under a statement, which pgx tells
// by io errors without a type of its own.
func isLost(err error) bool {
	var pg *pgconn.PgError
	return !errors.As(err, &pg) && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF))
}

// lost reports whether a read-only transaction ended by no fault of its own, so
// that the next may succeed at once. A server that takes no connections is not
// such a case: it needs longer than a client should wait.
func lost(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "40001", "40P01": // conflict with recovery, as statement or as session; deadlock with the replaying process
			return true
		case "57P01", "57P02": // the server had stopped or crashed, and the session heard of it only now
			return true
		}
		return false
	}
	var connect *pgconn.ConnectError
	var network net.Error
	if err == nil || errors.As(err, &connect) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	return pgconn.SafeToRetry(err) || isLost(err) || errors.Is(err, net.ErrClosed) || errors.As(err, &network) && !network.Timeout()
}

// bytesOf gives a digest as stored, nil for "".
func bytesOf(d digest.Digest) []byte {
	if d == "" {
		return nil
	}
	raw, err := hex.DecodeString(d.Encoded())
	if err != nil {
		panic(fmt.Sprintf("digest %q was not checked when it was read", d))
	}
	return raw
}

// digestOf gives back what bytesOf stored: the length tells the algorithm.
func digestOf(raw []byte) digest.Digest {
	switch len(raw) {
	case 32:
		return digest.NewDigestFromBytes(digest.SHA256, raw)
	case 48:
		return digest.NewDigestFromBytes(digest.SHA384, raw)
	case 64:
		return digest.NewDigestFromBytes(digest.SHA512, raw)
	}
	return ""
}
