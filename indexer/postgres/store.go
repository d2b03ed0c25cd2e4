// Package postgres stores the book in PostgreSQL, one file for each noun.
//
// Writers use Store, where each method is one transaction. Readers use View, which
// is one consistent state. Only Apply changes rows about content, together with the
// tag history, the search rows and the catalogue version.
//
// All transactions take locks in one order, so that they do not deadlock:
// repositories in order of name, blobs in order of digest, tasks, and last one shard of
// the catalogue version. Tasks are locked in order of name when they are enqueued and
// in order of id when they end. If two transactions deadlock there, Postgres ends one of
// them, and its work is done again.
//
// Store writes the texts of findings, events and reasons as they are: they must be valid
// UTF-8 without NUL, as package ingest makes them. Otherwise the method fails. Methods of
// View accept any text.
package postgres

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A Store is a database that has the schema. It is safe for concurrent use.
type Store struct {
	pool        *pgxpool.Pool
	application string // application_name of the connections
	dict        atomic.Pointer[dictionary]
	warned      sync.Once // that the identity of the database is unknown
	config      Config
	keeper      *keeper // nil: no copy in memory
	tally       tally
}

// A Config is the part of the program's configuration that a store needs.
type Config struct {
	// Log receives messages for the operator. If it is nil, they are discarded.
	Log *slog.Logger
	// Official lists the namespaces whose repositories are official in searches.
	Official []string
	// Memory is the most bytes of a copy of the search rows in memory, from which views
	// answer searches once KeepCopy has built it. If it is 0, there is no copy.
	Memory int
	// Strangers says that anybody may send events, and so make up new instances of
	// the registry. New instances then start at most one scan per instancePause.
	Strangers bool
	// Reports says how Receive records pushes and deletions in audit.
	Reports Reports
}

// New returns a store that uses pool. The caller still has to close the pool.
func New(pool *pgxpool.Pool, config Config) *Store {
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	application := pool.Config().ConnConfig.RuntimeParams["application_name"]
	s := &Store{pool: pool, application: application, config: config}
	if config.Memory > 0 {
		s.keeper = newKeeper(config.Memory)
	}
	return s
}

// Ping returns ErrUnavailable if the database does not answer.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	return pg.Wrap("ping", s.pool.QueryRow(ctx, "SELECT 1").Scan(&one))
}

// planOnce makes Postgres plan each statement once for a connection, for all values,
// since planning takes longer than running it. Sequential scans are off, because a
// plan that uses one as long as a table is small would stay. Generic plans have high
// cost estimates, so JIT would spend a second on each.
const planOnce = "SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL enable_seqscan = off; SET LOCAL jit = off"

// beginPlanned begins a transaction with planOnce.
const beginPlanned = "BEGIN; " + planOnce

// begin runs f in a transaction, and passes it the cluster of the connection.
func (s *Store) begin(ctx context.Context, f func(pgx.Tx, cluster) error) error {
	return s.beginAs(ctx, "BEGIN", f)
}

func (s *Store) beginAs(ctx context.Context, begin string, f func(pgx.Tx, cluster) error) error {
	return s.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		c, err := s.clusterOf(ctx, conn.Conn())
		if err != nil {
			return err
		}
		if plansAreOld(conn.Conn()) {
			begin += "; DISCARD PLANS"
		}
		options := pgx.TxOptions{BeginQuery: s.named(ctx, begin)}
		return pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error { return f(tx, c) })
	})
}

// keptPlans is the maximum number of transactions for which a connection that writes keeps
// its plans: 4,096. Making them again takes some 50 ms.
const keptPlans = 4096

// plansAreOld reports whether Postgres should make the plans of a connection again: after 16
// transactions, 64, 256 and so on, and then after each keptPlans. A plan that was made while
// a table was small may read the table whole. Postgres keeps it until autovacuum has
// analyzed the table, which takes a minute; the first scan of 10,000 repositories takes
// less.
func plansAreOld(conn *pgx.Conn) bool {
	known := conn.PgConn().CustomData()
	n, _ := known[transactionsKey].(int)
	known[transactionsKey] = n + 1
	for m := 16; m < keptPlans; m *= 4 {
		if n == m {
			return true
		}
	}
	return n > 0 && n%keptPlans == 0
}

// transactionsKey is the key of the number of transactions in the data of a connection.
const transactionsKey = "portbook.transactions"
