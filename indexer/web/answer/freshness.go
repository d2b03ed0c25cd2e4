package answer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// maxWait is the maximum time that a request waits for min_version: 10 s. A standby
	// that is further behind has a problem, and the client should use another.
	maxWait = 10 * time.Second
	// maxWaiters is the maximum number of requests that wait for a version at once:
	// 1,000, and 100 for one client. Each needs a client connection and about 30 KB.
	maxWaiters     = 1000
	maxWaitersEach = 100
)

// Header fields of every answer from the book that tell how fresh it is.
const (
	VersionField = "Portbook-Version" // EPOCH.NUMBER
	ScannedField = "Portbook-Scanned" // RFC 3339; left out before the first scan
)

// SetFreshness sets the header fields that tell how fresh an answer is. It sets no
// Last-Modified, because that has a resolution of one second, in which a catalogue
// can change twice, and a cache may use it alone to answer If-Modified-Since.
func SetFreshness(h http.Header, f indexer.Freshness) {
	h.Set(VersionField, f.Version.String())
	if !f.ScannedAt.IsZero() {
		h.Set(ScannedField, f.ScannedAt.UTC().Format(time.RFC3339))
	}
}

// lookAtVersion reads the version of the book, once for all waiting requests. It is
// the same for every asker.
func (a *Answerer) lookAtVersion(ctx context.Context) (version indexer.Version, err error) {
	err = a.book(ctx, indexer.Everyone, func(b Book) (err error) {
		version, err = b.Version(ctx)
		return err
	})
	return version, err
}

// AwaitVersion waits until the catalogue has reached the request's min_version or
// has another epoch. Without min_version it returns at once. It holds no connection,
// and all waiting requests share one query of the version.
func (a *Answerer) AwaitVersion(r *http.Request) error {
	least, err := minVersion(r)
	if err != nil || least == nil {
		return nil // ReadSince returns the error in the error format of the route
	}
	if seen := a.versions.seen(); seen.Epoch == least.Epoch && seen.Number >= least.Number {
		return nil
	}
	follower, ok := a.FollowSoon(r)
	if !ok {
		return Refuse(http.StatusServiceUnavailable,
			"too many requests wait for a min_version, from your address or in all: try again in a second")
	}
	defer follower.Leave()
	ctx, cancel := context.WithTimeout(r.Context(), maxWait)
	defer cancel()
	for version := (indexer.Version{}); ; {
		if version, err = follower.Next(ctx, version); err != nil {
			return errBehind(version, *least)
		}
		if version.Epoch != least.Epoch || version.Number >= least.Number {
			return nil
		}
	}
}

// errBehind is the error if the book does not reach min_version in time. A zero
// version means that the version is unknown.
func errBehind(version, least indexer.Version) error {
	if version == (indexer.Version{}) {
		return fmt.Errorf("waiting for version %s: %w", least, indexer.ErrUnavailable)
	}
	return Refuse(http.StatusServiceUnavailable,
		"the book is at version %s and not yet at min_version %s: try again", version, least)
}

// errAnotherServer means that a snapshot is older than the version waited for,
// because it comes from another server.
var errAnotherServer = errors.New("another server")

// ReadSince runs f on one state of the book that is not older than the request's
// min_version. The caller has already waited for that version. If a snapshot comes
// from a server that is behind, ReadSince takes another one.
func (a *Answerer) ReadSince(r *http.Request, f func(Book, indexer.Freshness) error) error {
	if err := RefuseAt(r); err != nil {
		return err
	}
	least, err := minVersion(r)
	if err != nil {
		return err
	}
	ctx, end := r.Context(), time.After(maxWait)
	for {
		var fresh indexer.Freshness
		err := a.Read(ctx, r, func(b Book) (err error) {
			if fresh, err = b.Freshness(ctx); err != nil {
				return err
			}
			if least != nil && fresh.Version.Epoch != least.Epoch {
				return Refuse(http.StatusConflict, "min_version has epoch %.64q, but the database now has epoch %q: "+
					"it was restored or replaced; repeat the request without min_version", least.Epoch, fresh.Version.Epoch)
			}
			if least != nil && fresh.Version.Number < least.Number {
				return errAnotherServer
			}
			return f(b, fresh)
		})
		if !errors.Is(err, errAnotherServer) {
			return err
		}
		select {
		case <-ctx.Done():
			return errBehind(fresh.Version, *least)
		case <-end:
			return errBehind(fresh.Version, *least)
		case <-time.After(lookSoon):
		}
	}
}

// RefuseAt refuses the parameter "at" where it would be ignored. Below /api/v1, the
// table of endpoints defines which endpoints accept "at". Of the pages, those of lists and
// of references do.
func RefuseAt(r *http.Request) error {
	path := r.URL.Path
	takes := path == "/" || strings.HasPrefix(path, "/r/") || strings.HasPrefix(path, APIPrefix+"/")
	if takes || r.URL.Query().Get("at") == "" {
		return nil
	}
	return Invalid("at", "is not supported here, because this address shows only the present: "+
		"use /?at=, /r/NAME?at=, or /api/v1/repositories, /api/v1/repositories/NAME/-/tags and /api/v1/history")
}

// minVersion returns the request's min_version, or nil if it has none.
func minVersion(r *http.Request) (*indexer.Version, error) {
	text := r.URL.Query().Get("min_version")
	if text == "" {
		return nil, nil
	}
	v, err := indexer.ParseVersion(text)
	if err != nil {
		return nil, Invalid("min_version", "is %.64q: write the Portbook-Version of an answer", text)
	}
	return &v, nil
}
