package answer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// newSearches returns the histogram of search times.
func newSearches(r prometheus.Registerer) *prometheus.HistogramVec {
	return promauto.With(r).NewHistogramVec(prometheus.HistogramOpts{
		Name: "portbook_search_duration_seconds",
		Help: "Time that a search took in the database. Answers of 304 are not counted.",
		// From a search on cached data to one whose client has already given up.
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
	}, []string{"endpoint"})
}

// Timed runs f and, if it succeeds, records its duration as that of a search.
func (a *Answerer) Timed(endpoint string, f func() error) error {
	start := time.Now()
	err := f()
	if err == nil {
		a.searches.WithLabelValues(endpoint).Observe(time.Since(start).Seconds())
	}
	return err
}
