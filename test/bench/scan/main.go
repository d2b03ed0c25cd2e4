// Scan measures Portbook on this machine, in one command: how fast a scan is
// beside a client that reads the same and keeps nothing, how soon a push is
// found by a search, how much memory the indexer takes, and how much of
// the disk a repository, a tag and a manifest take.
//
// It builds the registry and the indexer of this clone and runs them with a
// PostgreSQL of their own, which syncs its commits to disk; at the end all of it
// is stopped and removed. What is compared with each other is measured in turns,
// so that whatever else the machine does falls on both.
//
// It exits 1 if a count is wrong: if a scan asked for other things than it
// should, or wrote where nothing had changed. A goal that is missed is only
// shown, since a busy machine misses it too.
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
	repositories, tags int // of the registry that is scanned
	scans, rescans     int // turns of each
	serial             int // pushes one after the other
	rate, seconds      int // of pushes that do not wait for each other
	wide               int // repositories of the registry for memory; 0: not measured
	statements         int // most expensive statements shown; 0: not asked for
}

var standard = config{
	repositories: 1000, tags: 5, scans: 3, rescans: 5, serial: 300, rate: 50, seconds: 20, wide: 10_000,
}

func main() { harness.Main("bench", command) }

// command reads the flags. The variables are for make, which passes on what
// stands on its command line: make bench JSON=out.json BIG=no.
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
