package harness

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Benchmark is a program that measures. It embeds a Bench and says what is measured;
// Run does the rest.
type Benchmark interface {
	// Flags defines the flags of the benchmark.
	Flags(flags *flag.FlagSet)
	// Check checks the flags before anything is started.
	Check() error
	// Measure measures and adds to the report. If it fails, the results so far are
	// written, since they took long to measure.
	Measure(ctx context.Context) error
	// Results returns what is written as JSON.
	Results() any
	// Picture returns the results as SVG; "" if there is nothing to show.
	Picture() string
	// Base returns the Bench that the benchmark embeds.
	Base() *Bench
}

// A Bench is one run of a Benchmark: the programs under measurement, and the report.
type Bench struct {
	*System // nil before Measure
	Report  Report
	DataDir string // where PostgreSQL keeps its data; "": they are removed at the end
	LogFile string // for PostgreSQL's log; "": none

	json     string // the file for Results; "": none
	picture  string // the file for Picture; "": none
	progress io.Writer
}

// Base returns b.
func (b *Bench) Base() *Bench { return b }

// Results returns the report.
func (b *Bench) Results() any { return &b.Report }

// Picture returns "".
func (b *Bench) Picture() string { return "" }

// Main runs a benchmark until it ends or a signal stops it. An error is printed after
// the benchmark's name.
func Main(name string, b Benchmark) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := Run(ctx, name, b, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		stop()
		os.Exit(1)
	}
}

// Run runs a benchmark with the arguments of its command line, and writes the report to
// out. It returns an error if something could not be measured or a count is wrong, but
// not for a missed goal, since it is also missed on a busy machine.
func Run(ctx context.Context, name string, b Benchmark, args []string, out, progress io.Writer) error {
	r := b.Base()
	r.progress = progress
	if err := r.parse(name, b, args); err != nil {
		return err
	}
	err := r.measure(ctx, b)
	if r.System == nil {
		return err
	}
	err = errors.Join(err, r.Report.write(out))
	if r.json != "" {
		err = errors.Join(err, save(b.Results(), r.json))
	}
	if svg := b.Picture(); r.picture != "" && svg != "" {
		err = errors.Join(err, os.WriteFile(r.picture, []byte(svg), 0o644))
	}
	return errors.Join(err, r.Report.wrong())
}

// measure starts the programs, measures and stops them.
func (b *Bench) measure(ctx context.Context, benchmark Benchmark) (err error) {
	b.Report.Conditions = begin()
	b.Tell("Building the registry and the indexer, and starting PostgreSQL")
	if b.System, err = NewSystem(ctx, b.DataDir, b.LogFile); err != nil {
		return err
	}
	if err = b.version(ctx); err == nil {
		err = benchmark.Measure(ctx)
	}
	b.Report.Conditions.LoadAfter = LoadAverage()
	b.Tell("Stopping everything")
	err = errors.Join(err, b.Close())
	b.Report.Conditions.Seconds = time.Since(b.Report.Conditions.Began).Seconds()
	return err
}

// version adds PostgreSQL's version to the report.
func (b *Bench) version(ctx context.Context) error {
	return b.On(ctx, "postgres", func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SHOW server_version").Scan(&b.Report.Conditions.PostgreSQL)
	})
}

// Tell prints a line about the progress, with the time.
func (b *Bench) Tell(format string, args ...any) {
	fmt.Fprintf(b.progress, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// Section adds an empty section to the report.
func (b *Bench) Section(title string) *Section {
	s := &Section{Title: title}
	b.Report.Sections = append(b.Report.Sections, s)
	return s
}

// Step runs a part of the measurement, which fills a section of its own.
func (b *Bench) Step(ctx context.Context, title string, run func(context.Context, *Section) error) error {
	b.Tell("%s (load average %s)", title, LoadAverage())
	s, start := b.Section(title), time.Now()
	if err := run(ctx, s); err != nil {
		return fmt.Errorf("%s: %w", title, err)
	}
	s.Seconds = time.Since(start).Seconds()
	return nil
}

// variables are set on make's command line, as in make bench JSON=out.json, and stand
// for flags.
var variables = map[string]string{
	"JSON": "json", "PICTURE": "picture", "DATA": "data", "REPOS": "repositories", "TAGS": "tags", "BOOK": "book",
	"ZOT": "zot", "BLOBS": "blobs",
}

// parse sets the flags from make's variables and then from args. Relative paths are
// relative to the root of the clone.
func (b *Bench) parse(name string, benchmark Benchmark, args []string) (err error) {
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	flags.StringVar(&b.json, "json", "", "also write the figures to this `file`, as JSON (make: JSON=file)")
	flags.StringVar(&b.picture, "picture", "", "also draw the figures into this `file`, as SVG (make: PICTURE=file)")
	benchmark.Flags(flags)
	for variable, name := range variables {
		value := os.Getenv(variable)
		if value == "" || flags.Lookup(name) == nil {
			continue
		}
		if err := flags.Set(name, value); err != nil {
			return fmt.Errorf("%s=%s: %w", variable, value, err)
		}
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	for _, path := range []*string{&b.json, &b.picture, &b.DataDir, &b.LogFile} {
		if *path, err = InClone(*path); err != nil {
			return err
		}
	}
	return benchmark.Check()
}

// InClone makes a relative path relative to the root of the clone, where make runs,
// instead of the program's folder.
func InClone(file string) (string, error) {
	if file == "" || filepath.IsAbs(file) {
		return file, nil
	}
	root, err := clone()
	return filepath.Join(root, file), err
}

// clone returns the root of the repository: the first folder above the working
// directory that holds go.work.
func clone() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.work above the working directory: run this in a clone of Portbook")
		}
	}
}
