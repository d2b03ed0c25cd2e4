package answer

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// maxQueued is the maximum number of requests for one route that wait for their turn
// to read the book: 500, and 250 for one client, so that other clients have room.
// Each needs a goroutine and a client connection, about 30 KB, and waits within its
// budget. Any further request is refused at once.
const (
	maxQueued     = 500
	maxQueuedEach = 250
)

// errCrowded is the answer to a request that waits too long for its turn, or finds
// too many requests waiting.
var errCrowded = Refuse(http.StatusServiceUnavailable,
	"too many requests for this at once, from your address or in all: try again in a second")

// Turns limits how many requests read the book at once, so that no client and no
// route can use all connections to the database or all of its processors:
//
//   - Requests for one route use at most two thirds of the connections.
//   - Requests of one client for one route use at most a third: 5 of a writer's 15,
//     8 of a reader's 25. Most take some milliseconds, and that many are enough to
//     keep two processors busy.
//   - Requests of one client for all routes use at most twice that.
//   - After a costly request, the client's place stays taken for a while: see
//     restAfter.
//
// A waiting request holds no connection. Requests have their turn in order of
// arrival. Turns is safe for concurrent use.
type Turns struct {
	kind, each int // limits for one route, and for one client and route; 0: no limit

	mu    sync.Mutex
	lines map[lineKey]*line // only those with requests
}

// A lineKey identifies a line: the requests of a client for a route, of a client for
// all routes, or of all clients for a route. The kind is the route.
type lineKey struct {
	client netip.Prefix
	kind   string
	all    bool // whether the empty field stands for all clients or all routes
}

// A line is a set of requests with a limit on how many read at once.
type line struct {
	reading chan struct{} // its capacity is the limit
	in      int           // number of requests that read or wait
}

// newTurns returns Turns for a number of connections; 0: no limit.
func newTurns(connections int) *Turns {
	if connections == 0 {
		return TurnsOf(0, 0)
	}
	kind := max(2*connections/3, 1)
	return TurnsOf(kind, min(max(connections/3, 2), kind))
}

// TurnsOf returns Turns with a limit for one route, and one for each client and
// route.
func TurnsOf(kind, each int) *Turns {
	return &Turns{kind: kind, each: each, lines: map[lineKey]*line{}}
}

// limits returns how many requests of a line may read at once, and how many more may
// wait.
func (t *Turns) limits(k lineKey) (read, wait int) {
	switch {
	case !k.all:
		return t.each, maxQueuedEach
	case k.kind == "":
		return 2 * t.each, maxQueued
	default:
		return t.kind, maxQueued
	}
}

// Take waits until the request may read. The caller must call done when it has read.
// If too many requests are already waiting, or the context ends first, the request
// is refused.
//
// Take waits in the client's own lines first. So the line of all clients never holds
// more requests of one client than may read, and other clients soon have their turn.
func (t *Turns) Take(ctx context.Context, kind string, client netip.Prefix) (done func(), err error) {
	if t.kind == 0 {
		return func() {}, nil
	}
	keys := []lineKey{{client: client, kind: kind}, {client: client, all: true}, {kind: kind, all: true}}
	lines, ok := t.join(keys)
	if !ok {
		return nil, errCrowded
	}
	for i, l := range lines {
		select {
		case l.reading <- struct{}{}: // even if the context has ended
			continue
		default:
		}
		select {
		case l.reading <- struct{}{}:
		case <-ctx.Done():
			t.leave(keys, lines[:i])
			return nil, errCrowded
		}
	}
	began := time.Now()
	return func() {
		t.leave(keys[2:], lines[2:]) // free at once for other clients
		own := func() { t.leave(keys[:2], lines[:2]) }
		if rest := restAfter(time.Since(began)); rest > 0 {
			time.AfterFunc(rest, own)
		} else {
			own()
		}
	}, nil
}

const (
	// costly is the reading time from which a request is costly: 10 ms, several times
	// that of a search. With 20 ms, patterns over large labels (8 ms of processor time
	// each) made other requests wait twice as long as without them.
	costly = 10 * time.Millisecond
	// maxRest is the maximum time that a place rests: 1 s, so that a short stall of the
	// database does not block clients for longer.
	maxRest = time.Second
)

// restAfter returns how long a client's place stays taken after a request: three
// times its reading time, at most maxRest, if it was costly, else 0. So a client
// with costly requests on all five of its places uses little more than one
// processor, where PostgreSQL, the indexer and often the registry share two.
func restAfter(read time.Duration) time.Duration {
	if read < costly {
		return 0
	}
	return min(3*read, maxRest)
}

// TakeNow is like Take, but does not wait.
func (t *Turns) TakeNow(kind string, client netip.Prefix) (done func(), err error) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	return t.Take(ended, kind, client)
}

// join adds a request to all lines, or to none if one of them is full.
func (t *Turns) join(keys []lineKey) (lines []*line, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys {
		read, wait := t.limits(k)
		if l := t.lines[k]; l != nil && l.in >= read+wait {
			return nil, false
		}
	}
	for _, k := range keys {
		l := t.lines[k]
		if l == nil {
			read, _ := t.limits(k)
			l = &line{reading: make(chan struct{}, read)}
			t.lines[k] = l
		}
		l.in++
		lines = append(lines, l)
	}
	return lines, true
}

// leave removes a request from the lines of keys. turn has the lines in which it
// held a place.
func (t *Turns) leave(keys []lineKey, turn []*line) {
	for _, l := range turn {
		<-l.reading
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range keys {
		l := t.lines[k]
		if l.in--; l.in == 0 {
			delete(t.lines, k)
		}
	}
}
