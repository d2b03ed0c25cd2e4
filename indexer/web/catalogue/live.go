package catalogue

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

const (
	// liveBeat is how often a line is sent that says nothing: 15 s, so that what is
	// between us and the browser does not take the connection for dead.
	liveBeat = 15 * time.Second
	// liveTime is how long one connection is kept: 10 min. The browser comes back by
	// itself, perhaps to a reader that has less to do.
	liveTime = 10 * time.Minute
	// maxLive is how many open pages are told at once: 1,000, of one client 50, as
	// deploy/nginx.conf has it. Each is a connection and some 20 KB; others are
	// answered 503 and show what they have.
	maxLive     = 1000
	maxLiveEach = 50
)

// Live tells an open page of each new version of the catalogue, by
// server-sent events (HTML Living Standard, 9.2).
func (s *Catalogue) Live(w http.ResponseWriter, r *http.Request) error {
	if err := answer.RefuseAt(r); err != nil {
		return err
	}
	leave, ok := s.live.Take(r)
	if !ok {
		return answer.Refuse(http.StatusServiceUnavailable, "as many pages as can be are told of news, of your address (%d) or of all (%d): reload now and then", maxLiveEach, maxLive)
	}
	defer leave()
	defer s.answerer.Versions.Follow(false)()
	ctx, cancel := context.WithTimeout(r.Context(), answer.Budget)
	version, err := s.answerer.Versions.Next(ctx, indexer.Version{})
	cancel()
	if err != nil {
		return fmt.Errorf("version of the catalogue: %w: %w", err, indexer.ErrUnavailable)
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
func (s *Catalogue) tellVersions(w http.ResponseWriter, r *http.Request, version indexer.Version) {
	out := http.NewResponseController(w)
	send := func(text string) bool {
		answer.SetDeadline(w, liveBeat+answer.Timeout)
		_, err := fmt.Fprint(w, text)
		return err == nil && out.Flush() == nil
	}
	if !send(fmt.Sprintf("retry: 5000\ndata: %s\n\n", version)) {
		return
	}
	beat := time.NewTicker(liveBeat)
	defer beat.Stop()
	end := time.After(liveTime)
	for going := true; going; {
		now, changed := s.answerer.Versions.Now()
		if now != version {
			version = now
			going = send(fmt.Sprintf("data: %s\n\n", version))
			continue
		}
		select {
		case <-r.Context().Done():
			return
		case <-s.config.Stopping:
			return
		case <-end:
			return
		case <-beat.C:
			going = send(":\n\n")
		case <-changed:
		}
	}
}
