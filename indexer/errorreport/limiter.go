package errorreport

import (
	"sync"
	"time"
)

const (
	// window is the time for which reports are counted: a minute. In it at most maxInWindow are
	// sent, and one of each kind. A storm of errors has few kinds, and the first of each tells
	// what is wrong; the plans of Sentry count reports.
	window      = time.Minute
	maxInWindow = 20
)

// A limiter decides which reports are sent. Its memory is bounded by maxInWindow.
type limiter struct {
	mu      sync.Mutex
	began   time.Time
	sent    map[string]bool // kinds sent since began
	dropped int             // reports since the last one that was sent
}

// take reports whether a report of a kind may be sent, and how many were not since the last one.
func (l *limiter) take(kind string, now time.Time) (before int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.began) >= window {
		l.began, l.sent = now, map[string]bool{}
	}
	if l.sent[kind] || len(l.sent) >= maxInWindow {
		l.dropped++
		return 0, false
	}
	l.sent[kind] = true
	before, l.dropped = l.dropped, 0
	return before, true
}

// add adds reports that were dropped after take.
func (l *limiter) add(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropped += n
}
