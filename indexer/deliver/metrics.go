package deliver

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the metrics of this package.
type Metrics struct {
	Attempts *prometheus.CounterVec // by outcome
	Seconds  prometheus.Histogram
}

// NewMetrics returns metrics that are registered with registerer.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		Attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portbook_webhook_attempts_total",
			Help: "Attempts to deliver an event to a webhook, by outcome: delivered, waiting (tried again), failed.",
		}, []string{"outcome"}),
		Seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "portbook_webhook_attempt_duration_seconds", Help: "Time that receivers of webhooks took for one attempt.",
			Buckets: []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10}}),
	}
	registerer.MustRegister(m.Attempts, m.Seconds)
	return m
}

// attempted counts an attempt. Pings are none that an alarm should count.
func (m *Metrics) attempted(d Delivery, r Result) {
	if m == nil || d.Type == Ping {
		return
	}
	m.Attempts.WithLabelValues(r.State).Inc()
	m.Seconds.Observe(r.Took.Seconds())
}
