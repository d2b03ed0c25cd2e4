package web

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// liveLook is how old the version may be that open pages are told: 1 s. The
	// first that asks later looks anew for all, so that they cost one small
	// question a second together.
	liveLook = time.Second
	// liveBeat is how often a line is sent that says nothing: 15 s, so that what is
	// between us and the browser does not take the connection for dead.
	liveBeat = 15 * time.Second
	// liveTime is how long one connection is kept: 10 min. The browser comes back by
	// itself, perhaps to a reader that has less to do.
	liveTime = 10 * time.Minute
	// maxLive is how many open pages are told at once: 1,000. Each is a connection
	// and some 20 KB; others are answered 503 and show what they have.
	maxLive = 1000
)

// news is the version of the catalogue, as open pages are told it. It is safe for
// concurrent use.
type news struct {
	mu       sync.Mutex
	version  indexer.Version
	lookedAt time.Time
	told     chan struct{} // has room for those that may be told
}

// latest gives the version, as of a second ago or less.
func (s *server) latest(ctx context.Context) (indexer.Version, error) {
	s.news.mu.Lock()
	defer s.news.mu.Unlock()
	if time.Since(s.news.lookedAt) < liveLook {
		return s.news.version, nil
	}
	err := s.Read(ctx, func(b Book) (err error) {
		s.news.version, err = b.Version(ctx)
		return err
	})
	if err == nil {
		s.news.lookedAt = time.Now()
	}
	return s.news.version, err
}

// live tells an open page of each new version of the catalogue, by server-sent
// events (HTML Living Standard, 9.2).
func (s *server) live(w http.ResponseWriter, r *http.Request) error {
	if err := refuseAt(r); err != nil {
		return err
	}
	select {
	case s.news.told <- struct{}{}:
		defer func() { <-s.news.told }()
	default:
		return refuse(http.StatusServiceUnavailable, "%d pages are told of news already: reload now and then", maxLive)
	}
	version, err := s.latest(r.Context())
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would gather 4 KB first
	s.tellVersions(w, r, version)
	return nil
}

// tellVersions writes until the client goes, the time is over or the program
// stops. A book that is away has no news.
func (s *server) tellVersions(w http.ResponseWriter, r *http.Request, version indexer.Version) {
	out := http.NewResponseController(w)
	send := func(text string) bool {
		setDeadline(w, liveBeat+timeout)
		_, err := fmt.Fprint(w, text)
		return err == nil && out.Flush() == nil
	}
	if !send(fmt.Sprintf("retry: 5000\ndata: %s\n\n", version)) {
		return
	}
	look, beat := time.NewTicker(liveLook), time.NewTicker(liveBeat)
	defer look.Stop()
	defer beat.Stop()
	end := time.After(liveTime)
	for going := true; going; {
		select {
		case <-r.Context().Done():
			return
		case <-s.Stopping:
			return
		case <-end:
			return
		case <-beat.C:
			going = send(":\n\n")
		case <-look.C:
			if now, err := s.latest(r.Context()); err == nil && now != version {
				version = now
				going = send(fmt.Sprintf("data: %s\n\n", version))
			}
		}
	}
}
