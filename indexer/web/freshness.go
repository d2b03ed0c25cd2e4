package web

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// maxWait is the longest that a request waits for min_version: 10 s. A
	// standby that is further behind has trouble, and the client is better off
	// with another.
	maxWait = 10 * time.Second
	// waitPoll is how often the book is looked at meanwhile: every 50 ms, as
	// /assert does. A push takes about as long to be seen.
	waitPoll = 50 * time.Millisecond
)

// The header fields by which every answer from the book says how fresh it is.
const (
	versionField = "Portbook-Version" // EPOCH.NUMBER
	scannedField = "Portbook-Scanned" // RFC 3339; left out before the first scan
)

// tellFreshness says how fresh an answer is. There is no Last-Modified: it counts
// in seconds, in which a catalogue can change twice, and a cache may answer
// If-Modified-Since by it alone.
func tellFreshness(h http.Header, f indexer.Freshness) {
	h.Set(versionField, f.Version.String())
	if !f.ScannedAt.IsZero() {
		h.Set(scannedField, f.ScannedAt.UTC().Format(time.RFC3339))
	}
}

// errBehind says that the book has not come to the version asked for.
var errBehind = errors.New("behind")

// readSince runs f on one state of the book: at least that of the request's
// min_version, for which it waits. It looks for the version in the snapshot that
// f gets, since the next one may be of another server.
func (s *server) readSince(r *http.Request, f func(Book, indexer.Freshness) error) error {
	if err := refuseAt(r); err != nil {
		return err
	}
	least, err := minVersion(r)
	if err != nil {
		return err
	}
	var fresh indexer.Freshness
	look := func() error {
		return s.Read(r.Context(), func(b Book) (err error) {
			if fresh, err = b.Freshness(r.Context()); err != nil {
				return err
			}
			if least != nil && fresh.Version.Epoch != least.Epoch {
				return refuse(http.StatusConflict, "min_version is of epoch %.64q, and the book is of %q: "+
					"the database began anew or another took over; ask without min_version", least.Epoch, fresh.Version.Epoch)
			}
			if least != nil && fresh.Version.Number < least.Number {
				return errBehind
			}
			return f(b, fresh)
		})
	}
	err = look()
	if !errors.Is(err, errBehind) {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), maxWait)
	defer cancel()
	tick := time.NewTicker(waitPoll)
	defer tick.Stop()
	for errors.Is(err, errBehind) {
		select {
		case <-ctx.Done():
			return refuse(http.StatusServiceUnavailable, "the book is at version %s and not yet at min_version %s: try again",
				fresh.Version, least)
		case <-tick.C:
			err = look()
		}
	}
	return err
}

// refuseAt refuses a request for another time than now where it would be ignored.
// Below /api/v1 the table of endpoints says which take "at", and refuses it for the
// others.
func refuseAt(r *http.Request) error {
	if strings.HasPrefix(r.URL.Path, apiPrefix+"/") || r.URL.Query().Get("at") == "" {
		return nil
	}
	return invalid("at", "is not taken here, since this address tells of now only: "+
		"/api/v1/repositories, /api/v1/repositories/NAME/-/tags and /api/v1/history tell how it was at a time")
}

// minVersion reads min_version, nil if the request has none.
func minVersion(r *http.Request) (*indexer.Version, error) {
	text := r.URL.Query().Get("min_version")
	if text == "" {
		return nil, nil
	}
	v, err := indexer.ParseVersion(text)
	if err != nil {
		return nil, invalid("min_version", "is %.64q: write the Portbook-Version of an answer", text)
	}
	return &v, nil
}
