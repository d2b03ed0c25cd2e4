package copier

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
)

const (
	// defaultWorkers is how many objects are copied at the same time: 8, as a guess that neither
	// store nor line is overrun by.
	defaultWorkers = 8
	// attempts is how often an object is tried: 5 times, within some 3 s.
	attempts = 5
	// firstPause is before the second attempt: 200 ms. Each later one is twice as long.
	firstPause = 200 * time.Millisecond
	// maxKnown is how many paths that are in the destination are remembered, 16 bytes and the
	// map's own of each: some 50 MB at most. Others are asked for.
	maxKnown = 1 << 20
	// maxFailed is how many failures are remembered, so that each is tried once: 10,000.
	maxFailed = 10_000
	// stageLife is after which time what a copy has staged is not that of one that runs: a week.
	stageLife = 7 * 24 * time.Hour
)

// A Config holds the settings of a Copier.
type Config struct {
	From, To driver.StorageDriver
	// Workers is how many objects are copied at the same time; 0 means 8.
	Workers int
	// KeepTags leaves tags of the destination that show another manifest as they are. Otherwise
	// they are moved to the manifest of the source.
	KeepTags bool
	// Pause is before the second attempt to copy an object; 0 means 200 ms.
	Pause time.Duration
	// Failed is told about each object that was not copied. It may be called by several
	// goroutines at the same time.
	Failed func(path string, err error)
}

// A Copier copies from one storage to another.
type Copier struct {
	config Config
	stage  string // directory of what this copy stages
	counts counter
	once   singleflight.Group // by path

	mu     sync.Mutex // of what follows
	known  map[hash]struct{}
	failed map[string]error
}

// New returns a Copier.
func New(c Config) *Copier {
	if c.Workers == 0 {
		c.Workers = defaultWorkers
	}
	if c.Pause == 0 {
		c.Pause = firstPause
	}
	if c.Failed == nil {
		c.Failed = func(string, error) {}
	}
	c.From, c.To = timed{c.From}, timed{c.To}
	return &Copier{config: c, stage: newStage(time.Now()), known: map[hash]struct{}{}, failed: map[string]error{}}
}

// ErrNothing is the error of a copy from a storage in which no registry keeps its content.
var ErrNothing = errors.New("has no " + root[1:] + ": the stock registry does not keep its content there")

// Run copies everything, and returns when all has been tried. Counts has what was not copied. An
// error means that the source cannot be listed, that there is nothing, or that the context ended.
func (c *Copier) Run(ctx context.Context) error {
	if _, err := c.config.From.List(ctx, root); isAbsent(err) {
		return fmt.Errorf("the source %w", ErrNothing)
	} else if err != nil {
		return fmt.Errorf("list the source: %w", err)
	}
	c.counts.begin(time.Now())
	c.removeStale(ctx)
	defer c.removeStage(context.WithoutCancel(ctx))
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error { return c.count(ctx) })
	work.Go(func() error {
		for k := range kind(kinds) {
			if err := c.pass(ctx, k); err != nil {
				return err
			}
		}
		return nil
	})
	return work.Wait()
}

// Counts returns how far the copy is.
func (c *Copier) Counts() Counts { return c.counts.read() }

// count counts what there is to do, for the time that is left.
func (c *Copier) count(ctx context.Context) error {
	for _, dir := range []string{blobsRoot, repositoriesRoot} {
		err := c.walk(ctx, dir, func(f file) error { c.counts.found(f); return nil })
		if err != nil {
			return err
		}
	}
	c.counts.listed()
	return nil
}

// pass copies all files of one kind.
func (c *Copier) pass(ctx context.Context, k kind) error {
	dir := repositoriesRoot
	if k == data {
		dir = blobsRoot
	}
	files := make(chan file)
	work, ctx := errgroup.WithContext(ctx)
	work.Go(func() error {
		defer close(files)
		return c.walk(ctx, dir, func(f file) error {
			if f.kind != k {
				return nil
			}
			select {
			case files <- f:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	for range c.config.Workers {
		work.Go(func() error {
			for f := range files {
				if err := c.one(ctx, f); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return work.Wait()
}

// walk visits the files of the source below a directory, without those of uploads.
func (c *Copier) walk(ctx context.Context, dir string, visit func(file) error) error {
	err := c.config.From.Walk(ctx, dir, func(info driver.FileInfo) error {
		if info.IsDir() {
			if path.Base(info.Path()) == "_uploads" {
				return driver.ErrSkipDir
			}
			return nil
		}
		f := classify(info.Path())
		if f.kind == other {
			return nil
		}
		f.size = info.Size()
		return visit(f)
	})
	switch {
	case err == nil, isAbsent(err):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("list %s of the source: %w", dir, err)
}

// one copies one file, and counts what came of it.
func (c *Copier) one(ctx context.Context, f file) error {
	result, err := c.put(ctx, f, 0)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case isGone(err): // deleted since it was listed
		result = gone
	case err != nil:
		result = failed
		c.config.Failed(f.path, err)
	}
	c.counts.ended(f, result)
	return nil
}

// newStage returns the name of a directory for a copy that begins.
func newStage(now time.Time) string {
	return fmt.Sprintf("%s/%s-%d", stageRoot, now.UTC().Format(stampLayout), now.UnixNano()%1e9)
}

// stampLayout is the time in the name of a stage.
const stampLayout = "20060102T150405"

// removeStale deletes what copies that were killed have staged. That it fails does no harm.
func (c *Copier) removeStale(ctx context.Context) {
	stages, err := c.config.To.List(ctx, stageRoot)
	if err != nil {
		return
	}
	for _, stage := range stages {
		stamp, _, _ := strings.Cut(path.Base(stage), "-")
		if began, err := time.Parse(stampLayout, stamp); err == nil && time.Since(began) > stageLife {
			c.config.To.Delete(ctx, stage)
		}
	}
}

// removeStage deletes what an attempt that failed may have left.
func (c *Copier) removeStage(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stall)
	defer cancel()
	if !slices.Contains(wholeDrivers, c.config.To.Name()) {
		c.config.To.Delete(ctx, c.stage)
	}
}
