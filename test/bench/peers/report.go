package main

import (
	"fmt"

	"github.com/portbook/portbook/test/bench/harness"
)

// figures are the results of one question to one peer with a number of clients.
type figures struct {
	Peer      string  `json:"peer"`
	Question  string  `json:"question"`
	Clients   int     `json:"clients"`
	Requests  int     `json:"requests"`
	Queries   int     `json:"queries"` // different ones
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Worst     float64 `json:"worst_ms"`
	RPS       float64 `json:"rps"`
	Bytes     float64 `json:"p50_bytes"`    // of the body, as it was sent
	Processor float64 `json:"processor_ms"` // of all processes of the peer, per request
}

// compare adds the table of both peers.
func (b *bench) compare() {
	s := b.Section(fmt.Sprintf("%s repositories of %d tags", harness.Number(float64(b.repositories)), b.tags))
	s.Table = [][]string{{"", "clients", "Portbook: p50", "p99", "per s", "processor", "bytes",
		"zot: p50", "p99", "per s", "processor", "bytes", "zot / Portbook: p50", "p99", "processor"}}
	for _, q := range questions {
		for _, clients := range []int{1, manyClients} {
			row := []string{string(q), fmt.Sprint(clients)}
			ours, theirs := b.of("Portbook", q, clients), b.of("zot", q, clients)
			row = append(row, ours.texts()...)
			row = append(row, theirs.texts()...)
			if theirs.Requests > 0 {
				for _, ratio := range []float64{theirs.P50 / ours.P50, theirs.P99 / ours.P99, theirs.Processor / ours.Processor} {
					row = append(row, harness.Number(ratio))
				}
			}
			s.Table = append(s.Table, row)
		}
	}
	s.Note("milliseconds until the whole answer was read over HTTP; processor: milliseconds of processor time of all " +
		"processes for one request; bytes: median size of an answer as it was sent")
	if b.zot == "" {
		s.Note("NOT MEASURED: zot: set ZOT to its program; doc/performance.md says how")
	}
}

// of returns the figures of one question; zero if it was not measured.
func (b *bench) of(peer string, q question, clients int) figures {
	for _, f := range b.figures {
		if f.Peer == peer && f.Question == string(q) && f.Clients == clients {
			return f
		}
	}
	return figures{}
}

func (f figures) texts() []string {
	if f.Requests == 0 {
		return make([]string, 5)
	}
	var texts []string
	for _, v := range []float64{f.P50, f.P99, f.RPS, f.Processor, f.Bytes} {
		texts = append(texts, harness.Number(v))
	}
	return texts
}

// Picture implements harness.Benchmark: the median and the 99th percentile of each question.
func (b *bench) Picture() string {
	c := harness.BarChart{
		Title: fmt.Sprintf("%s repositories of %d tags, one client", harness.Number(float64(b.repositories)), b.tags),
		X:     "milliseconds until the answer was read: median, and 99th percentile (thin)",
	}
	for _, q := range questions {
		group := harness.Group{Name: string(q)}
		for _, peer := range []string{"Portbook", "zot"} {
			if f := b.of(peer, q, 1); f.Requests > 0 {
				group.Bars = append(group.Bars, harness.Bar{Name: peer, Thick: f.P50, Thin: f.P99})
			}
		}
		c.Groups = append(c.Groups, group)
	}
	return c.SVG()
}
