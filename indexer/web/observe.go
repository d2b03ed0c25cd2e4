package web

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/errorreport"
	"github.com/portbook/portbook/indexer/web/answer"
)

// An observer gives each request an id, counts it, logs it, and reports what went wrong.
type observer struct {
	requests *prometheus.CounterVec
	log      *slog.Logger
	access   bool                  // whether each request is logged
	reports  *errorreport.Reporter // nil: none
	next     http.Handler
}

func (o *observer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := requestID(r)
	w.Header().Set(answer.RequestField, id)
	ctx, report := o.reports.Begin(indexer.WithRequest(r.Context(), id))
	r = r.WithContext(ctx)
	rec := &recorder{ResponseWriter: w, began: time.Now()}
	// Deferred, because an interrupted answer ends in a panic.
	defer func() {
		failure := recover()
		report.End(ctx, r.Pattern, rec.status(), failure)
		o.end(r, rec, failure)
	}()
	o.next.ServeHTTP(rec, r)
}

// end records a request that has ended, with a panic unless failure is nil.
func (o *observer) end(r *http.Request, rec *recorder, failure any) {
	count(o.requests, r, rec)
	if o.access {
		logAccess(o.log, r, rec, failure != nil)
	}
	if failure == nil {
		return
	}
	if failure != http.ErrAbortHandler {
		// net/http would log it without the id.
		o.log.ErrorContext(r.Context(), "panic", "value", failure, "stack", string(debug.Stack()))
	}
	panic(http.ErrAbortHandler) // net/http closes the connection and logs nothing
}

// requestID returns the id that a front has given to a request, or a new random one.
// An id from elsewhere is not taken, since clients could make log lines of different
// requests look like those of one.
func requestID(r *http.Request) string {
	if given := r.Header.Values(answer.RequestField); len(given) == 1 && isRequestID(given[0]) && answer.FromFront(r) {
		return given[0]
	}
	return rand.Text()
}

// maxRequestID is the maximum length of an id that a front gives: 128 bytes. A UUID
// has 36, and the $request_id of nginx 32.
const maxRequestID = 128

// isRequestID reports whether id is short enough and has only characters that no log,
// header or statement has to quote.
func isRequestID(id string) bool {
	return id != "" && len(id) <= maxRequestID && strings.Trim(id, requestIDCharacters) == ""
}

const requestIDCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@/+=-"

// A recorder records what is sent of an answer.
type recorder struct {
	http.ResponseWriter
	began time.Time
	code  int // status code, 0 before the header is sent
	bytes int64
}

// status returns the status code. net/http sends 200 if a handler writes nothing.
func (w *recorder) status() int {
	if w.code == 0 {
		return http.StatusOK
	}
	return w.code
}

func (w *recorder) WriteHeader(code int) {
	if code >= 200 && w.code == 0 { // 1xx responses precede the answer
		w.code = code
	}
	if code == http.StatusNotModified {
		w.Header().Del(answer.RequestField)
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap returns the underlying writer. http.ResponseController needs it to flush
// the registry's output and to set deadlines.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
