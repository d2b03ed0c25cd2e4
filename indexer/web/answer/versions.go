package answer

import (
	"context"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// lookSoon is how often the version of the catalogue is looked at while a
	// request waits for one: every 50 ms. A push takes about as long to be seen.
	lookSoon = 50 * time.Millisecond
	// lookLater is how often it is looked at while only open pages want to hear of
	// it: every second.
	lookLater = time.Second
	// lookTime ends one look: 2 s. It takes under a millisecond.
	lookTime = 2 * time.Second
)

// versions tells all who wait of each new version of the catalogue. While anybody
// waits, one goroutine looks for all of them, so that they cost the database the
// same however many they are; none of them holds a connection. It is safe for
// concurrent use.
type versions struct {
	look func(context.Context) (indexer.Version, error)

	mu      sync.Mutex
	waiting int // followers
	hurried int // those of them that want to hear soon
	stop    context.CancelFunc
	hurry   chan struct{}   // wakes the goroutine out of a long pause
	version indexer.Version // the latest seen since somebody waits; zero if none yet
	changed chan struct{}   // closed with the next change of version
	reached indexer.Version // the latest ever seen
}

func newVersions(look func(context.Context) (indexer.Version, error)) *versions {
	return &versions{look: look, hurry: make(chan struct{}, 1), changed: make(chan struct{})}
}

// seen returns the latest version that was ever seen here, zero if none was. The
// catalogue has come at least so far, or begun another epoch.
func (v *versions) seen() indexer.Version {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.reached
}

// Follow begins to look for new versions, until leave is called: soon after each
// change, or a second later.
func (v *versions) Follow(soon bool) (leave func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiting++; soon {
		v.hurried++
	}
	if v.waiting == 1 {
		var ctx context.Context
		ctx, v.stop = context.WithCancel(context.Background())
		v.version = indexer.Version{} // what was seen when somebody waited last may be old
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

// Now returns the latest version, zero if none was seen yet, and what is closed
// when another is seen. It is for those who follow.
func (v *versions) Now() (version indexer.Version, changed <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.version, v.changed
}

// Next waits for a version other than known, for one who follows. If the context
// ends first it returns known.
func (v *versions) Next(ctx context.Context, known indexer.Version) (indexer.Version, error) {
	for {
		version, changed := v.Now()
		if version != known && version != (indexer.Version{}) {
			return version, nil
		}
		select {
		case <-ctx.Done():
			return known, ctx.Err()
		case <-changed:
		}
	}
}

// run looks until the last follower has left. A look that fails tells nothing: who
// waits has a limit of its own.
func (v *versions) run(ctx context.Context) {
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, lookTime)
		version, err := v.look(limited)
		cancel()
		pause := v.tell(ctx, version, err)
		select {
		case <-ctx.Done():
		case <-v.hurry:
		case <-time.After(pause):
		}
	}
}

// tell tells what was seen, and returns how long to wait before the next look.
func (v *versions) tell(ctx context.Context, version indexer.Version, err error) time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	older := version.Epoch == v.version.Epoch && version.Number <= v.version.Number // or the same: the look was at another server
	if err == nil && ctx.Err() == nil && !older {                                   // when the context has ended another goroutine may look
		v.version, v.reached = version, version
		close(v.changed)
		v.changed = make(chan struct{})
	}
	if v.hurried > 0 {
		return lookSoon
	}
	return lookLater
}
