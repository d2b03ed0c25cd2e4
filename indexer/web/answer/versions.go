package answer

import (
	"context"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// lookSoon is the interval between reads of the catalogue version while a request
	// waits for one: 50 ms. A push takes about as long to become visible.
	lookSoon = 50 * time.Millisecond
	// lookLater is the interval while only open pages wait for changes: 1 s.
	lookLater = time.Second
	// lookTime is the timeout of one read: 2 s. A read takes less than a millisecond.
	lookTime = 2 * time.Second
)

// versions announces each new version of the catalogue to its followers. While there
// are any, one goroutine reads the version for all of them, so the load on the
// database does not depend on their number; none of them holds a connection. It is
// safe for concurrent use.
type versions struct {
	look func(context.Context) (indexer.Version, error)

	mu      sync.Mutex
	waiting int // number of followers
	hurried int // number of followers that need lookSoon
	stop    context.CancelFunc
	hurry   chan struct{}   // ends a long pause of the goroutine
	version indexer.Version // the latest seen since there are followers; zero if none
	changed chan struct{}   // closed at the next change of version
	reached indexer.Version // the latest ever seen
}

func newVersions(look func(context.Context) (indexer.Version, error)) *versions {
	return &versions{look: look, hurry: make(chan struct{}, 1), changed: make(chan struct{})}
}

// seen returns the latest version ever seen here, or zero if none was. The catalogue
// has at least this version, or has started another epoch.
func (v *versions) seen() indexer.Version {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.reached
}

// follow starts reading new versions, every lookSoon if soon is set and else every
// lookLater, until the caller calls leave.
func (v *versions) follow(soon bool) (leave func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiting++; soon {
		v.hurried++
	}
	if v.waiting == 1 {
		var ctx context.Context
		ctx, v.stop = context.WithCancel(context.Background())
		v.version = indexer.Version{} // the last version seen may be out of date
		go v.run(ctx)
	} else if soon && v.hurried == 1 {
		select {
		case v.hurry <- struct{}{}:
		default:
		}
	}
	return func() { v.leave(soon) }
}

func (v *versions) leave(soon bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiting--; soon {
		v.hurried--
	}
	if v.waiting == 0 {
		v.stop()
	}
}

// latest returns the latest version, or zero if none was seen yet, and a channel that
// is closed at the next change.
func (v *versions) latest() (version indexer.Version, changed <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.version, v.changed
}

// run reads the version until the last follower has left. It ignores failed reads,
// because followers have their own timeouts.
func (v *versions) run(ctx context.Context) {
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, lookTime)
		version, err := v.look(limited)
		cancel()
		pause := v.announce(ctx, version, err)
		select {
		case <-ctx.Done():
		case <-v.hurry:
		case <-time.After(pause):
		}
	}
}

// announce passes the version that was read to the followers, and returns the pause
// before the next read.
func (v *versions) announce(ctx context.Context, version indexer.Version, err error) time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	// Older or equal; a read from another server may be older.
	older := version.Epoch == v.version.Epoch && version.Number <= v.version.Number
	// Once the context has ended, another goroutine may be running.
	if err == nil && ctx.Err() == nil && !older {
		v.version, v.reached = version, version
		close(v.changed)
		v.changed = make(chan struct{})
	}
	if v.hurried > 0 {
		return lookSoon
	}
	return lookLater
}
