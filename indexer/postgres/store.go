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
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
)

// A Store is a database with the schema in it. It is safe for concurrent use.
type Store struct {
	pool   *pgxpool.Pool
	dict   atomic.Pointer[dictionary]
	warned sync.Once // that a database does not tell its identity
	config Config
	caches *search.Caches
}

// A Config is what a store takes from the configuration of the program.
type Config struct {
	// Log gets what an operator should know. If it is nil, that is discarded.
	Log *slog.Logger
	// Official are the namespaces whose repositories a search marks official.
	Official []string
	// Strangers says that anybody may send events. New instances of the registry,
	// which they can make up, then begin at most one scan per instancePause.
	Strangers bool
}

// New returns the store on a pool, which stays the caller's to close.
func New(pool *pgxpool.Pool, config Config) *Store {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	return &Store{pool: pool, config: config, caches: search.NewCaches()}
}

// Ping returns ErrUnavailable if the database does not answer.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	return pg.Wrap("ping", s.pool.QueryRow(ctx, "SELECT 1").Scan(&one))
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
