package web

import (
	"context"
	"net/http"
	"sync"
)

// maxQueued is how many requests of one kind wait for their turn to read the book:
// 500. Each is a goroutine and a client's connection, some 30 KB, and waits within
// its budget; whoever comes after them is told at once to come later.
const maxQueued = 500

// errCrowded is the answer to a request whose turn does not come in time.
var errCrowded = refuse(http.StatusServiceUnavailable, "too many ask for this at once: try again in a second")

// turns keeps requests of one kind, which is their route, from taking all
// connections to the database: each kind may read on two thirds of them at once,
// so that there are always some for the others. Who waits for a turn holds no
// connection. It is safe for concurrent use.
type turns struct {
	each  int // how many of one kind read at once; 0: any number
	mu    sync.Mutex
	kinds map[string]*kindTurns
}

type kindTurns struct {
	reading chan struct{} // has room for those that may read
	queued  int
}

// newTurns returns the turns on a number of connections, 0 for no limit.
func newTurns(connections int) *turns {
	t := &turns{kinds: map[string]*kindTurns{}}
	if connections > 0 {
		t.each = max(2*connections/3, 1)
	}
	return t
}

// take waits for a turn, which done ends. It refuses the request if too many wait
// already, or if the context ends first.
func (t *turns) take(ctx context.Context, kind string) (done func(), err error) {
	if t.each == 0 {
		return func() {}, nil
	}
	k, err := t.queue(kind)
	if err != nil {
		return nil, err
	}
	defer t.leave(k)
	select {
	case k.reading <- struct{}{}:
		return func() { <-k.reading }, nil
	case <-ctx.Done():
		return nil, errCrowded
	}
}

func (t *turns) queue(kind string) (*kindTurns, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.kinds[kind]
	if k == nil {
		k = &kindTurns{reading: make(chan struct{}, t.each)}
		t.kinds[kind] = k
	}
	if k.queued >= maxQueued {
		return nil, errCrowded
	}
	k.queued++
	return k, nil
}

func (t *turns) leave(k *kindTurns) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k.queued--
}
