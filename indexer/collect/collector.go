package collect

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

const (
	// defaultFirst and defaultMost are the pauses after a failure, the first and the longest.
	defaultFirst = 5 * time.Minute
	defaultMost  = 24 * time.Hour
	// defaultBatch is how many blobs an order names: 1,000. The sweep walks all links for each
	// order, so few large orders are better; and what one does can be stopped by the pause.
	defaultBatch = 1000
	// defaultPoll is how often a running order looks whether the collection was paused: 500 ms.
	defaultPoll = 500 * time.Millisecond
	// lookedAtOnce is how many lines of a look are stored in one statement: 5,000.
	lookedAtOnce = 5000
	// clockSlack is how much earlier than the last look manifests are read again before
	// something is deleted: an hour. The clock of the storage may be another one.
	clockSlack = time.Hour
	// shownReason is how much is stored of why the storage refused something: 200 bytes.
	shownReason = 200
)

// A Config holds the settings of a Collector.
type Config struct {
	Store  *postgres.Store
	Client *Client
	Log    *slog.Logger
	Policy indexer.CollectPolicy
	Look   time.Duration // from the begin of one look to that of the next

	// The following are set by tests only.
	First, Most, Poll time.Duration
	Batch             int
}

// A Collector looks at the storage and has blobs deleted. One process at a time may run it.
type Collector struct {
	config  Config
	unknown bool // what is in the trash, because an order did not end: look again at once
}

// New returns a Collector.
func New(c Config) *Collector {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.First, c.Most = cmp.Or(c.First, defaultFirst), cmp.Or(c.Most, defaultMost)
	c.Batch, c.Poll = cmp.Or(c.Batch, defaultBatch), cmp.Or(c.Poll, defaultPoll)
	return &Collector{config: c, unknown: true}
}

// Step does what is due: it puts back what is needed, looks at the storage, moves blobs to the
// trash and deletes some from there. It is repeated often; most of the time nothing is due.
func (c *Collector) Step(ctx context.Context) error {
	if err := c.putBack(ctx); err != nil {
		return err
	}
	state, err := c.config.Store.Collection(ctx)
	if err != nil {
		return err
	}
	unknown := c.unknown && state.Of(indexer.Trashed).Blobs > 0
	if unknown || time.Since(state.LastLook) >= c.config.Look {
		if err := c.look(ctx); err != nil {
			return err
		}
		c.unknown = false
		if err := c.putBack(ctx); err != nil {
			return err
		}
		if state, err = c.config.Store.Collection(ctx); err != nil {
			return err
		}
	}
	refusal := c.config.Policy.Refusal(state)
	if err := c.config.Store.SetCollectionDoes(ctx, cmp.Or(refusal, "the collection deletes what may go")); err != nil {
		return err
	}
	if refusal != "" {
		return nil
	}
	return c.free(ctx, state.LastLook.Add(-clockSlack))
}

// look has the sweep look at the storage, and stores what it reports.
func (c *Collector) look(ctx context.Context) error {
	if err := c.config.Store.BeginLook(ctx); err != nil {
		return err
	}
	l := &looked{store: c.config.Store}
	if err := c.config.Client.call(ctx, "/look", struct{}{}, func(x line) error { return l.add(ctx, x) }); err != nil {
		return err
	}
	if err := l.flush(ctx); err != nil {
		return err
	}
	if err := c.config.Store.EndLook(ctx, l.sum, c.config.Look); err != nil {
		return err
	}
	c.config.Log.InfoContext(ctx, "storage looked at", "blobs", l.sum.Blobs, "bytes", l.sum.Bytes,
		"seconds", l.sum.Seconds, "unreadable", l.sum.Unreadable, "blind", l.sum.Blind)
	return nil
}

// A looked collects the lines of a look.
type looked struct {
	store     *postgres.Store
	blobs     []postgres.LookedBlob
	manifests []postgres.LookedManifest
	sum       indexer.StorageLook
	problems  []string
}

func (l *looked) add(ctx context.Context, x line) error {
	switch {
	case x.Blob != nil:
		d, err := digest.Parse(x.Blob.Digest)
		if err != nil || d.Algorithm() != digest.SHA256 {
			return fmt.Errorf("digest %.100q of a blob", x.Blob.Digest)
		}
		b := x.Blob
		l.blobs = append(l.blobs, postgres.LookedBlob{
			Digest: d, Size: b.Size, Stored: b.Stored, Linked: b.Linked, Used: b.Used, Trashed: b.Trashed,
		})
	case x.Manifest != nil:
		d, err := digest.Parse(x.Manifest.Digest)
		if err != nil || !indexer.IsRepository(x.Manifest.Repository) {
			return nil // of no use to anybody, and not in the book
		}
		l.manifests = append(l.manifests, postgres.LookedManifest{Repository: x.Manifest.Repository, Digest: d})
	case x.Problem != nil:
		l.problems = append(l.problems, indexer.CleanText(x.Problem.Path+" "+x.Problem.Reason))
	case x.Summary != nil:
		l.sum = x.Summary.look()
		l.sum.Problems = l.problems
	}
	if len(l.blobs)+len(l.manifests) < lookedAtOnce {
		return nil
	}
	return l.flush(ctx)
}

