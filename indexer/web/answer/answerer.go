// Package answer writes one HTTP answer from one state of the catalogue. It waits
// for the requested version and for its turn to read, reads the book on behalf of
// the asker, sets ETag and caching, and turns errors into responses. It also holds
// what several audiences share.
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

// A Config configures an Answerer. Only Read is required.
type Config struct {
	Read    ReadFunc
	Log     *slog.Logger          // nil: no log
	Metrics prometheus.Registerer // nil: no metrics
	// Build identifies the program and its configuration where they change the bytes of
	// answers. It is part of every ETag.
	Build string
	// Asker returns the asker of a request. If it is nil, every asker is Everyone. If
	// it returns an error, the request is refused.
	Asker func(*http.Request) (indexer.Asker, error)
	// Connections is the number of database connections that Read may use at once. If
	// it is 0, neither a route nor a client has a limit.
	Connections int
}

// An Answerer answers requests from the book. It is safe for concurrent use.
type Answerer struct {
	book     ReadFunc
	asker    func(*http.Request) (indexer.Asker, error) // nil: Everyone
	log      *slog.Logger
	build    string
	searches *prometheus.HistogramVec
	turns    *Turns    // limits how many requests read the book at once
	versions *versions // announces new versions of the book
	waiters  *Places   // limits how many requests wait for a version
}

// New returns an Answerer that is configured by c.
func New(c Config) *Answerer {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	a := &Answerer{
		book: c.Read, asker: c.Asker, log: c.Log, build: c.Build, searches: newSearches(c.Metrics),
		turns: newTurns(c.Connections), waiters: NewPlaces(maxWaiters, maxWaitersEach),
	}
	a.versions = newVersions(a.lookAtVersion)
	return a
}

// A HandlerFunc answers a request, or returns the error to answer with: see Handle.
type HandlerFunc func(http.ResponseWriter, *http.Request) error

// An errorWriter writes an error in the form that the clients of a route expect.
type errorWriter func(w http.ResponseWriter, code int, text string)

// Reading wraps f for requests that read the book. It waits for the version that the
// request needs, without holding a connection, and then limits f to Budget.
func (a *Answerer) Reading(f HandlerFunc) HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := a.AwaitVersion(r); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(r.Context(), Budget)
		defer cancel()
		return f(w, r.WithContext(ctx))
	}
}

// Read runs f on one state of the book, for the asker of r. It first waits until the
// limits of this client and this route allow it. The context must have a deadline:
// that of Reading, or a longer one if the answer is streamed.
func (a *Answerer) Read(ctx context.Context, r *http.Request, f func(Book) error) error {
	if _, limited := ctx.Deadline(); !limited {
		return fmt.Errorf("%s reads the book without a time limit", r.Pattern)
	}
	asker, err := a.askerOf(r)
	if err != nil {
		return err
	}
	return a.ReadAs(ctx, r, asker, f)
}

// ReadAs is Read for an asker who was found out in another way than that of most routes.
func (a *Answerer) ReadAs(ctx context.Context, r *http.Request, asker indexer.Asker, f func(Book) error) error {
	done, err := a.turns.Take(ctx, r.Pattern, ClientOf(r))
	if err != nil {
		return err
	}
	defer done()
	return a.book(ctx, asker, f)
}

// askerOf returns the asker of r.
func (a *Answerer) askerOf(r *http.Request) (indexer.Asker, error) {
	if a.asker == nil {
		return indexer.Everyone, nil
	}
	return a.asker(r)
}

// Handle runs f and turns its error into a response. If the client can act on the
// error, its text is sent; any other error is logged, and the client sees only a
// 500. f must not return an error after it has written anything.
func (a *Answerer) Handle(f HandlerFunc, write errorWriter) http.Handler {
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
			for name, value := range refused.header {
				w.Header().Set(name, value)
			}
		case errors.Is(err, indexer.ErrNotFound):
			code, text = http.StatusNotFound, ErrorText(err)
		case errors.Is(err, indexer.ErrInvalid):
			code, text = http.StatusBadRequest, ErrorText(err)
		case errors.Is(err, indexer.ErrForbidden):
			code, text = http.StatusForbidden, ErrorText(err)
		case errors.Is(err, indexer.ErrConflict):
			code, text = http.StatusConflict, ErrorText(err)
		case ctx.Err() != nil:
			// Usually the client has gone and does not read this. But our own deadline
			// cancels too, and writing nothing would be a 200 without a body.
			code, text = http.StatusServiceUnavailable, "took too long"
		case errors.Is(err, indexer.ErrTooSlow),
			errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, indexer.ErrUnavailable):
			code = http.StatusServiceUnavailable
			text = "the request took too long and was stopped: ask for less, or search for something rarer"
			a.log.WarnContext(ctx, "request too slow", "path", LoggedPath(r),
				"query", Cut(r.URL.RawQuery, maxLogged), "error", err)
		case errors.Is(err, indexer.ErrUnavailable):
			// The error may name hosts and users of the database, so it is only logged.
			code, text = http.StatusServiceUnavailable, "unavailable, try again"
			a.log.WarnContext(ctx, "request unavailable", "path", LoggedPath(r), "error", err)
		default:
			a.log.ErrorContext(ctx, "request failed", "path", LoggedPath(r), "error", err)
		}
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		if code == http.StatusServiceUnavailable {
			h.Set("Retry-After", "1")
		}
		for _, name := range []string{"ETag", "Vary", "Content-Encoding", "Content-Length", "Link", "Last-Modified"} {
			h.Del(name)
		}
		write(w, code, text)
	})
}

// WriteErrorText writes an error as plain text.
func WriteErrorText(w http.ResponseWriter, code int, text string) {
	http.Error(w, text, code)
}
