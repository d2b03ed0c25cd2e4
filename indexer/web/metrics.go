package web

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests *prometheus.CounterVec
	searches *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) metrics {
	return metrics{
		requests: promauto.With(r).NewCounterVec(prometheus.CounterOpts{
			Name: "portbook_http_requests_total",
			Help: "Requests answered, by route and status code.",
		}, []string{"route", "code"}),
		searches: promauto.With(r).NewHistogramVec(prometheus.HistogramOpts{
			Name: "portbook_search_duration_seconds",
			Help: "Time that a search took in the database, answers of 304 left out.",
			// From a search that the database has at hand to one that a client
			// has given up on.
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}, []string{"endpoint"}),
	}
}

// timed runs f and counts the time it takes as that of a search.
func (m metrics) timed(endpoint string, f func() error) error {
	start := time.Now()
	err := f()
	if err == nil {
		m.searches.WithLabelValues(endpoint).Observe(time.Since(start).Seconds())
	}
	return err
}

// count counts the requests that next answers. The route is the pattern, never
// the path: there are as many paths as anybody likes to send.
func (s *server) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cw := &codeWriter{ResponseWriter: w, code: http.StatusOK}
		// Deferred, because an answer that breaks off ends in a panic.
		defer func() {
			route := r.Pattern
			if route == "" {
				route = "none"
			}
			s.metrics.requests.WithLabelValues(route, strconv.Itoa(cw.code)).Inc()
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
