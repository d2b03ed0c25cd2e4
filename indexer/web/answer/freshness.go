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
	// maxWait is the longest that a request waits for min_version: 10 s. A
	// standby that is further behind has trouble, and the client is better off
	// with another.
	maxWait = 10 * time.Second
	// maxWaiters is how many requests wait for a version at once: 1,000, of one
	// client 100. Each is a connection of a client's and some 30 KB.
	maxWaiters     = 1000
	maxWaitersEach = 100
)

// The header fields by which every answer from the book says how fresh it is.
const (
	VersionField = "Portbook-Version" // EPOCH.NUMBER
	ScannedField = "Portbook-Scanned" // RFC 3339; left out before the first scan
)

// TellFreshness says how fresh an answer is. There is no Last-Modified: it counts
// in seconds, in which a catalogue can change twice, and a cache may answer
// If-Modified-Since by it alone.
func TellFreshness(h http.Header, f indexer.Freshness) {
	h.Set(VersionField, f.Version.String())
	if !f.ScannedAt.IsZero() {
		h.Set(ScannedField, f.ScannedAt.UTC().Format(time.RFC3339))
	}
}

// lookAtVersion reads the version of the book, for all who wait for one. It is the same
// for every asker.
func (a *Answerer) lookAtVersion(ctx context.Context) (version indexer.Version, err error) {
	err = a.book(ctx, indexer.Everyone, func(b Book) (err error) {
		version, err = b.Version(ctx)
		return err
	})
	return version, err
}

// AwaitVersion returns when the catalogue has come to the request's min_version,
// or is of another epoch; at once if there is none. It holds no connection, and
// all who wait share one look at the version.
func (a *Answerer) AwaitVersion(r *http.Request) error {
	least, err := minVersion(r)
	if err != nil || least == nil {
		return nil // ReadSince says what is wrong with it, in the shape of the address
	}
	if seen := a.Versions.seen(); seen.Epoch == least.Epoch && seen.Number >= least.Number {
		return nil
	}
	leave, ok := a.Waiters.Take(r)
	if !ok {
		return Refuse(http.StatusServiceUnavailable, "too many requests wait for a min_version, of your address or of all: try again in a second")
	}
	defer leave()
	defer a.Versions.Follow(true)()
	ctx, cancel := context.WithTimeout(r.Context(), maxWait)
	defer cancel()
	for version := (indexer.Version{}); ; {
		if version, err = a.Versions.Next(ctx, version); err != nil {
			return errBehind(version, *least)
		}
		if version.Epoch != least.Epoch || version.Number >= least.Number {
			return nil
		}
	}
}

// errBehind is the answer if the book does not come to min_version in time. A zero
// version is one that is not known.
func errBehind(version, least indexer.Version) error {
	if version == (indexer.Version{}) {
		return fmt.Errorf("waiting for version %s: %w", least, indexer.ErrUnavailable)
	}
	return Refuse(http.StatusServiceUnavailable, "the book is at version %s and not yet at min_version %s: try again", version, least)
}

// errAnotherServer says that a snapshot is older than the version that was waited
// for, since it is of another server.
var errAnotherServer = errors.New("another server")

// ReadSince runs f on one state of the book: at least that of the request's
// min_version, for which it has waited. It looks for the version in the snapshot
// that f gets, and takes another snapshot if that one is of a server which is
// behind.
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
				return Refuse(http.StatusConflict, "min_version is of epoch %.64q, and the book is of %q: "+
					"the database began anew or another took over; ask without min_version", least.Epoch, fresh.Version.Epoch)
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

// RefuseAt refuses a request for another time than now where it would be ignored.
// Below /api/v1 the table of endpoints says which take "at", and refuses it for the
// others.
func RefuseAt(r *http.Request) error {
	if strings.HasPrefix(r.URL.Path, APIPrefix+"/") || r.URL.Query().Get("at") == "" {
		return nil
	}
	return Invalid("at", "is not taken here, since this address tells of now only: "+
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
		return nil, Invalid("min_version", "is %.64q: write the Portbook-Version of an answer", text)
	}
	return &v, nil
}
