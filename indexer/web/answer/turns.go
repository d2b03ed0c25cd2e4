package answer

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// maxQueued is how many requests of one kind wait for their turn to read the book:
// 500, and of one client 250, so that there is room for others. Each is a goroutine
// and a client's connection, some 30 KB, and waits within
// its budget; whoever comes after them is told at once to come later.
const (
	maxQueued     = 500
	maxQueuedEach = 250
)

// errCrowded is the answer to a request whose turn does not come in time.
var errCrowded = Refuse(http.StatusServiceUnavailable, "too many ask for this at once, from your address or from all: try again in a second")

// Turns say who reads the book, so that nobody takes all connections to the
// database or all of its processors:
//
//   - Requests of one kind, which is their route, read on two thirds of the
//     connections at once.
//   - Those of one client and one kind read on a third: 5 of a writer's 15, 8 of a
//     reader's 25. Those of some milliseconds, as most are, fill two processors so.
//   - Those of one client and all kinds read on twice that.
//   - A place of a client on which a costly request was read rests for some time
//     before it is the next one's: see restAfter.
//
// Who waits for a turn holds no connection, and turns come in the order of asking.
// It is safe for concurrent use.
type Turns struct {
	kind, each int // how many of one kind read at once, and how many of one client's; 0: any number

	mu    sync.Mutex
	lines map[asker]*line // those that somebody is in
}

// An asker is whose line it is: that of a client and a kind, of a client with all
// kinds, or of a kind with all clients.
type asker struct {
	client netip.Prefix
	kind   string
	all    bool // the field that is empty says nothing
}

// A line is requests of which so many read at once.
type line struct {
	reading chan struct{} // has room for those that may read
	in      int           // how many read or wait
}

// newTurns returns the turns on a number of connections, 0 for no limit.
func newTurns(connections int) *Turns {
	if connections == 0 {
		return TurnsOf(0, 0)
	}
	kind := max(2*connections/3, 1)
	return TurnsOf(kind, min(max(connections/3, 2), kind))
}

// TurnsOf returns turns of so many of one kind, and of one client's of it.
func TurnsOf(kind, each int) *Turns {
	return &Turns{kind: kind, each: each, lines: map[asker]*line{}}
}

// limits returns how many of a line read at once, and how many more wait.
func (t *Turns) limits(a asker) (read, wait int) {
	switch {
	case !a.all:
		return t.each, maxQueuedEach
	case a.kind == "":
		return 2 * t.each, maxQueued
	default:
		return t.kind, maxQueued
	}
}

// Take waits for a turn, which done ends. It refuses the request if too many wait
// already, or if the context ends first.
//
// It waits in the client's own lines first. In that of all clients stand then no
// more of one client than may read, and it is soon another one's turn.
func (t *Turns) Take(ctx context.Context, kind string, client netip.Prefix) (done func(), err error) {
	if t.kind == 0 {
		return func() {}, nil
	}
	askers := []asker{{client: client, kind: kind}, {client: client, all: true}, {kind: kind, all: true}}
	lines, ok := t.join(askers)
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
			t.leave(askers, lines[:i])
			return nil, errCrowded
		}
	}
	began := time.Now()
	return func() {
		t.leave(askers[2:], lines[2:]) // others need not wait
		own := func() { t.leave(askers[:2], lines[:2]) }
		if rest := restAfter(time.Since(began)); rest > 0 {
			time.AfterFunc(rest, own)
		} else {
			own()
		}
	}, nil
}

const (
	// costly is how long a request reads that is not cheap: 10 ms, several times what
	// a search takes. At 20 ms, patterns over large labels (8 ms of processor time each)
	// made others wait twice as long as without.
	costly = 10 * time.Millisecond
	// maxRest is the longest that a place rests: 1 s, so that a database which hung
	// for a moment is not missed for longer.
	maxRest = time.Second
)

// restAfter returns how long a client's place rests after a request that read for
// some time: three times as long, if it was costly. So a client who asks for costly
// things on all five of its places keeps little more than one processor busy, where
// PostgreSQL, the indexer and often the registry share two.
func restAfter(read time.Duration) time.Duration {
	if read < costly {
		return 0
	}
	return min(3*read, maxRest)
}

// TakeNow is take for who does not wait.
func (t *Turns) TakeNow(kind string, client netip.Prefix) (done func(), err error) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	return t.Take(ended, kind, client)
}

// join enters all lines, or none if one of them is too long.
func (t *Turns) join(askers []asker) (lines []*line, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range askers {
		read, wait := t.limits(a)
		if l := t.lines[a]; l != nil && l.in >= read+wait {
			return nil, false
		}
	}
	for _, a := range askers {
		l := t.lines[a]
		if l == nil {
			read, _ := t.limits(a)
			l = &line{reading: make(chan struct{}, read)}
			t.lines[a] = l
		}
		l.in++
		lines = append(lines, l)
	}
	return lines, true
}

// leave leaves all lines, of which it was the turn in some.
func (t *Turns) leave(askers []asker, turn []*line) {
	for _, l := range turn {
		<-l.reading
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range askers {
		l := t.lines[a]
		if l.in--; l.in == 0 {
			delete(t.lines, a)
		}
	}
}
