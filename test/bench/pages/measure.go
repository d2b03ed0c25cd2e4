package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/registry/push"
	"github.com/portbook/portbook/test/bench/harness"
)

const (
	// scanTimeout is for 30,000 tags on a busy machine; an idle one takes a minute.
	scanTimeout = 20 * time.Minute
	// requestTimeout is how long to wait for an answer.
	requestTimeout = 30 * time.Second
	// pageTime is the most time spent on one page.
	pageTime = 20 * time.Second
	// newBook is the database of the new book.
	newBook = "pages"
)

// A report holds the results and the conditions of the measurement.
type report struct {
	Conditions harness.Conditions `json:"conditions"`
	Book       string             `json:"book"`
	Pages      []figures          `json:"pages"`
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

// A bench is one run of the program.
type bench struct {
	*harness.System
	config
	progress io.Writer
	report   report
}

// measure runs all measurements and cleans up.
func measure(ctx context.Context, c config, progress io.Writer) (_ *report, err error) {
	b := &bench{config: c, progress: progress}
	b.report.Conditions = harness.Begin()
	b.tell("Building the registry and the indexer, and starting PostgreSQL")
	if b.System, err = harness.NewSystem(ctx, c.data, ""); err != nil {
		return nil, err
	}
	err = b.all(ctx)
	b.report.Conditions.LoadAfter = harness.LoadAverage()
	b.tell("Stopping everything")
	err = errors.Join(err, b.Close())
	b.report.Conditions.Seconds = time.Since(b.report.Conditions.Began).Seconds()
	return &b.report, err
}

func (b *bench) tell(format string, args ...any) {
	fmt.Fprintf(b.progress, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

func (b *bench) all(ctx context.Context) error {
	if b.book == "" {
		if err := b.makeBook(ctx); err != nil {
			return err
		}
	} else if err := b.Migrate(ctx, b.book); err != nil { // an older program may have loaded it
		return err
	}
	b.report.Book = b.book
	var samples []sample
	err := b.On(ctx, b.book, func(conn *pgx.Conn) (err error) {
		c := &b.report.Conditions
		if err := conn.QueryRow(ctx, "SHOW server_version").Scan(&c.PostgreSQL); err != nil {
			return err
		}
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM repository").Scan(&c.Repositories); err != nil {
			return err
		}
		samples, err = sampleTags(ctx, conn)
		return err
	})
	if err != nil {
		return err
	}
	if len(samples) == 0 {
		return fmt.Errorf("the book %s has no tags", b.book)
	}
	if err := b.Warm(ctx, b.book); err != nil {
		return err
	}
	return b.askAll(ctx, samples)
}

// makeBook fills a registry and runs a scan of it.
func (b *bench) makeBook(ctx context.Context) error {
	b.book = newBook
	registry, err := b.StartRegistry(ctx, harness.InMemory, "")
	if err != nil {
		return err
	}
	b.tell("Pushing %d repositories of %d tags", b.repositories, b.tags)
	if err := fill(ctx, push.New(registry.URL), b.repositories, b.tags, b.tell); err != nil {
		return err
	}
	if err := b.NewDatabase(ctx, b.book); err != nil {
		return err
	}
	b.tell("Scanning")
	scan, err := b.StartScan(registry.URL, b.book)
	if err != nil {
		return err
	}
	err = harness.Wait(ctx, scanTimeout, "the scan's end", func() (bool, error) { return scan.Gone(), nil })
	if err != nil {
		return err
	}
	if outcome := scan.Outcome(); outcome != "exit status 0" {
		return fmt.Errorf("portbook scan: %s: %s", outcome, scan.Tail())
	}
	registry.Stop()
	// The state of a book that has existed for a while.
	return b.On(ctx, b.book, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "VACUUM (ANALYZE)")
		return err
	})
}

// askAll requests every page from a reader.
func (b *bench) askAll(ctx context.Context, samples []sample) error {
	address, err := harness.FreeAddress()
	if err != nil {
		return err
	}
	reader, err := b.StartIndexer(ctx, b.book, address, "PORTBOOK_ROLE=reader", "PORTBOOK_COMPONENTS_WEB_UI=true")
	if err != nil {
		return err
	}
	defer reader.Stop()
	// DisableCompression: otherwise this process would decompress the answers.
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: requestTimeout}
	for _, p := range pages {
		b.tell("  %s (load average %s)", p.name, harness.LoadAverage())
		f, err := b.ask(ctx, client, reader.URL, p, samples)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		b.report.Pages = append(b.report.Pages, f)
	}
	return nil
}

// ask requests one page: some requests to warm up, then the measured ones.
func (b *bench) ask(ctx context.Context, client *http.Client, base string, p page, samples []sample) (figures, error) {
	f := figures{Name: p.name, Goal: p.goal}
	var times, sizes []float64
	warm := b.requests / 10
	begin := time.Now()
	for number := range warm + b.requests {
		address := base + p.path(newDraw(p.name, number, samples))
		etag := ""
		if p.again {
			first, err := get(ctx, client, address, "")
			if err != nil {
				return f, err
			}
			etag = first.etag
		}
		a, err := get(ctx, client, address, etag)
		if err != nil {
			return f, err
		}
		if a.status == http.StatusNotFound && p.wantStatus() != http.StatusNotFound {
			return f, nil
		}
		if a.status != p.wantStatus() {
			return f, fmt.Errorf("%s: status %d, want %d", address, a.status, p.wantStatus())
		}
		if number < warm {
			continue
		}
		times, sizes = append(times, a.ms), append(sizes, float64(a.bytes))
		if time.Since(begin) > pageTime {
			break
		}
	}
	f.Requests, f.Median, f.P99, f.Bytes = len(times), harness.Quantile(times, 0.5), harness.Quantile(times, 0.99), harness.Quantile(sizes, 0.5)
	return f, nil
}

// An answer is the result of one request.
type answer struct {
	ms     float64
	bytes  int64 // of the body
	status int
	etag   string
}

// get sends one request as a browser does, and reads the whole answer.
func get(ctx context.Context, client *http.Client, address, etag string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Accept-Encoding", "gzip")
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	start := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	return answer{harness.Milliseconds(time.Since(start)), n, resp.StatusCode, resp.Header.Get("ETag")}, err
}

// write prints the report for people.
func (r *report) write(w io.Writer) error {
	fmt.Fprintf(w, "\n%s\n\nPages of a book of %s repositories, one request after the other\n", r.Conditions, harness.Number(float64(r.Conditions.Repositories)))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  page\tmedian\tp99\tsize\t")
	for _, f := range r.Pages {
		if f.Requests == 0 {
			fmt.Fprintf(table, "  %s\tthere is no such page\t\t\t\n", f.Name)
			continue
		}
		judged := ""
		if f.Goal > 0 {
			judged = harness.Figure{Value: f.Median}.Below(f.Goal).Judged()
		}
		cells := []string{f.Name, harness.Number(f.Median) + " ms", harness.Number(f.P99) + " ms", harness.Number(f.Bytes/1000) + " kB", judged}
		fmt.Fprintf(table, "  %s\n", strings.Join(cells, "\t"))
	}
	return table.Flush()
}
