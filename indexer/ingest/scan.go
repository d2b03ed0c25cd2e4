package ingest

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
)

const (
	// progressEvery is how often a scan records and logs its progress.
	progressEvery = time.Second
	// namesPage is how many repository names are read from the book at once.
	namesPage = 1000
	// maxRepositoryErrors is the number of consecutive repositories with an error that
	// ends a scan: 100.
	maxRepositoryErrors = 100
	// maxAway is the number of consecutive repositories without an answer that ends a
	// scan: 5. Fewer may be due to those repositories, since a registry that panics drops
	// the connection.
	maxAway = 5
)

// A Scanner compares every tag of the registry with the book and adds a task for each
// difference. It deletes nothing: what it does not find gets a task too, and is deleted when
// the registry answers 404 for it.
type Scanner struct{ config ScannerConfig }

// A ScannerConfig holds the settings of a Scanner. All fields are required.
type ScannerConfig struct {
	Store       *postgres.Store
	Remote      *remote.Client
	Log         *slog.Logger
	Metrics     *Metrics
	Parallelism int    // maximum number of repositories that are compared at the same time
	Wake        func() // called when there is something to read
}

// NewScanner returns a scanner that does nothing before Run.
func NewScanner(c ScannerConfig) *Scanner { return &Scanner{c} }

// Run does the scan that is waiting or unfinished, and reports whether there was one. A
// scan that ends early stays unfinished, and the next Run continues it.
func (s *Scanner) Run(ctx context.Context) (ran bool, err error) {
	scan, err := s.next(ctx)
	if err != nil || scan == nil {
		return false, err
	}
	return true, scan(ctx)
}

