// Package answer turns one state of the catalogue into one HTTP answer: it reads the
// book for the asker of a request, waits for a version and for a turn, sets ETag and
// caching, and turns errors into responses. It also holds what several audiences share.
package answer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
)

// A Config says what an answerer answers from. Only Read is needed.
type Config struct {
	Read    ReadFunc
	Log     *slog.Logger          // nil: no log
	Metrics prometheus.Registerer // nil: no metrics
	// Build tells apart programs and configurations that write different bytes. It is
	// part of every ETag.
	Build string
	// Asker tells who makes a request; nil: every request is made by Everyone. Its error
	// refuses the request.
	Asker func(*http.Request) (indexer.Asker, error)
	// Connections is how many connections to the database Read may use at once; 0:
	// no route and no client is kept from using them all.
	Connections int
}

// An Answerer makes answers of states of the book. It is safe for concurrent use.
type Answerer struct {
	book     ReadFunc
	asker    func(*http.Request) (indexer.Asker, error) // nil: Everyone
	log      *slog.Logger
	build    string
	searches *prometheus.HistogramVec
	turns    *Turns    // to read the book
	Versions *versions // of the book, as they come
	Waiters  *Places   // of requests that wait for a version
}

// New returns the answerer of c.
func New(c Config) *Answerer {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	a := &Answerer{
		book: c.Read, asker: c.Asker, log: c.Log, build: c.Build, searches: newSearches(c.Metrics),
		turns: newTurns(c.Connections), Waiters: NewPlaces(maxWaiters, maxWaitersEach),
	}
	a.Versions = newVersions(a.lookAtVersion)
	return a
}

// A teller writes an error in the form that the clients of a route read.
type teller func(w http.ResponseWriter, code int, text string)

// Reading is f for a request that reads the book: it waits for the version that the
// request asks for, holding no connection, and then has its budget.
func (a *Answerer) Reading(f func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := a.AwaitVersion(r); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(r.Context(), Budget)
		defer cancel()
		return f(w, r.WithContext(ctx))
	}
}

// Read runs f on one state of the book as the asker of r sees it, when it is the turn of this client and
// this kind of request. The context must have a deadline: that of reading, or a longer one of
// what streams.
func (a *Answerer) Read(ctx context.Context, r *http.Request, f func(Book) error) error {
	if _, limited := ctx.Deadline(); !limited {
		return fmt.Errorf("%s reads the book without a time limit", r.Pattern)
	}
	asker, err := a.askerOf(r)
	if err != nil {
		return err
	}
	done, err := a.turns.Take(ctx, r.Pattern, ClientOf(r))
	if err != nil {
		return err
	}
	defer done()
	return a.book(ctx, asker, f)
}

// askerOf returns who makes a request.
func (a *Answerer) askerOf(r *http.Request) (indexer.Asker, error) {
	if a.asker == nil {
		return indexer.Everyone, nil
	}
	return a.asker(r)
}

// Handle runs f and turns its error into a response: an error of a kind the
// client can act on is shown, any other is logged and shown as a bare 500. f
// must not have written anything when it returns an error.
func (a *Answerer) Handle(f func(http.ResponseWriter, *http.Request) error, tell teller) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := f(w, r)
		if err == nil {
			return
		}
		ctx := r.Context()
		code, text := http.StatusInternalServerError, "internal error"
		var refused *Refusal
		switch {
		case errors.As(err, &refused):
			code, text = refused.code, refused.text
		case errors.Is(err, indexer.ErrNotFound):
			code, text = http.StatusNotFound, Told(err)
		case errors.Is(err, indexer.ErrInvalid):
			code, text = http.StatusBadRequest, Told(err)
		case ctx.Err() != nil:
			// Mostly the client has gone, and reads nothing of this. But our
			// deadline cancels too, and silence would be a 200 without a body.
			code, text = http.StatusServiceUnavailable, "took too long"
		case errors.Is(err, indexer.ErrTooSlow), errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, indexer.ErrUnavailable):
			code, text = http.StatusServiceUnavailable, "it took too long and was stopped: ask for less, or for something rarer"
			a.log.WarnContext(ctx, "request too slow", "path", r.URL.Path, "query", r.URL.RawQuery, "error", err)
		case errors.Is(err, indexer.ErrUnavailable):
			// The text may name hosts and users of the database: for the log.
			code, text = http.StatusServiceUnavailable, "unavailable, try again"
			a.log.WarnContext(ctx, "request unavailable", "path", r.URL.Path, "error", err)
		default:
			a.log.ErrorContext(ctx, "request failed", "path", r.URL.Path, "error", err)
		}
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		if code == http.StatusServiceUnavailable {
			h.Set("Retry-After", "1")
		}
		for _, name := range []string{"ETag", "Vary", "Content-Encoding", "Content-Length", "Link", "Last-Modified"} {
			h.Del(name)
		}
		tell(w, code, text)
	})
}

// TellText tells an error as plain text.
func TellText(w http.ResponseWriter, code int, text string) {
	http.Error(w, text, code)
}
