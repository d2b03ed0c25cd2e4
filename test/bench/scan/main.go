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
	"errors"
	"flag"
	"io"
	"os"
	"strings"

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

func main() { harness.Main("bench", command) }

// command reads the flags. The variables are for make, which passes on those of its
// command line: make bench JSON=out.json BIG=no.
func command(ctx context.Context, args []string, out, progress io.Writer) error {
	c := standard
	flags := flag.NewFlagSet("bench", flag.ExitOnError)
	file := flags.String("json", os.Getenv("JSON"), "also write the figures to this `file`; JSON does too")
	flags.IntVar(&c.repositories, "repositories", c.repositories, "repositories of the registry that is scanned")
	flags.IntVar(&c.tags, "tags", c.tags, "tags of each")
	flags.IntVar(&c.scans, "scans", c.scans, "first scans, in turns with bare reads")
	flags.IntVar(&c.rescans, "rescans", c.rescans, "rescans, in turns with bare reads")
	flags.IntVar(&c.serial, "serial", c.serial, "pushes one after the other; 0: none")
	flags.IntVar(&c.rate, "rate", c.rate, "pushes a second that do not wait for each other")
	flags.IntVar(&c.seconds, "seconds", c.seconds, "how long")
	flags.IntVar(&c.wide, "wide", c.wide, "repositories of the registry on which memory is measured; 0, or BIG=no: none")
	flags.IntVar(&c.statements, "statements", c.statements, "show so many of the most expensive SQL statements")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if os.Getenv("BIG") == "no" {
		c.wide = 0
	}
	target, err := harness.Below(*file)
	if err != nil {
		return err
	}
	r, err := measure(ctx, c, progress)
	if err != nil {
		return err
	}
	if err := r.write(out); err != nil {
		return err
	}
	if target != "" {
		if err := harness.Save(r, target); err != nil {
			return err
		}
	}
	if wrong := r.failed(); len(wrong) > 0 {
		return errors.New("wrong counts: " + strings.Join(wrong, "; "))
	}
	return nil
}
