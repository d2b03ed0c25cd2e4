package access

import (
	"context"
	"sync"
)

// turns limits how many calls run at once, and how many of them for one client, so that no
// client can take all. It is safe for concurrent use.
type turns struct {
	all  chan struct{} // its capacity is the limit
	each int

	mu    sync.Mutex
	lines map[string]*line // by client, only those who call or wait
}

// A line has the calls of a client.
type line struct {
	calls chan struct{} // its capacity is the limit
	in    int           // how many call or wait
}

func newTurns(all, each int) *turns {
	return &turns{all: make(chan struct{}, all), each: each, lines: map[string]*line{}}
}

// take waits until a client may call. Then done must be called after the call. A client waits
// for its own calls first, so it holds up others only as far as it may call itself.
func (t *turns) take(ctx context.Context, client string) (done func(), err error) {
	l := t.join(client)
	for i, places := range []chan struct{}{l.calls, t.all} {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			if i > 0 {
				<-l.calls
			}
			t.leave(client, l)
			return nil, ctx.Err()
		}
	}
	return func() {
		<-t.all
		<-l.calls
		t.leave(client, l)
	}, nil
}

func (t *turns) join(client string) *line {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[client]
	if l == nil {
		l = &line{calls: make(chan struct{}, t.each)}
		t.lines[client] = l
	}
	l.in++
	return l
}

func (t *turns) leave(client string, l *line) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.in--; l.in == 0 {
		delete(t.lines, client)
	}
}
