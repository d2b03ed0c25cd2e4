package access

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// keptFor is how old the protections are that a process acts on, as long as the database
	// answers: 1 s, as the version of accounts.
	keptFor = time.Second
	// keeperTime limits one look at the database: 2 s.
	keeperTime = 2 * time.Second
)

// A Keeper has the protections in memory. While the database is away it keeps those that it
// read last: pushes go on, and what was protected stays so. It is safe for concurrent use.
type Keeper struct {
	load func(context.Context) (Protections, error)
	log  *slog.Logger

	loading chan struct{} // has one element while somebody loads
	mu      sync.Mutex
	all     Protections
	known   bool
	tried   time.Time
}

// NewKeeper returns a Keeper that reads the protections by a function.
func NewKeeper(load func(context.Context) (Protections, error), log *slog.Logger) *Keeper {
	return &Keeper{load: load, log: log, loading: make(chan struct{}, 1)}
}

// Now returns the protections, as they were at most about a second ago. It returns the error of
// the function only if they never were read. A nil Keeper has no protections.
func (k *Keeper) Now(ctx context.Context) (Protections, error) {
	if k == nil {
		return Protections{}, nil
	}
	if all, fresh := k.fresh(); fresh {
		return all, nil
	}
	select {
	case k.loading <- struct{}{}:
		defer func() { <-k.loading }()
	case <-ctx.Done():
		return Protections{}, ctx.Err()
	}
	if all, fresh := k.fresh(); fresh { // somebody else has loaded them
		return all, nil
	}
	limited, cancel := context.WithTimeout(ctx, keeperTime)
	defer cancel()
	all, err := k.load(limited)
	return k.learn(ctx, all, err)
}

func (k *Keeper) fresh() (Protections, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.all, k.known && time.Since(k.tried) < keptFor
}

// learn keeps what was loaded, or else what was known before.
func (k *Keeper) learn(ctx context.Context, all Protections, err error) (Protections, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tried = time.Now()
	switch {
	case err == nil:
		k.all, k.known = all, true
	case k.known:
		k.log.WarnContext(ctx, "protections not read, those of before hold", "error", err)
		err = nil
	}
	return k.all, err
}
