package ingest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// eventPlace and scanPlace are how long the read of what an event, or a scan, asked
	// for may hold a worker's place: 250 ms and 2 s. The registry answers in 10 ms, and
	// a tag is there 86 ms after its event at most. Scans hold theirs for longer: they
	// must not ask much more of a slow registry than scan.parallelism says.
	eventPlace = 250 * time.Millisecond
	scanPlace  = 2 * time.Second
	// asideOfEvents and asideOfScans are how many reads, for each place, may go on
	// without one: 32 and 1. With eight workers that is 256 connections to a
	// registry that does not answer, and some 10 MB.
	asideOfEvents = 32
	asideOfScans  = 1
)

// A room has places for workers. Who waits long for an answer steps aside and
// leaves the place to another, so that references that the registry does not
// answer for keep no other from being read. If there is no room aside either, the
// read is broken off, and what failed before is not tried until there is.
type room struct {
	places chan struct{} // a token for each worker that holds one
	aside  chan struct{} // a token for each that stepped aside
}

func newRoom(places, aside int) *room {
	return &room{places: make(chan struct{}, max(places, 1)), aside: make(chan struct{}, max(aside, 1))}
}

// workers is how many of them the room needs.
func (r *room) workers() int { return cap(r.places) + cap(r.aside) }

// full reports whether nobody else can step aside.
func (r *room) full() bool { return len(r.aside) == cap(r.aside) }

// enter waits for a place until the context ends.
func (r *room) enter(ctx context.Context) (*seat, error) {
	select {
	case r.places <- struct{}{}:
		return &seat{room: r, placed: true}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A seat is what one worker holds in a room.
type seat struct {
	room          *room
	mu            sync.Mutex
	placed, aside bool
	reading       chan struct{} // a token of it is held; nil: none
}

// stepAside gives up the place and reports true, or reports false if there is no
// room aside.
func (s *seat) stepAside() bool {
	select {
	case s.room.aside <- struct{}{}:
	default:
		return false
	}
	s.leave()
	s.mu.Lock()
	s.aside = true
	s.mu.Unlock()
	return true
}

// beginReading waits for room in reading, which is left with the seat.
func (s *seat) beginReading(reading chan struct{}) {
	reading <- struct{}{}
	s.mu.Lock()
	s.reading = reading
	s.mu.Unlock()
}

// endReading gives up what beginReading waited for.
func (s *seat) endReading() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading != nil {
		<-s.reading
		s.reading = nil
	}
}

// leave gives up whatever is held. It may be called more than once.
func (s *seat) leave() {
	s.endReading()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.placed {
		<-s.room.places
		s.placed = false
	}
	if s.aside {
		<-s.room.aside
		s.aside = false
	}
}

// errCrowded is the end of a read that took long while too many others did.
var errCrowded = &indexer.Fault{
	Reason: "the registry does not answer, and many other references wait for it: this one is read when fewer do",
	Err:    errors.New("no answer yet, and many other references wait for one"),
}

// whileSeated runs f. When that takes longer than hold, the seat is moved aside and
// left is called; if there is no room aside, the context of f ends and the error is
// errCrowded. It reports whether f took so long.
func (s *seat) whileSeated(ctx context.Context, hold time.Duration, f func(context.Context) error, left func()) (long bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	timer := time.AfterFunc(hold, func() {
		defer close(done)
		if !s.stepAside() {
			cancel(errCrowded)
		}
		left()
	})
	err = f(ctx)
	if !timer.Stop() {
		<-done
		long = true
	}
	if err != nil && errors.Is(context.Cause(ctx), errCrowded) {
		err = errCrowded
	}
	return long, err
}
