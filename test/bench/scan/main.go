// Scan measures Portbook on this machine with one command: the speed of a scan compared
// with a client that reads the same and stores nothing, the time until a search finds a
// push, the memory of the indexer, and the disk space of a repository, a tag and a
// manifest.
//
// It builds the registry and the indexer of this clone and runs them with a private
// PostgreSQL, which syncs its commits to disk; at the end everything is stopped and
// removed. Measurements that are compared with each other alternate, so that other load
// on the machine affects both.
//
// It exits 1 if a count is wrong: if a scan sent other requests than it should, or
// wrote where nothing had changed. A missed goal is only shown, since it is also missed
// on a busy machine.
package main

import (
	"context"
	"flag"
	"os"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/test/bench/harness"
)

// A config says how much to measure.
type config struct {
	repositories, tags int // in the scanned registry
	scans, rescans     int // runs of each
	serial             int // pushes one after the other
	rate, seconds      int // of pushes that do not wait for each other
	wide               int // repositories of the registry for memory; 0: not measured
	statements         int // number of most expensive statements to show; 0: none
}

var standard = config{
	repositories: 1000, tags: 5, scans: 3, rescans: 5, serial: 300, rate: 50, seconds: 20, wide: 10_000,
}

// A bench is one run of the program.
type bench struct {
	harness.Bench
	config

	registry *harness.Registry
	reader   *reader
	survey   *survey
	book     *pgx.Conn // the database of the last first scan

	catalogue map[string]weight // of the book after the scans
}

func main() { harness.Main("bench", &bench{config: standard}) }

// Flags implements harness.Benchmark.
func (b *bench) Flags(flags *flag.FlagSet) {
	flags.IntVar(&b.repositories, "repositories", b.repositories, "number of repositories to scan")
	flags.IntVar(&b.tags, "tags", b.tags, "number of tags of each repository")
	flags.IntVar(&b.scans, "scans", b.scans, "number of first scans, each after a bare read")
	flags.IntVar(&b.rescans, "rescans", b.rescans, "number of rescans, each after a bare read")
	flags.IntVar(&b.serial, "serial", b.serial, "number of pushes one after the other; 0: none")
	flags.IntVar(&b.rate, "rate", b.rate, "pushes per second that do not wait for each other; 0: none")
	flags.IntVar(&b.seconds, "seconds", b.seconds, "seconds of such pushes")
	flags.IntVar(&b.wide, "wide", b.wide,
		"number of repositories of the registry on which memory is measured; 0: none (make: BIG=no)")
	flags.IntVar(&b.statements, "statements", b.statements, "number of the most expensive SQL statements to show")
}

// Check implements harness.Benchmark.
func (b *bench) Check() error {
	if os.Getenv("BIG") == "no" {
		b.wide = 0
	}
	return nil
}

// Measure implements harness.Benchmark.
func (b *bench) Measure(ctx context.Context) error {
	if err := b.readStatements(ctx); err != nil {
		return err
	}
	steps := []struct {
		title string
		skip  bool
		run   func(context.Context, *harness.Section) error
	}{
		{"Fill", false, b.fill},
		{"First scan", false, b.firstScans},
		{"Rescan with nothing changed", false, b.unchanged},
		{"Requests and writes of scans", false, b.counts},
		{"Push to searchable", b.serial == 0, b.pushes},
		{"Sizes", false, b.sizes},
		{"Memory with many repositories", b.wide == 0, b.memory},
	}
	for _, step := range steps {
		if step.skip {
			continue
		}
		if err := b.Step(ctx, step.title, step.run); err != nil {
			return err
		}
	}
	return nil
}
