package errorreport

import (
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"

	"github.com/getsentry/sentry-go"

	"github.com/portbook/portbook/indexer"
)

type requestKey struct{}

// A Request collects what is logged while a request is answered. A nil Request does nothing.
type Request struct {
	reporter *Reporter

	mu       sync.Mutex
	ended    bool
	panicked bool   // which was reported
	message  string // of the most severe line of the log
	err      error
	level    slog.Level
}

// Begin returns a context for a request, and the Request to end.
func (r *Reporter) Begin(ctx context.Context) (context.Context, *Request) {
	if r == nil {
		return ctx, nil
	}
	q := &Request{reporter: r, level: slog.LevelWarn - 1}
	return context.WithValue(ctx, requestKey{}, q), q
}

// healthRoutes answer 503 to say what orchestrators and load balancers ask: whether requests can
// be sent here. That is no error.
var healthRoutes = map[string]bool{"GET /health": true, "GET /readiness": true, "GET /readyz": true}

// End reports a request that panicked with failure, was answered with a status of 5xx, or logged
// an error. It must be called by the deferred function that recovered failure.
func (q *Request) End(ctx context.Context, route string, status int, failure any) {
	if q == nil {
		return
	}
	p := problem{route: route, status: status, request: indexer.RequestOf(ctx), level: sentry.LevelError}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	p.message, p.err = q.message, q.err
	switch {
	case failure != nil && failure != http.ErrAbortHandler:
		p.message, p.err, p.status = "panic", indexer.PanicOf(failure), 0
		q.panicked = true
	case ctx.Err() != nil && q.level < slog.LevelError: // the client has gone, and reads no answer
		return
	case status >= http.StatusInternalServerError && !healthRoutes[route]:
		if status != http.StatusInternalServerError {
			p.level = sentry.LevelWarning
		}
		if p.message == "" {
			p.message = "answered " + http.StatusText(status)
		}
	case q.level < slog.LevelError:
		return
	}
	q.reporter.report(p)
}

// hear keeps the first of the most severe lines of the log. It returns false after the end, except
// that of a panic, which is logged when it was reported.
func (q *Request) hear(level slog.Level, message string, err error) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.ended && level > q.level {
		q.level, q.message, q.err = level, message, err
	}
	return !q.ended || q.panicked
}

// Handler returns a handler of log lines that reports errors and passes all lines to next.
func (r *Reporter) Handler(next slog.Handler) slog.Handler {
	if r == nil {
		return next
	}
	return handler{next, r}
}

type handler struct {
	slog.Handler
	reporter *Reporter
}

// Enabled reports whether a line is needed here or in the log, which may have no warnings.
func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || h.Handler.Enabled(ctx, level)
}

func (h handler) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelWarn {
		h.reporter.hear(ctx, record)
	}
	if !h.Handler.Enabled(ctx, record.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, record)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.reporter}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.reporter}
}

// hear leaves a line about a request to the end of that request, and reports another one if it is
// an error.
func (r *Reporter) hear(ctx context.Context, record slog.Record) {
	message, err := messageOf(record), errorOf(record)
	if q, ok := ctx.Value(requestKey{}).(*Request); ok && q.hear(record.Level, message, err) {
		return
	}
	if record.Level >= slog.LevelError {
		r.report(problem{message: message, err: err, request: indexer.RequestOf(ctx), level: sentry.LevelError})
	}
}

// messageOf returns the message of a line that our own code logs: it is fixed, which a test checks.
// The messages of others, such as net/http, quote addresses, so only their package is told.
func messageOf(record slog.Record) string {
	name := "unknown"
	if f := runtime.FuncForPC(record.PC); f != nil {
		name = f.Name()
	}
	if strings.HasPrefix(name, ours) || strings.HasPrefix(name, "main.") {
		return record.Message
	}
	directory, file := name[:strings.LastIndexByte(name, '/')+1], name[strings.LastIndexByte(name, '/')+1:]
	file, _, _ = strings.Cut(file, ".")
	return "logged by " + directory + file
}

// errorOf returns the error that a line has, or nil.
func errorOf(record slog.Record) (err error) {
	record.Attrs(func(a slog.Attr) bool {
		if e, ok := a.Value.Any().(error); ok {
			err = e
		}
		return err == nil
	})
	return err
}

// Crash reports a panic that ends the program, and lets it. It must be deferred itself.
func (r *Reporter) Crash() {
	if r == nil {
		return
	}
	failure := recover()
	if failure == nil {
		return
	}
	r.report(problem{message: "panic: the program ended", err: indexer.PanicOf(failure), level: sentry.LevelFatal})
	r.Close()
	panic(failure)
}
