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

// count counts in requests those that next answers. The route is the pattern, never
// the path: there are as many paths as anybody likes to send.
func count(requests *prometheus.CounterVec, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cw := &codeWriter{ResponseWriter: w, code: http.StatusOK}
		// Deferred, because an answer that breaks off ends in a panic.
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

// A codeWriter remembers the status code of a response.
type codeWriter struct {
	http.ResponseWriter
	code int
}

func (w *codeWriter) WriteHeader(code int) {
	if code >= 200 { // 1xx come ahead of the answer
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Unwrap lets http.ResponseController reach the connection: to flush what the
// registry sends, and to set deadlines.
func (w *codeWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