func (l *looked) flush(ctx context.Context) error {
	err := l.store.AddLooked(ctx, l.blobs, l.manifests)
	l.blobs, l.manifests = l.blobs[:0], l.manifests[:0]
	return err
}

func (s summaryLine) look() indexer.StorageLook {
	return indexer.StorageLook{
		Begin: s.Begin, Seconds: s.Seconds, Blobs: s.Blobs, Bytes: s.Bytes, Links: s.Links, Manifests: s.Manifests,
		AbandonedUploads: s.AbandonedUploads, AbandonedBytes: s.AbandonedBytes, ActiveUploads: s.ActiveUploads,
		Unreadable: s.Unreadable, Blind: indexer.CleanText(s.Blind),
	}
}

// putBack has everything put back from the trash that is needed.
func (c *Collector) putBack(ctx context.Context) error {
	needed, err := c.config.Store.NeededInTrash(ctx, c.config.Batch)
	if err != nil || len(needed) == 0 {
		return err
	}
	c.config.Log.WarnContext(ctx, "blobs in the trash are needed", "blobs", len(needed))
	_, err = c.order(ctx, "/restore", order{Digests: needed})
	return err
}

// free deletes from the trash and moves blobs there, until nothing is due.
func (c *Collector) free(ctx context.Context, since time.Time) error {
	p, store, n := c.config.Policy, c.config.Store, c.config.Batch
	err := c.drain(ctx, "/purge", order{Seconds: p.Trash.Seconds(), Since: since},
		func() ([]digest.Digest, error) { return store.DueForPurge(ctx, p.Trash, n) })
	if err != nil {
		return err
	}
	return c.drain(ctx, "/trash", order{Since: since},
		func() ([]digest.Digest, error) { return store.TakeForTrash(ctx, p.Delay, n) })
}

// drain gives orders for what is due, until nothing is, or an order does nothing.
func (c *Collector) drain(ctx context.Context, path string, o order, due func() ([]digest.Digest, error)) (err error) {
	for done := 1; done > 0 && err == nil; {
		if o.Digests, err = due(); err != nil || len(o.Digests) == 0 {
			return err
		}
		done, err = c.order(ctx, path, o)
	}
	return err
}

// order gives the sweep an order, stores what became of each blob, and returns the number of
// blobs of which this is known. If the collection is paused meanwhile, the order ends. After an
// order that was cut off, the next step looks at the storage to find out what is where.
func (c *Collector) order(ctx context.Context, path string, o order) (int, error) {
	stopped, stop := context.WithCancel(ctx)
	defer stop()
	if path != "/restore" {
		go c.stopIfPaused(stopped, stop)
	}
	r := results{path: path, outcomes: map[digest.Digest]doneLine{}}
	err := c.config.Client.call(stopped, path, o, r.add)
	settled := c.config.Store.Settle(context.WithoutCancel(ctx), r.settlement(c.config.First, c.config.Most))
	if err != nil || len(r.outcomes) < len(o.Digests) {
		c.unknown = true
		if stopped.Err() != nil && ctx.Err() == nil {
			c.config.Log.WarnContext(ctx, "an order to the sweep was stopped: the collection is paused")
			err = nil
		}
	}
	return len(r.outcomes), cmp.Or(err, settled)
}

// stopIfPaused stops an order when the collection is paused.
func (c *Collector) stopIfPaused(ctx context.Context, stop func()) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.config.Poll):
		}
		if paused, err := c.config.Store.CollectionPaused(ctx); err == nil && paused {
			stop()
		}
	}
}

// results are the last outcome of each blob of an order.
type results struct {
	path     string
	outcomes map[digest.Digest]doneLine
}

func (r *results) add(l line) error {
	if l.Done == nil {
		return nil
	}
	d, err := digest.Parse(l.Done.Digest)
	if err != nil {
		return fmt.Errorf("digest %.100q of a result", l.Done.Digest)
	}
	r.outcomes[d] = *l.Done
	return nil
}

// settlement returns what to store.
func (r *results) settlement(first, most time.Duration) postgres.Settlement {
	x := postgres.Settlement{Trashing: r.path == "/trash", Failed: map[digest.Digest]string{}, First: first, Most: most}
	for d, o := range r.outcomes {
		switch o.Outcome {
		case "trashed":
			x.Trashed = append(x.Trashed, d)
		case "deleted":
			x.Deleted = append(x.Deleted, d)
		case "restored":
			x.Restored = append(x.Restored, d)
		case "absent":
			x.Gone = append(x.Gone, d)
		case "kept":
			x.Kept = append(x.Kept, d)
		default:
			reason := indexer.CleanText(o.Reason)
			x.Failed[d] = strings.ToValidUTF8(reason[:min(len(reason), shownReason)], "")
		}
	}
	return x
}
