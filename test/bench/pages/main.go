// Pages measures the response times of every web page with one command: the median and
// the 99th percentile of sequential requests with different parameters, and the bytes
// that an answer takes on the wire.
//
// It builds the registry and the indexer of this clone, pushes 10,000 repositories of
// three tags to the registry, runs a scan, and sends requests to a reader. It can also
// use a book that bench-search has kept, to see how the figures grow: DATA=folder
// BOOK=book_1000000.
//
// A missed goal is only shown, since it is also missed on a busy machine. It exits 1 if
// something cannot be measured.
package main

import (
	"errors"
	"flag"
	"fmt"

	"github.com/portbook/portbook/test/bench/harness"
)

// A config says what to measure.
type config struct {
	repositories, tags int    // of a new book
	book               string // the book to use, in the DataDir; "": a new one
	requests           int    // for each page
}

var standard = config{repositories: 10_000, tags: 3, requests: 400}

// A bench is one run of the program.
type bench struct {
	harness.Bench
	config
	pages []figures
}

func main() { harness.Main("bench-pages", &bench{config: standard}) }

// Flags implements harness.Benchmark.
func (b *bench) Flags(flags *flag.FlagSet) {
	flags.IntVar(&b.repositories, "repositories", b.repositories, "number of repositories of the book")
	flags.IntVar(&b.tags, "tags", b.tags, "number of tags of each repository")
	flags.StringVar(&b.DataDir, "data", "", "`directory` in which bench-search keeps its books (make: DATA=directory)")
	flags.StringVar(&b.book, "book", "", "`name` of the book to use, in -data (make: BOOK=name)")
	flags.IntVar(&b.requests, "requests", b.requests, "number of requests for each page")
}

// Check implements harness.Benchmark.
func (b *bench) Check() error {
	if (b.DataDir == "") != (b.book == "") {
		return errors.New("a kept book needs both a directory and a name: DATA=folder BOOK=book_1000000")
	}
	if b.repositories < 1 || b.repositories > maxRepositories {
		return fmt.Errorf("%d repositories: want 1 to %d", b.repositories, maxRepositories)
	}
	return nil
}

// A results is what is written as JSON.
type results struct {
	*harness.Report
	Book  string    `json:"book"`
	Pages []figures `json:"pages"`
}

// figures are the results for one page.
type figures struct {
	Name     string  `json:"name"`
	Requests int     `json:"requests"` // 0: the page does not exist
	Median   float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Goal     float64 `json:"goal_ms,omitempty"`
	Bytes    float64 `json:"p50_bytes"` // of the body, as it was sent
}

// Results implements harness.Benchmark.
func (b *bench) Results() any { return results{&b.Report, b.book, b.pages} }
