package main

import (
	"github.com/portbook/portbook/test/bench/harness"
)

// A results is what is written as JSON.
type results struct {
	*harness.Report
	Classes []classFigures `json:"classes"`
}

// classFigures are the results of one class with a number of clients.
type classFigures struct {
	Name         string  `json:"name"`
	Repositories int     `json:"repositories"` // of the book
	Sees         float64 `json:"sees"`         // the share of them that the asker sees: 1 for all
	Clients      int     `json:"clients"`      // 0: an open loop
	Requests     int     `json:"requests"`
	Failed       int     `json:"failed"`  // answers other than 200, which count as 30 s
	Queries      int     `json:"queries"` // different ones
	P50          float64 `json:"p50_ms"`
	P99          float64 `json:"p99_ms"`
	P999         float64 `json:"p999_ms"`
	Worst        float64 `json:"worst_ms"`
	Goal         float64 `json:"goal_ms"` // of P99; 0: none
	RPS          float64 `json:"rps"`
	Bytes        float64 `json:"p50_bytes"`       // of the body, as it was sent
	Processor    float64 `json:"processor_ms"`    // of PostgreSQL and the indexer per request; 0: not measured
	Baseline     float64 `json:"baseline_p50_ms"` // 0: not measured
}

// figuresOf returns the results of requests to the big book as everyone sees it.
func figuresOf(p harness.Pass, name string, clients int) classFigures {
	f := classFigures{
		Name: name, Sees: 1, Clients: clients, Requests: len(p.Answers), P50: p.Quantile(0.5), P99: p.Quantile(0.99),
		P999: p.Quantile(0.999), Worst: p.Quantile(1), RPS: p.PerSecond(), Bytes: p.Bytes(), Queries: p.Queries(),
	}
	f.Failed, _ = p.Failed()
	return f
}

// add adds results to the JSON, those of the big book if it does not say of which.
func (b *bench) add(f classFigures) classFigures {
	if f.Repositories == 0 {
		f.Repositories = b.repositories
	}
	b.figures = append(b.figures, f)
	return f
}

// reportSmall adds the results of a book from which growth is measured.
func (b *bench) reportSmall(s *harness.Section, k *book, all []measured) {
	s.Table = [][]string{{"", "p50", "p99", "p99.9", "worst", "bytes", "queries"}}
	for _, m := range all {
		if m.missing != "" {
			continue // the section of the big book tells
		}
		f := figuresOf(m.one, m.name, 1)
		f.Repositories, f.Processor, f.Goal = len(k.names), m.processor, goalOne
		b.add(f)
		row := numbers(f.P50, f.P99, f.P999, f.Worst, f.Bytes, float64(f.Queries))
		s.Table = append(s.Table, append([]string{m.name}, row...))
		noteFailed(s, m.name, m.one)
	}
}

// reportBig adds the results of the big book, compared with those of the smallest.
func (b *bench) reportBig(s *harness.Section, all, smallest []measured) {
	s.Table = [][]string{{"", "1 client: p50", "p99", "p99.9", "worst", "", "8 clients: p50", "p99", "worst", "per s",
		"processor", "bytes", "queries", "naive", "ratio", "growth: p50", "p99"}}
	met, asked, grown := 0, 0, 0
	for _, m := range all {
		if m.missing != "" {
			s.Note("NOT MEASURED: %s: there is no such route: %s", m.name, m.missing)
			continue
		}
		one, many := figuresOf(m.one, m.name, 1), figuresOf(m.many, m.name, manyClients)
		one.Goal, one.Processor, one.Baseline, many.Baseline = goalOne, m.processor, m.naive, m.naive
		b.add(one)
		b.add(many)
		judged := "MISSED"
		if asked++; one.P99 < goalOne {
			met, judged = met+1, "met"
		}
		ratio, naive := "", ""
		if m.naive > 0 {
			ratio, naive = harness.Number(m.naive/one.P50), harness.Number(m.naive)
		}
		row := append([]string{m.name}, numbers(one.P50, one.P99, one.P999, one.Worst)...)
		row = append(append(row, judged), numbers(many.P50, many.P99, many.Worst, many.RPS)...)
		row = append(row, numbers(m.processor, one.Bytes, float64(one.Queries))...)
		row = append(row, naive, ratio)
		p50, p99 := growth(m, smallest)
		if row = append(row, numbers(p50, p99)...); p50 >= goalGrowth || p99 >= goalGrowth {
			grown++
		}
		s.Table = append(s.Table, row)
		b.note(s, m)
	}
	fast := harness.Figure{Name: "classes with a p99 below 10 ms, 1 client", Value: float64(met), Unit: "classes"}
	s.Add(fast.AtLeast(float64(asked)))
	s.Add(harness.Figure{Name: "classes that grow threefold or more", Value: float64(grown), Unit: "classes"}.Below(1))
	s.Note("milliseconds until the whole answer was read over HTTP; processor: processor time of PostgreSQL and the " +
		"indexer for one request; bytes: median size of an answer as it was sent, compressed; " +
		"queries: different ones with 1 client; naive: median of a naive SQL statement, without HTTP; " +
		"ratio: naive / p50; growth: compared with the smallest book")
}

// note notes what is odd about a class.
func (b *bench) note(s *harness.Section, m measured) {
	if m.few != "" {
		s.Note("%s: %d different queries: %s", m.name, m.one.Queries(), m.few)
	}
	noteFailed(s, m.name, m.one)
	noteFailed(s, m.name+", 8 clients", m.many)
	if w := m.one.Slowest(); w.MS >= goalOne {
		s.Note("%s: slowest %s ms: %.150s", m.name, harness.Number(w.MS), w.Path)
	}
}

// growth returns how many times longer a class takes than on the smallest book.
func growth(m measured, smallest []measured) (p50, p99 float64) {
	for _, small := range smallest {
		if small.name == m.name && len(small.one.Answers) > 0 {
			return m.one.Quantile(0.5) / small.one.Quantile(0.5), m.one.Quantile(0.99) / small.one.Quantile(0.99)
		}
	}
	return 0, 0
}

// numbers formats values.
func numbers(values ...float64) (texts []string) {
	for _, v := range values {
		texts = append(texts, harness.Number(v))
	}
	return texts
}

// Picture implements harness.Benchmark.
func (b *bench) Picture() string { return b.chart().SVG() }

// chart returns the latency of some classes over the size of the book.
func (b *bench) chart() harness.Chart {
	c := harness.Chart{
		Title: "Searches, one client: median, and 99th percentile (dashed)",
		X:     "repositories in the book", Y: "milliseconds until the answer was read",
	}
	for _, class := range classes {
		if !class.drawn {
			continue
		}
		p50, p99 := harness.Line{Name: class.name}, harness.Line{Name: class.name, Dashed: true}
		for _, f := range b.figures {
			if f.Name == class.name && f.Clients == 1 && f.Sees == 1 {
				p50.Points = append(p50.Points, [2]float64{float64(f.Repositories), f.P50})
				p99.Points = append(p99.Points, [2]float64{float64(f.Repositories), f.P99})
			}
		}
		c.Lines = append(c.Lines, p50, p99)
	}
	return c
}
