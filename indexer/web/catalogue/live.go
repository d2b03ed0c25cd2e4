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
	// liveBeat is how often an empty comment is sent: every 15 s, so that proxies
	// between us and the browser do not close the connection as idle.
	liveBeat = 15 * time.Second
	// liveTime is how long one connection is kept: 10 min. The browser reconnects by
	// itself, perhaps to a less busy reader.
	liveTime = 10 * time.Minute
	// maxLive is the number of pages that can receive events at the same time: 1,000,
	// and at most 50 for one client, as in deploy/nginx.conf. Each takes a connection
	// and some 20 KB. Further pages get 503 and keep what they show.
	maxLive     = 1000
	maxLiveEach = 50
)

// Live sends an open page each new version of the catalogue as a server-sent event
// (HTML Living Standard, 9.2).
func (s *Catalogue) Live(w http.ResponseWriter, r *http.Request) error {
	if err := answer.RefuseAt(r); err != nil {
		return err
	}
	leave, ok := s.live.Take(r)
	if !ok {
		return answer.Refuse(http.StatusServiceUnavailable,
			"too many pages wait for news: at most %d of one address and %d in all; reload the page instead",
			maxLiveEach, maxLive)
	}
	defer leave()
	follower := s.answerer.Follow()
	defer follower.Leave()
	ctx, cancel := context.WithTimeout(r.Context(), answer.Budget)
	version, err := follower.Next(ctx, indexer.Version{})
	cancel()
	if err != nil {
		return fmt.Errorf("version of the catalogue: %w: %w", err, indexer.ErrUnavailable)
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would buffer 4 KB first
	s.sendVersions(w, r, follower, version)
	return nil
}

// sendVersions sends versions until the client disconnects, liveTime is over or the
// program stops. While the database is unavailable there are no new versions.
func (s *Catalogue) sendVersions(
	w http.ResponseWriter, r *http.Request, follower *answer.Follower, version indexer.Version,
) {
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
		now, changed := follower.Now()
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
