package postgres

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// How connections that nobody needs are found: once a second it is noted how many
// were in use at once since the last look, and those beyond the most of the last
// ten looks are closed. Closing them when they are given back would have a burst
// of pushes connect for each push, and for a connection the server starts a
// process.
const (
	idleLook  = time.Second
	idleLooks = 10
)

// OpenPool gives a pool, and keepIdle, which keeps it from holding more than most
// connections for long when they are not needed, until its context ends. pgxpool
// itself has no such ceiling. A session that is held, as the leader's is, counts:
// to the server it is one that idles.
//
// It connects to nothing.
func OpenPool(ctx context.Context, config *pgxpool.Config, most int) (pool *pgxpool.Pool, keepIdle func(context.Context) error, err error) {
	k := &idleKeeper{most: most}
	config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) {
		k.note()
		return true, nil
	}
	if pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, nil, err
	}
	k.pool.Store(pool)
	return pool, k.run, nil
}

type idleKeeper struct {
	most  int
	pool  atomic.Pointer[pgxpool.Pool]
	inUse atomic.Int32 // the most at once since the last look
}

// note is called with a connection in hand that is about to be used.
func (k *idleKeeper) note() {
	pool := k.pool.Load()
	if pool == nil {
		return
	}
	now := pool.Stat().AcquiredConns()
	for {
		before := k.inUse.Load()
		if now <= before || k.inUse.CompareAndSwap(before, now) {
			return
		}
	}
}

func (k *idleKeeper) run(ctx context.Context) error {
	var needed []int // at the last looks
	for wait(ctx, idleLook) == nil {
		needed = append(needed, int(k.inUse.Swap(k.pool.Load().Stat().AcquiredConns())))
		if len(needed) < idleLooks {
			continue
		}
		k.close(ctx, max(k.most, slices.Max(needed)))
		needed = needed[1:]
	}
	return nil
}

// close closes idle connections until no more than keep are left.
func (k *idleKeeper) close(ctx context.Context, keep int) {
	pool := k.pool.Load()
	stat := pool.Stat() // once: a connection is counted until its end is over
	for range min(int(stat.TotalConns())-keep, int(stat.IdleConns())) {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return // the database is away, and the connections with it
		}
		closeSession(conn)
	}
}

// closeSession closes a connection instead of giving it back to its pool, which
// makes another if it needs one. What the session held, such as a lock, is free
// then, even if the caller's context has ended.
func closeSession(conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), leaderTimeout)
	defer cancel()
	_ = conn.Conn().Close(ctx) // a session that cannot be closed is lost, and its locks with it
	conn.Release()
}
