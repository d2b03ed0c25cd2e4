// Search measures searches of a big book on this machine with one command: how long
// each kind of question takes over HTTP, compared with a naive statement for the same
// question; how that grows from 10,000 repositories to a million; how many searches can
// be answered; and how long they take for askers who see a part of the book, and when
// the reader or PostgreSQL has just started. doc/performance.md says what each figure
// means.
//
// It builds the registry and the indexer of this clone, makes up a book, and runs them
// with a private PostgreSQL, which syncs its commits to disk. The book is the same in
// every run; loading a million repositories takes some twenty minutes, so it can be kept
// (-data).
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
	repositories int    // of the big book
	small        int    // of the smallest book, from which growth is measured
	load         bool   // load the books and do nothing else
	only         string // measure only classes whose names contain this
	requests     int    // of each class with one client; four times as many with several
	memory       bool   // let readers keep a copy for searches in memory
	part         bool   // measure askers who see a part of the book
	cold         bool   // measure a reader and a PostgreSQL that have just started
	baselines    int    // runs of each naive statement
	pushes       int
	ingest       int // tags for the bulk ingest
	statements   int // number of most expensive statements of each class to show; 0: none
}

var standard = config{
	repositories: 100_000, small: 10_000, requests: 1000, memory: true, part: true, cold: true, baselines: 3, pushes: 300,
	ingest: 20_000,
}

// A bench is one run of the program. Its DataDir holds the books; with a LogFile, plans
// of slow statements are logged.
type bench struct {
	harness.Bench
	config
	figures []classFigures
}

func main() { harness.Main("bench-search", &bench{config: standard}) }

// Flags implements harness.Benchmark.
func (b *bench) Flags(flags *flag.FlagSet) {
	flags.IntVar(&b.repositories, "repositories", b.repositories, "number of repositories of the book (make: REPOS=n)")
	flags.IntVar(&b.small, "small", b.small,
		"number of repositories of the smallest book, from which growth is measured; the next has ten times as many")
	flags.StringVar(&b.DataDir, "data", "", "keep the books in this `directory`, or use its books (make: DATA=directory)")
	flags.BoolVar(&b.load, "load", false, "load the books and measure nothing")
	flags.StringVar(&b.only, "only", "",
		"measure only classes whose names contain this `text`, and nothing else")
	flags.IntVar(&b.requests, "requests", b.requests, "number of requests of each class with one client")
	flags.BoolVar(&b.memory, "memory", b.memory, "let readers keep a copy for searches in memory; else they use the database")
	flags.BoolVar(&b.part, "part", b.part, "measure askers who see a part of the book")
	flags.BoolVar(&b.cold, "cold", b.cold, "measure a reader and a PostgreSQL that have just started")
	flags.IntVar(&b.baselines, "baselines", b.baselines, "number of runs of each naive statement; 0: none")
	flags.IntVar(&b.pushes, "pushes", b.pushes, "number of pushes until searchable; 0: none")
	flags.IntVar(&b.ingest, "ingest", b.ingest, "number of tags of the bulk ingest; 0: none")
	flags.IntVar(&b.statements, "statements", 0, "number of the most expensive SQL statements of each class to show")
	flags.StringVar(&b.LogFile, "plans", "",
		"write the plans of statements that take 10 ms to this `file`; this slows down what is measured")
}

// Check implements harness.Benchmark.
func (b *bench) Check() error {
	if b.repositories < 100 {
		return fmt.Errorf("%d repositories are too few: -repositories or REPOS must be at least 100", b.repositories)
	}
	if b.load && b.DataDir == "" {
		return errors.New("-load needs -data or DATA: a directory for the books")
	}
	b.small = min(b.small, b.repositories/10)
	return nil
}

// Results implements harness.Benchmark.
func (b *bench) Results() any { return results{&b.Report, b.figures} }
