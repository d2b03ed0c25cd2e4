package web

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// newRequests returns the counter of requests.
func newRequests(r prometheus.Registerer) *prometheus.CounterVec {
	return promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Name: "portbook_http_requests_total",
		Help: "Requests answered, by route and status code.",
	}, []string{"route", "code"})
}

// count counts the requests that next answers. The label is the pattern, never the
// path, because anybody can send any number of paths.
func count(requests *prometheus.CounterVec, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cw := &codeWriter{ResponseWriter: w, code: http.StatusOK}
		// Deferred, because an interrupted answer ends in a panic.
		defer func() {
			route := r.Pattern
			if route == "" {
				route = "none"
			}
			requests.WithLabelValues(route, strconv.Itoa(cw.code)).Inc()
		}()
		next.ServeHTTP(cw, r)
	})
}

// A codeWriter records the status code of a response.
type codeWriter struct {
	http.ResponseWriter
	code int
}

func (w *codeWriter) WriteHeader(code int) {
	if code >= 200 { // 1xx responses precede the answer
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap returns the underlying writer. http.ResponseController needs it to flush
// the registry's output and to set deadlines.
func (w *codeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