// next returns the scan that is waiting or unfinished, or nil if there is none.
func (s *Scanner) next(ctx context.Context) (step, error) {
	scan, cursor, err := s.config.Store.NextScan(ctx)
	if errors.Is(err, indexer.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	run := &scanRun{ScannerConfig: s.config, scan: scan, from: cursor, cursor: cursor, atCursor: scan}
	run.seen = map[string]bool{}
	return run.do, nil
}

// do does the scan and records its end, or its progress if it fails.
func (r *scanRun) do(ctx context.Context) error {
	r.Log.InfoContext(ctx, "scan begins", "scan", r.scan.ID, "reason", r.scan.Reason, "after", r.cursor)
	r.Metrics.ScanRunning.Set(1)
	defer r.Metrics.ScanRunning.Set(0)
	if err := r.all(ctx); err != nil {
		return errors.Join(err, r.interrupt(ctx, err))
	}
	r.show(r.scan)
	if err := r.Store.FinishScan(ctx, r.scan, ""); err != nil {
		return err
	}
	took := time.Since(r.scan.StartedAt)
	r.Metrics.ScanSeconds.Set(took.Seconds())
	r.Log.InfoContext(ctx, "scan done", "scan", r.scan.ID, "repositories", r.scan.Repositories, "tags", r.scan.Tags,
		"changed", r.scan.Changed, "errors", r.scan.Errors, "took", took.Round(time.Millisecond))
	return nil
}

// A scanRun is one scan under way.
type scanRun struct {
	ScannerConfig
	seen map[string]bool // repositories compared since this process took over the scan
	from string          // the cursor at that time; "" if the scan is new

	mu       sync.Mutex
	scan     indexer.Scan
	cursor   string
	atCursor indexer.Scan      // the counts up to the cursor
	order    []string          // repositories begun after the cursor, in catalogue order
	finished map[string]counts // the counts of those that are finished
	inARow   int               // consecutive repositories that failed
	away     int               // consecutive repositories without an answer
	logged   time.Time         // when the progress was last logged
}

// counts are what one repository adds to a scan.
type counts struct{ tags, changed, errors int }

func (c counts) addTo(s *indexer.Scan) {
	s.Repositories++
	s.Tags += c.tags
	s.Changed += c.changed
	s.Errors += c.errors
}

// listAhead is how many names may be listed before they are compared, so that the
// remaining work is known: 100,000 names are a few megabytes.
const listAhead = 100_000

// all compares the repositories of the catalogue, then those that only the book has: a
// repository missing from the catalogue is requested by name before it is deleted.
func (r *scanRun) all(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var reporting sync.WaitGroup
	reporting.Go(func() { r.report(ctx) })
	defer reporting.Wait()
	defer stop()

	r.finished = map[string]counts{}
	names := make(chan string, listAhead)
	group, looking := errgroup.WithContext(ctx)
	group.SetLimit(r.Parallelism)
	var listing error // read only after names, and so chunks, is closed
	go func() {
		defer close(names)
		listing = r.list(looking, names)
	}()
	chunks := make(chan chunk)
	var preparing error // read only after chunks is closed
	go func() {
		defer close(chunks)
		if preparing = r.prepare(looking, names, chunks); preparing != nil {
			stop()
			for range names { // until the listing ends too
			}
		}
	}()
	for c := range chunks {
		r.begin(looking, group, c, true)
	}
	if err := errors.Join(preparing, group.Wait(), listing); err != nil {
		return err
	}
	return r.forgotten(ctx)
}

// A chunk is a list of repositories to compare, with the state of each in the book.
type chunk struct {
	names   []string
	shelves []postgres.Shelf
}

// prepare reads the next repositories from the database while others are compared.
func (r *scanRun) prepare(ctx context.Context, names <-chan string, chunks chan<- chunk) error {
	for name := range names {
		c, err := r.chunk(ctx, take(name, names))
		if err != nil {
			return err
		}
		chunks <- c
	}
	return nil
}

// chunk returns the named repositories, without those already seen.
func (r *scanRun) chunk(ctx context.Context, names []string) (c chunk, err error) {
	for _, name := range names {
		if !r.seen[name] && indexer.IsRepository(name) {
			c.names = append(c.names, name)
		}
		r.seen[name] = true
	}
	if len(c.names) > 0 {
		c.shelves, err = r.Store.Shelves(ctx, c.names)
	}
	return c, err
}

// shelvesAtOnce is how many repositories one query reads from the database: 32. With one
// query for each, a scan without differences spent a third of its time on them.
const shelvesAtOnce = 32

// take returns a name and up to shelvesAtOnce-1 further names that are available.
func take(name string, names <-chan string) []string {
	taken := []string{name}
	for len(taken) < shelvesAtOnce {
		select {
		case next, open := <-names:
			if !open {
				return taken
			}
			taken = append(taken, next)
		default:
			return taken
		}
	}
	return taken
}

// list sends the repositories of the catalogue after the cursor to names.
func (r *scanRun) list(ctx context.Context, names chan<- string) error {
	for name, err := range r.Remote.Repositories(ctx, r.cursor) {
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.scan.Listed++
		r.mu.Unlock()
		select {
		case names <- name:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// begin starts the comparison of repositories, within the parallelism.
func (r *scanRun) begin(ctx context.Context, group *errgroup.Group, c chunk, inOrder bool) {
	for i, name := range c.names {
		if inOrder {
			r.mu.Lock()
			r.order = append(r.order, name)
			r.mu.Unlock()
		}
		group.Go(func() error { return r.repository(ctx, name, c.shelves[i]) })
	}
}

// forgotten compares the repositories of the book that the catalogue did not list.
func (r *scanRun) forgotten(ctx context.Context) error {
	if err := r.listBefore(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(r.Parallelism)
	after := ""
	for {
		names, err := r.Store.RepositoryNames(ctx, after, namesPage)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		for some := range slices.Chunk(names, shelvesAtOnce) {
			c, err := r.chunk(ctx, some)
			if err != nil {
				return errors.Join(err, group.Wait())
			}
			r.begin(ctx, group, c, false)
		}
		if len(names) < namesPage {
			return group.Wait()
		}
		after = names[len(names)-1]
	}
}

// listBefore marks as seen the repositories of the catalogue up to the cursor at which this
// process took over the scan: the process before has compared and counted them.
func (r *scanRun) listBefore(ctx context.Context) error {
	if r.from == "" {
		return nil
	}
	for name, err := range r.Remote.Repositories(ctx, "") {
		if err != nil {
			return err
		}
		r.seen[name] = true
		if name == r.from {
			break
		}
	}
	return nil
}

// repository compares one repository. An error is counted and does not end the scan unless
// the database or the registry is unavailable; the scan then continues later from the first
// repository without an answer.
func (r *scanRun) repository(ctx context.Context, name string, shelf postgres.Shelf) error {
	tags, asks, err := r.compare(ctx, name, shelf)
	if err == nil && len(asks) > 0 {
		if err = r.Store.Ask(ctx, asks); err == nil {
			r.Wake()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		r.inARow++
		r.Log.WarnContext(ctx, "repository not scanned", "repository", name, "error", err)
		if r.inARow >= maxRepositoryErrors {
			return err
		}
		if errors.Is(err, indexer.ErrUnavailable) {
			r.scan.Errors++
			r.away++
			if r.away >= maxAway {
				return err
			}
			return nil // not advanced: the process that continues the scan tries again
		}
	default:
		r.inARow = 0
	}
	r.away = 0
	c := counts{tags: tags, changed: len(asks)}
	if err != nil {
		c.errors = 1
	}
	c.addTo(&r.scan)
	r.advance(name, c)
	return nil
}

// advance moves the cursor to the last repository before the first unfinished one, so that
// a scan that continues from it misses nothing.
func (r *scanRun) advance(name string, c counts) {
	r.finished[name] = c
	for len(r.order) > 0 {
		first := r.order[0]
		c, finished := r.finished[first]
		if !finished {
			return
		}
		r.cursor = first
		c.addTo(&r.atCursor)
		delete(r.finished, first)
		r.order = r.order[1:]
	}
}

// compare returns the number of tags of a repository, and a task for each reference that may
// differ from the book: tags that are new, moved, gone or broken, untagged manifests that
// are gone, manifests that an index lists and the book lacks, and all given-up tasks.
func (r *scanRun) compare(
	ctx context.Context, name string, shelf postgres.Shelf,
) (tags int, asks []indexer.Ask, err error) {
	listed, err := r.Remote.Tags(ctx, name)
	if err != nil && !errors.Is(err, indexer.ErrNotFound) { // 404: no tag was ever pushed, or all is gone
		return 0, nil, err
	}
	look := func(reference indexer.TagOrDigest) {
		asks = append(asks, indexer.Ask{Repository: name, Reference: reference, Priority: indexer.PriorityScan})
	}
	for _, tag := range listed {
		if !indexer.IsTag(tag) {
			continue // no request could name it
		}
		same, err := r.same(ctx, name, tag, shelf.Tags[tag])
		if err != nil {
			return 0, nil, err
		}
		if !same {
			look(indexer.TagOrDigest(tag))
		}
		delete(shelf.Tags, tag)
	}
	for tag := range shelf.Tags {
		look(indexer.TagOrDigest(tag))
	}
	for _, d := range shelf.Manifests {
		gone, err := r.gone(ctx, name, d)
		if err != nil {
			return 0, nil, err
		}
		if gone {
			look(indexer.TagOrDigest(d))
		}
	}
	for _, d := range shelf.Missing {
		gone, err := r.gone(ctx, name, d)
		if err != nil {
			return 0, nil, err
		}
		if !gone {
			look(indexer.TagOrDigest(d))
		}
	}
	for _, d := range shelf.GivenUp {
		look(indexer.TagOrDigest(d))
	}
	return len(listed), asks, nil
}

// same reports whether a tag shows the digest that the book has. It returns false for a tag
// that the registry cannot serve: the worker that reads it records why.
func (r *scanRun) same(ctx context.Context, repository, tag string, known digest.Digest) (bool, error) {
	if known == "" {
		return false, nil
	}
	shown, err := r.Remote.Shows(ctx, repository, tag, known)
	if errors.Is(err, indexer.ErrUnavailable) || ctx.Err() != nil {
		return false, err
	}
	return err == nil && shown == known, nil
}

// gone reports whether the registry answers for a manifest with 404 or another error.
func (r *scanRun) gone(ctx context.Context, repository string, d digest.Digest) (bool, error) {
	err := r.Remote.Exists(ctx, repository, d)
	if errors.Is(err, indexer.ErrUnavailable) || ctx.Err() != nil {
		return false, err
	}
	return err != nil, nil
}

// report records and logs the progress of the scan until its context ends.
func (r *scanRun) report(ctx context.Context) {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			// Not cancelled with the scan: the server may still run a cancelled statement,
			// after the final record, and overwrite it.
			if err := r.save(context.WithoutCancel(ctx)); err != nil && ctx.Err() == nil {
				r.Log.WarnContext(ctx, "scan progress not recorded", "error", err)
			}
		}
	}
}

// logEvery is how often a long scan logs a line.
const logEvery = 10 * time.Second

func (r *scanRun) logProgress(scan indexer.Scan) {
	if r.logged.IsZero() {
		r.logged = scan.StartedAt
	}
	if time.Since(r.logged) < logEvery {
		return
	}
	r.logged = time.Now()
	rate := float64(scan.Repositories) / time.Since(scan.StartedAt).Seconds()
	left := time.Duration(float64(scan.Listed-scan.Repositories) / max(rate, 0.001) * float64(time.Second))
	r.Log.Info("scan progress", "scan", scan.ID,
		"repositories", scan.Repositories, "listed", scan.Listed, "tags", scan.Tags, "changed", scan.Changed,
		"errors", scan.Errors, "per_second", int(rate), "left", left.Round(time.Second))
}

// show sets the metrics of a scan and logs its progress.
func (r *scanRun) show(scan indexer.Scan) {
	for what, n := range map[string]int{
		"repositories": scan.Repositories, "tags": scan.Tags, "changed": scan.Changed, "errors": scan.Errors,
	} {
		r.Metrics.ScanLooked.WithLabelValues(what).Set(float64(n))
	}
	r.logProgress(scan)
}

// saveTimeout limits one record of the progress: 5 s.
const saveTimeout = 5 * time.Second

// interrupt records the progress of a scan that failed, and the reason unless the context
// has ended.
func (r *scanRun) interrupt(ctx context.Context, why error) error {
	whole := context.WithoutCancel(ctx)
	if err := r.save(whole); err != nil || ctx.Err() != nil {
		return err
	}
	whole, cancel := context.WithTimeout(whole, saveTimeout)
	defer cancel()
	return r.Store.InterruptScan(whole, r.scan, reason(why))
}

func (r *scanRun) save(ctx context.Context) error {
	r.mu.Lock()
	scan, cursor, atCursor := r.scan, r.cursor, r.atCursor
	r.mu.Unlock()
	r.show(scan)
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	return r.Store.Progress(ctx, scan, cursor, atCursor)
}
