package main

import "github.com/prometheus/client_golang/prometheus"

// registerCopy registers the metrics of the copy of the search rows in memory. They are
// missing if there is none.
func registerCopy(p *parts) {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("portbook_search_copy_"+name, help, nil, nil)
	}
	p.registry.MustRegister(&copyMetrics{
		parts:        p,
		ready:        describe("ready", "1 if searches are answered from memory, 0 if from the database."),
		repositories: describe("repositories", "Repositories in the copy in memory."),
		bytes:        describe("bytes", "Memory that the copy takes."),
		segments:     describe("segments", "Segments of the copy in memory."),
		version:      describe("version", "Version of the catalogue that the copy has taken in."),
		built:        describe("build_seconds", "Time that the last build of the copy took."),
	})
}

type copyMetrics struct {
	parts                                                *parts
	ready, repositories, bytes, segments, version, built *prometheus.Desc
}

func (m *copyMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.ready, m.repositories, m.bytes, m.segments, m.version, m.built} {
		ch <- d
	}
}

func (m *copyMetrics) Collect(ch chan<- prometheus.Metric) {
	status := m.parts.reads.SearchCopy()
	if !status.Kept {
		return
	}
	gauge := func(desc *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	gauge(m.built, status.Took.Seconds())
	if !status.Ready {
		gauge(m.ready, 0)
		return
	}
	gauge(m.ready, 1)
	gauge(m.repositories, float64(status.Repositories))
	gauge(m.bytes, float64(status.Bytes))
	gauge(m.segments, float64(status.Segments))
	gauge(m.version, float64(status.Version.Number))
}
