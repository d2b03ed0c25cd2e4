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

// count counts a request that has ended.
func count(requests *prometheus.CounterVec, r *http.Request, rec *recorder) {
	requests.WithLabelValues(routeOf(r), strconv.Itoa(rec.status())).Inc()
}

// routeOf returns the pattern of the route that handled a request. It is a label of
// metrics, where the path must not be, because anybody can send any number of paths.
func routeOf(r *http.Request) string {
	if r.Pattern == "" {
		return "none"
	}
	return r.Pattern
}
