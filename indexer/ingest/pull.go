package ingest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
)

// count stores those of the pulls that count: a GET of a manifest by somebody else than the
// indexer. The registry reports a HEAD as a pull too. It reports a 304 as none.
func (r *Receiver) count(ctx context.Context, all []rawEvent) error {
	var pulls []indexer.Pull
	for _, raw := range all {
		if raw.Request.Method == http.MethodGet && !r.isOurs(raw) {
			pulls = append(pulls, r.pullOf(raw))
		}
	}
	switch {
	case len(all) == 0:
		return nil
	case len(pulls) > 0:
		counted, err := r.config.Pulls(ctx, pulls)
		if err != nil {
			return err
		}
		m := r.config.Metrics.Pulls
		m.WithLabelValues("counted").Add(float64(counted.Fresh))
		m.WithLabelValues("unknown").Add(float64(counted.Unknown))
		m.WithLabelValues("repeated").Add(float64(len(pulls) - counted.Fresh - counted.Unknown))
	case r.config.Heard != nil:
		if err := r.config.Heard(ctx); err != nil { // the next one is soon enough
			r.config.Log.WarnContext(ctx, "event of a pull not noted", "error", err)
		}
	}
	r.config.Metrics.Pulls.WithLabelValues("other").Add(float64(len(all) - len(pulls)))
	return nil
}

// pullOf returns the pull of an event, which eventOf has found useful.
func (r *Receiver) pullOf(raw rawEvent) indexer.Pull {
	d, err := digest.Parse(raw.Target.Digest)
	if err != nil {
		d = ""
	}
	at, _ := time.Parse(time.RFC3339Nano, raw.Timestamp) // the zero time if it is none
	return indexer.Pull{
		ID: raw.ID, At: at, Repository: raw.Target.Repository, Tag: raw.Target.Tag, Digest: d, By: r.kind(raw),
	}
}

// ourselves is how our own requests to the registry name themselves, in the user agent and
// with our tokens: access.Ourselves.
const ourselves = "portbook-indexer"

// isOurs reports whether the indexer sent the request of an event.
func (r *Receiver) isOurs(raw rawEvent) bool {
	return raw.Request.UserAgent == ourselves || raw.Actor.Name == ourselves
}

// kind returns the kind of the client that sent the request of an event.
func (r *Receiver) kind(raw rawEvent) indexer.ClientKind {
	agent := strings.ToLower(cut(raw.Request.UserAgent))
	switch {
	case slices.ContainsFunc(r.scanners, func(is func(string) bool) bool { return is(agent) }):
		return indexer.ByScanner
	case raw.Actor.Name == "":
		return indexer.ByAnonymous
	case r.config.Kind == nil:
		return indexer.ByPerson
	}
	return r.config.Kind(cut(raw.Actor.Name))
}
