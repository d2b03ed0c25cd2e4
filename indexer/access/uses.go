package access

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// usesGather is how long uses of tokens are gathered before they are stored: 2 s.
	usesGather = 2 * time.Second
	// usesPause is the least time between two statements that store uses: 1 min.
	usesPause = time.Minute
	// usesTime limits one of these statements: 5 s.
	usesTime = 5 * time.Second
	// maxUses is the maximum number of tokens whose use is remembered at once: 10,000, about 1
	// MB. More are used in a minute only if somebody makes ids up.
	maxUses = 10_000
)

// Uses remembers when personal tokens were last used, and stores it, so that no request waits
// for that. Its methods are safe for concurrent use. A nil *Uses remembers nothing.
type Uses struct {
	write func(context.Context, map[string]time.Time) error
	log   *slog.Logger

	mu    sync.Mutex
	last  map[string]time.Time // by id, since the last statement
	noted chan struct{}        // has an element if last is not empty
}

// NewUses returns a Uses that stores by a function.
func NewUses(write func(context.Context, map[string]time.Time) error, log *slog.Logger) *Uses {
	return &Uses{write: write, log: log, last: map[string]time.Time{}, noted: make(chan struct{}, 1)}
}

// idLength is the length of the id of a token.
const idLength = 8

// Note says that a token was used at a time. What is not the id of a token is ignored.
func (u *Uses) Note(id string, at time.Time) {
	if u == nil || len(id) != idLength {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if before, known := u.last[id]; !known && len(u.last) >= maxUses || at.Before(before) {
		return
	}
	u.last[id] = at
	select {
	case u.noted <- struct{}{}:
	default:
	}
}

// Run stores uses until ctx ends, and then once more.
func (u *Uses) Run(ctx context.Context) error {
	for {
		select {
		case <-u.noted:
		case <-ctx.Done():
			u.store(context.WithoutCancel(ctx))
			return nil
		}
		pause(ctx, usesGather)
		u.store(ctx)
		pause(ctx, usesPause)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// store stores what was noted. If that fails, it is lost: the next use comes soon, or matters
// little.
func (u *Uses) store(ctx context.Context) {
	u.mu.Lock()
	last := u.last
	u.last = map[string]time.Time{}
	u.mu.Unlock()
	if len(last) == 0 {
		return
	}
	limited, cancel := context.WithTimeout(ctx, usesTime)
	defer cancel()
	if err := u.write(limited, last); err != nil {
		u.log.WarnContext(ctx, "uses of tokens not stored", "tokens", len(last), "error", err)
	}
}
