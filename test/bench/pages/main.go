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
	repositories, tags int    // of a new book
	data, book         string // where PostgreSQL keeps books, and the book to use; "": a new one
	requests           int    // for each page
}

var standard = config{repositories: 10_000, tags: 3, requests: 400}

func main() { harness.Main("bench-pages", command) }

// command reads the flags. The variables are for make, which passes on those of its
// command line.
func command(ctx context.Context, args []string, out, progress io.Writer) error {
	c := standard
	flags := flag.NewFlagSet("bench-pages", flag.ExitOnError)
	file := flags.String("json", os.Getenv("JSON"), "also write the figures to this `file`; JSON does too")
	flags.IntVar(&c.repositories, "repositories", c.repositories, "repositories of the book")
	flags.IntVar(&c.tags, "tags", c.tags, "tags of each")
	flags.StringVar(&c.data, "data", os.Getenv("DATA"), "where bench-search has kept its books, a `directory`; DATA does too")
	flags.StringVar(&c.book, "book", os.Getenv("BOOK"), "the `name` of the book there to ask of; BOOK does too")
	flags.IntVar(&c.requests, "requests", c.requests, "requests of each page")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if (c.data == "") != (c.book == "") {
		return errors.New("a kept book has both a directory and a name: DATA=folder BOOK=book_1000000")
	}
	if c.repositories < 1 || c.repositories > maxRepositories {
		return fmt.Errorf("%d repositories: want 1 to %d", c.repositories, maxRepositories)
	}
	target, err := harness.Below(*file)
	if err != nil {
		return err
	}
	if c.data, err = harness.Below(c.data); err != nil {
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
		return harness.Save(r, target)
	}
	return nil
}
