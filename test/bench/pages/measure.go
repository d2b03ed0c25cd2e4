package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
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

// Measure implements harness.Benchmark.
func (b *bench) Measure(ctx context.Context) error {
	if b.book == "" {
		if err := b.makeBook(ctx); err != nil {
			return err
		}
	} else if err := b.Migrate(ctx, b.book); err != nil { // an older program may have loaded it
		return err
	}
	samples, err := b.samples(ctx)
	if err != nil {
		return err
	}
	if err := b.Warm(ctx, b.book); err != nil {
		return err
	}
	err = b.askAll(ctx, samples)
	b.addPages()
	return err
}

// samples draws tags of the book and counts its repositories.
func (b *bench) samples(ctx context.Context) (samples []sample, err error) {
	err = b.On(ctx, b.book, func(conn *pgx.Conn) (err error) {
		const q = "SELECT count(*) FROM repository"
		if err := conn.QueryRow(ctx, q).Scan(&b.Report.Conditions.Repositories); err != nil {
			return err
		}
		samples, err = sampleTags(ctx, conn)
		return err
	})
	if err == nil && len(samples) == 0 {
		err = fmt.Errorf("the book %s has no tags", b.book)
	}
	return samples, err
}

// makeBook fills a registry and runs a scan of it.
func (b *bench) makeBook(ctx context.Context) error {
	b.book = newBook
	registry, err := b.StartRegistry(ctx, harness.InMemory, "")
	if err != nil {
		return err
	}
	b.Tell("Pushing %d repositories of %d tags", b.repositories, b.tags)
	if err := fill(ctx, push.New(registry.URL), b.repositories, b.tags, b.Tell); err != nil {
		return err
	}
	if err := b.NewDatabase(ctx, b.book); err != nil {
		return err
	}
	b.Tell("Scanning")
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
	reader, err := b.StartReader(ctx, b.book)
	if err != nil {
		return err
	}
	defer reader.Stop()
	// DisableCompression: otherwise this process would decompress the answers.
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: requestTimeout}
	for _, p := range pages {
		b.Tell("  %s (load average %s)", p.name, harness.LoadAverage())
		f, err := b.ask(ctx, client, reader.URL, p, samples)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		b.pages = append(b.pages, f)
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
	f.Requests, f.Bytes = len(times), harness.Quantile(sizes, 0.5)
	f.Median, f.P99 = harness.Quantile(times, 0.5), harness.Quantile(times, 0.99)
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

// addPages adds the figures of all pages to the report.
func (b *bench) addPages() {
	repositories := harness.Number(float64(b.Report.Conditions.Repositories))
	s := b.Section(fmt.Sprintf("Pages of a book of %s repositories, one request after the other", repositories))
	s.Table = [][]string{{"page", "median", "p99", "size", ""}}
	for _, f := range b.pages {
		s.Table = append(s.Table, f.row())
	}
}

// row returns the figures as a row of the table.
func (f figures) row() []string {
	if f.Requests == 0 {
		return []string{f.Name, "there is no such page", "", "", ""}
	}
	judged := ""
	if f.Goal > 0 {
		judged = harness.Figure{Value: f.Median}.Below(f.Goal).Judged()
	}
	return []string{
		f.Name, harness.Number(f.Median) + " ms", harness.Number(f.P99) + " ms", harness.Number(f.Bytes/1000) + " kB", judged,
	}
}
