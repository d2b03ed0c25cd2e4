// Search measures searches of a big book on this machine with one command: how long
// each kind of question takes over HTTP, compared with a naive statement for the same
// question, and how that grows from 10,000 repositories to a million.
//
// It builds the registry and the indexer of this clone, makes up a book, and runs them
// with a private PostgreSQL, which syncs its commits to disk. The book is the same in
// every run; loading a million repositories takes half an hour, so it can be kept
// (-data).
//
// A missed goal is only shown, since it is also missed on a busy machine. It exits 1 if
// something cannot be measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/portbook/portbook/test/bench/harness"
)

// A config says what to measure.
type config struct {
	repositories int    // of the big book
	small        int    // of the small book, from which growth is measured
	data         string // where PostgreSQL keeps the books; "": they are removed at the end
	load         bool   // load the books and do nothing else
	only         string // measure only classes whose names contain this
	requests     int    // of each class with one client; four times as many with several
	baselines    int    // runs of each naive statement
	pushes       int
	ingest       int    // tags for the bulk ingest
	statements   int    // number of most expensive statements of each class to show; 0: none
	plans        string // a file for the plans of slow statements; "": none
}

var standard = config{repositories: 100_000, small: 10_000, requests: 400, baselines: 3, pushes: 300, ingest: 20_000}

func main() { harness.Main("bench-search", command) }

// command reads the flags. The variables are for make, which passes on those of its
// command line: make bench-search REPOS=1000000 JSON=out.json.
func command(ctx context.Context, args []string, out, progress io.Writer) error {
	c := standard
	flags := flag.NewFlagSet("bench-search", flag.ExitOnError)
	if err := readNumber(os.Getenv("REPOS"), &c.repositories); err != nil {
		return err
	}
	file := flags.String("json", os.Getenv("JSON"), "also write the figures to this `file`; JSON does too")
	flags.IntVar(&c.repositories, "repositories", c.repositories, "repositories of the book; REPOS does too")
	flags.IntVar(&c.small, "small", c.small, "repositories of the book that growth is measured from")
	flags.StringVar(&c.data, "data", os.Getenv("DATA"), "keep the books in this `directory`, or use those that are there; DATA does too")
	flags.BoolVar(&c.load, "load", false, "load the books and measure nothing")
	flags.StringVar(&c.only, "only", "", "measure only classes whose name holds this `text`, and neither pushes nor ingest")
	flags.IntVar(&c.requests, "requests", c.requests, "requests of each class with one client")
	flags.IntVar(&c.baselines, "baselines", c.baselines, "runs of each naive statement; 0: none")
	flags.IntVar(&c.pushes, "pushes", c.pushes, "pushes until searchable; 0: none")
	flags.IntVar(&c.ingest, "ingest", c.ingest, "tags taken in by bulk; 0: none")
	flags.IntVar(&c.statements, "statements", 0, "show so many of the most expensive SQL statements of each class")
	flags.StringVar(&c.plans, "plans", "", "write the plans of statements that take 10 ms to this `file`, and measure the slower for it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if c.repositories < 100 {
		return fmt.Errorf("%d repositories are too few to measure: -repositories or REPOS must be at least 100", c.repositories)
	}
	c.small = min(c.small, c.repositories/10)
	target, err := harness.Below(*file)
	if err != nil {
		return err
	}
	if c.data, err = harness.Below(c.data); err != nil {
		return err
	}
	if c.plans, err = harness.Below(c.plans); err != nil {
		return err
	}
	if c.load && c.data == "" {
		return fmt.Errorf("-load needs -data or DATA: a directory in which the books stay")
	}
	r, err := measure(ctx, c, progress)
	if r == nil {
		return err
	}
	// Results from before a failure took long to measure and are shown.
	err = errors.Join(err, r.write(out))
	if target != "" {
		err = errors.Join(err, harness.Save(r, target))
	}
	return err
}

// readNumber reads a number from a variable that may be unset.
func readNumber(text string, n *int) error {
	if text == "" {
		return nil
	}
	if _, err := fmt.Sscanf(text, "%d", n); err != nil {
		return fmt.Errorf("REPOS is %q: it must be a number of repositories", text)
	}
	return nil
}
