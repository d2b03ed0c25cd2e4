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
	// asideOfOne is how many of them may be of one repository: 16. While as many are,
	// no other of it is begun, so that hundreds of references that hang cost the
	// places of workers sixteen times, and not each. Those that wait for a tag do not
	// count.
	asideOfOne = 16
	// lingering is how many reads, for each place, may wait aside for a tag: 4. With
	// eight workers that is 32, and some 160 requests a second. A registry that writes
	// tags 300 ms after their events is followed for 100 pushes a second.
	lingering = 4
)

// A room has places for workers. Who waits long for an answer steps aside and
// leaves the place to another, so that references that the registry does not
// answer for keep no other from being read. If there is no room aside either, the
// read is broken off, and what failed before is not tried until there is.
type room struct {
	places chan struct{} // a token for each worker that holds one
	aside  chan struct{} // a token for each that stepped aside
	tags   chan struct{} // a token for each of them that waits for a tag

	mu   sync.Mutex
	slow map[string]int // repositories of those aside, with how many there are
}

func newRoom(places, aside int) *room {
	return &room{
		places: make(chan struct{}, max(places, 1)), aside: make(chan struct{}, max(aside, 1)),
		tags: make(chan struct{}, lingering*max(places, 1)), slow: map[string]int{},
	}
}

// workers is how many of them the room needs.
func (r *room) workers() int { return cap(r.places) + cap(r.aside) }

// full reports whether nobody else can step aside.
func (r *room) full() bool { return len(r.aside) == cap(r.aside) }

// crowdedBy reports whether as many reads of a repository are aside as may be.
func (r *room) crowdedBy(repository string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.slow[repository] >= asideOfOne
}

// count notes that one more read of a repository is aside, unless as many are as
// may be.
func (r *room) count(repository string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if repository != "" && r.slow[repository] >= asideOfOne {
		return false
	}
	r.slow[repository]++
	return true
}

// uncount notes that one is less.
func (r *room) uncount(repository string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.slow[repository]--; r.slow[repository] <= 0 {
		delete(r.slow, repository)
	}
}

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
	room       *room
	mu         sync.Mutex
	placed     bool
	aside, tag bool          // tokens that are held
	repository string        // whose read is aside
	reading    chan struct{} // a token of it is held; nil: none
}

// stepAside gives up the place for the read of a repository and reports true, or
// reports false if there is no room aside. The empty repository has as much room as
// there is.
func (s *seat) stepAside(repository string) bool {
	if !s.room.count(repository) {
		return false
	}
	select {
	case s.room.aside <- struct{}{}:
	default:
		s.room.uncount(repository)
		return false
	}
	s.leave()
	s.mu.Lock()
	s.aside, s.repository = true, repository
	s.mu.Unlock()
	return true
}

// holdTag takes a token of those that wait for tags, and reports whether there is
// one.
func (s *seat) holdTag() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tag {
		return true
	}
	select {
	case s.room.tags <- struct{}{}:
		s.tag = true
	default:
	}
	return s.tag
}

// letTagGo gives up what holdTag took.
func (s *seat) letTagGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tag {
		<-s.room.tags
		s.tag = false
	}
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
		s.room.uncount(s.repository)
		s.aside = false
	}
}

// errCrowded is the end of a read that took long while too many others did.
var errCrowded = &indexer.Fault{
	Reason: "the registry does not answer, and many other references wait for it: this one is read when fewer do",
	Err:    errors.New("no answer yet, and many other references wait for one"),
}

// whileSeated runs f, a read of a repository. When that takes longer than hold, the
// seat is moved aside and left is called; if there is no room aside, the context of f
// ends and the error is errCrowded. f may ask to linger before, to wait for a tag,
// and should not if that reports false. It reports whether the seat was left.
func (s *seat) whileSeated(ctx context.Context, repository string, hold time.Duration, f func(ctx context.Context, linger func() bool) error, left func()) (long bool, err error) {
	if s.room.crowdedBy(repository) {
		return false, errCrowded
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var moving sync.Mutex
	move := func(repository string) bool {
		moving.Lock()
		defer moving.Unlock()
		if !long && s.stepAside(repository) {
			long = true
			left()
		}
		return long
	}
	done := make(chan struct{})
	timer := time.AfterFunc(hold, func() {
		defer close(done)
		if !move(repository) {
			cancel(errCrowded)
			left()
		}
	})
	err = f(ctx, func() bool { return s.holdTag() && move("") })
	s.letTagGo()
	if !timer.Stop() {
		<-done
		long = true
	}
	if err != nil && errors.Is(context.Cause(ctx), errCrowded) {
		err = errCrowded
	}
	return long, err
}
