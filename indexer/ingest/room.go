package ingest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// eventPlace and scanPlace are how long a read for an event, or a scan, may hold a
	// worker's place: 250 ms and 2 s. The registry answers in 10 ms, and a tag is there at
	// most 86 ms after its event. Reads for scans hold their places longer, so that a
	// slow registry gets few more requests at a time than scan.parallelism.
	eventPlace = 250 * time.Millisecond
	scanPlace  = 2 * time.Second
	// asideOfEvents and asideOfScans are how many reads, for each place, may go on without
	// a place: 32 and 1. With eight workers that is 256 connections to a registry that
	// does not answer, and about 10 MB.
	asideOfEvents = 32
	asideOfScans  = 1
	// asideOfOne limits them for one repository: 16. While there are as many, no other read
	// of the repository begins, so hundreds of references that hang block a place at most
	// sixteen times. Reads that wait for a tag do not count.
	asideOfOne = 16
	// lingering is how many reads, for each place, may wait aside for a tag: 4. With eight
	// workers that is 32 reads and about 160 requests a second, enough for 100 pushes a
	// second to a registry that writes tags 300 ms after their events.
	lingering = 4
)

// A room limits concurrent reads. It has places for workers; a worker whose read takes long
// steps aside and frees its place, so that references that hang keep no others from being
// read. The number of reads aside is limited too: if the limit is reached the read is
// cancelled, and no task that failed before is tried until there is room.
type room struct {
	places chan struct{} // a token for each worker that holds a place
	aside  chan struct{} // a token for each worker that stepped aside
	tags   chan struct{} // a token for each of the latter that waits for a tag

	mu   sync.Mutex
	slow map[string]int // number of reads aside, by repository
}

func newRoom(places, aside int) *room {
	return &room{
		places: make(chan struct{}, max(places, 1)), aside: make(chan struct{}, max(aside, 1)),
		tags: make(chan struct{}, lingering*max(places, 1)), slow: map[string]int{},
	}
}

// workers returns the number of workers that can use the room at the same time.
func (r *room) workers() int { return cap(r.places) + cap(r.aside) }

// full reports whether no other worker can step aside.
func (r *room) full() bool { return len(r.aside) == cap(r.aside) }

// crowdedBy reports whether asideOfOne reads of a repository are aside.
func (r *room) crowdedBy(repository string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.slow[repository] >= asideOfOne
}

// count adds a read of a repository to those aside. It returns false, and adds none, if
// there are asideOfOne already. The empty repository has no such limit.
func (r *room) count(repository string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if repository != "" && r.slow[repository] >= asideOfOne {
		return false
	}
	r.slow[repository]++
	return true
}

// uncount undoes count.
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
	repository string        // of the read that is aside
	reading    chan struct{} // where a token is held; nil if none is
}

// stepAside frees the place during the read of a repository and returns true. It returns
// false if there is no room aside.
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

// holdTag takes one of the tokens for reads that wait for a tag, and reports whether the
// seat holds one.
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

// letTagGo returns the token that holdTag took.
func (s *seat) letTagGo() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tag {
		<-s.room.tags
		s.tag = false
	}
}

// beginReading waits for a token of reading. endReading or leave returns it.
func (s *seat) beginReading(reading chan struct{}) {
	reading <- struct{}{}
	s.mu.Lock()
	s.reading = reading
	s.mu.Unlock()
}

// endReading returns the token that beginReading took, if any.
func (s *seat) endReading() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading != nil {
		<-s.reading
		s.reading = nil
	}
}

// leave returns everything that the seat holds. It may be called more than once.
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

// errCrowded is the error of a read that took long while there was no room aside.
var errCrowded = &indexer.Fault{
	Reason: "the registry does not answer, and many other reads wait for it: this one is retried when fewer wait",
	Err:    errors.New("no answer yet, and too many other reads wait for one"),
}

// whileSeated runs f, a read of a repository. If f takes longer than hold, the seat moves
// aside and left is called; if there is no room aside, the context of f ends and the error
// is errCrowded. To wait for a tag, f calls linger to move aside earlier, and does not wait
// if that returns false. long reports whether the place was left.
func (s *seat) whileSeated(
	ctx context.Context, repository string, hold time.Duration,
	f func(ctx context.Context, linger func() bool) error, left func(),
) (long bool, err error) {
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
