package ingest

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the metrics of this package.
type Metrics struct {
	Events         *prometheus.CounterVec // by action and use
	EventsRepeated prometheus.Counter
	EventsRefused  prometheus.Counter
	Pulls          *prometheus.CounterVec // by what was done
	Reads          *prometheus.CounterVec // by outcome
	ReadSeconds    prometheus.Histogram
	GivenUp        prometheus.Counter
	ScanRunning    prometheus.Gauge
	ScanLooked     *prometheus.GaugeVec // by what: repositories, tags, changed, errors
	ScanSeconds    prometheus.Gauge
	Leader         prometheus.Gauge
	JobSuccess     *prometheus.GaugeVec   // by name, as all of the leader's jobs
	JobRunning     *prometheus.GaugeVec   // by name
	JobFailures    *prometheus.CounterVec // by name
	JobSeconds     *prometheus.GaugeVec   // by name
	JobDone        *prometheus.GaugeVec   // by name
	JobTotal       *prometheus.GaugeVec   // by name
}

// NewMetrics returns metrics that are registered with registerer.
func NewMetrics(registerer prometheus.Registerer) *Metrics {
	m := &Metrics{
		Events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portbook_events_received_total",
			Help: "Events in notifications of the registry, by action and by use: stored, ignored, invalid.",
		}, []string{"action", "use"}),
		EventsRepeated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "portbook_events_repeated_total", Help: "Events that were received more than once."}),
		EventsRefused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "portbook_events_refused_total", Help: "Notifications refused: without the token, too large or malformed."}),
		Pulls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portbook_pulls_total",
			Help: "Pulls of manifests in events: counted, repeated, unknown (of a repository that the book does not know)," +
				" other (a HEAD, or a read of the indexer).",
		}, []string{"what"}),
		Reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portbook_reads_total",
			Help: "Tasks read from the registry, by outcome: found, gone, broken, unavailable, failed."}, []string{"outcome"}),
		ReadSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "portbook_read_duration_seconds",
			Help:    "Time to read one task from the registry, including the wait for its tag.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}}),
		GivenUp: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "portbook_tasks_given_up_total", Help: "Tasks that were given up after too many failed attempts."}),
		ScanRunning: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portbook_scan_running", Help: "1 while this process scans the registry."}),
		ScanLooked: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "portbook_scan_looked_at",
			Help: "Counts of the current or last scan of this process: repositories, tags, changed, errors."}, []string{"what"}),
		ScanSeconds: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portbook_scan_duration_seconds", Help: "How long the last scan of this process took."}),
		Leader: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "portbook_leader", Help: "1 while this process is the leader, which scans and tidies."}),
		JobSuccess: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "portbook_job_last_success_timestamp_seconds",
			Help: "When the last successful run of each of the leader's jobs ended in this process, as Unix time.",
		}, []string{"name"}),
		JobRunning: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "portbook_job_running", Help: "1 while this process runs the job."}, []string{"name"}),
		JobFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "portbook_job_failures_total", Help: "Runs of the job that failed in this process."}, []string{"name"}),
		JobSeconds: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "portbook_job_duration_seconds",
			Help: "How long the last run of the job in this process took."}, []string{"name"}),
		JobDone: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "portbook_job_done",
			Help: "How much of its run a job has done, or had done when its last run ended.",
		}, []string{"name"}),
		JobTotal: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "portbook_job_total", Help: "How much there is to do in that run."}, []string{"name"}),
	}
	registerer.MustRegister(m.Events, m.EventsRepeated, m.EventsRefused, m.Pulls, m.Reads, m.ReadSeconds, m.GivenUp,
		m.ScanRunning, m.ScanLooked, m.ScanSeconds, m.Leader,
		m.JobSuccess, m.JobRunning, m.JobFailures, m.JobSeconds, m.JobDone, m.JobTotal)
	return m
}
