package postgres

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Every idleLook the pool notes the maximum number of connections that were in use
// at once since the last look. Idle connections above the maximum of the last
// idleLooks looks are closed. If connections were closed on release instead, a burst
// of pushes would open one for each push, and the server would start a process for
// each.
const (
	idleLook  = time.Second
	idleLooks = 10
)

// OpenPool returns a pool, and keepIdle, which closes unneeded connections above
// most until its context ends; pgxpool has no such limit. A connection that is held,
// such as the leader's, counts too, because it is idle for the server.
//
// OpenPool does not connect.
func OpenPool(
	ctx context.Context, config *pgxpool.Config, most int,
) (pool *pgxpool.Pool, keepIdle func(context.Context) error, err error) {
	k, err := openPool(ctx, config, most)
	if err != nil {
		return nil, nil, err
	}
	return k.pool.Load(), k.run, nil
}

// openPool returns the keeper of a new pool.
func openPool(ctx context.Context, config *pgxpool.Config, most int) (*idleKeeper, error) {
	k := &idleKeeper{most: most}
	config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) {
		k.note()
		return true, nil
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	k.pool.Store(pool)
	return k, err
}

type idleKeeper struct {
	most   int
	pool   atomic.Pointer[pgxpool.Pool]
	inUse  atomic.Int32 // maximum since the last look
	needed []int        // at the last looks, the oldest first
}

// note is called with an acquired connection that is about to be used.
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
	for wait(ctx, idleLook) == nil {
		k.look(ctx)
	}
	return nil
}

// look notes how many connections were needed since the last look, and closes those
// that no look of the last idleLooks needed.
func (k *idleKeeper) look(ctx context.Context) {
	k.needed = append(k.needed, int(k.inUse.Swap(k.pool.Load().Stat().AcquiredConns())))
	if len(k.needed) < idleLooks {
		return
	}
	k.close(ctx, max(k.most, slices.Max(k.needed)))
	k.needed = k.needed[1:]
}

// close closes idle connections until at most keep are left.
func (k *idleKeeper) close(ctx context.Context, keep int) {
	pool := k.pool.Load()
	stat := pool.Stat() // once: a connection that is closing is still counted
	for range min(int(stat.TotalConns())-keep, int(stat.IdleConns())) {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return // the database is unavailable, so the connections are lost
		}
		closeSession(conn)
	}
}

// closeSession closes a connection instead of returning it to its pool, which opens
// another if it needs one. That releases everything the session held, such as a
// lock, even if the caller's context has ended.
func closeSession(conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), leaderTimeout)
	defer cancel()
	_ = conn.Conn().Close(ctx) // if it fails, the session is lost with its locks
	conn.Release()
}
