package login

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer/access"
)

const (
	// refusalWindow is the time in which the same refusal is recorded once: 1 min.
	refusalWindow = time.Minute
	// maxRefusals is the maximum number of refusals recorded in a window: 30, and 10 from one
	// address, so that one that guesses does not hide another. So the table gets at most 44,640
	// rows a day from each process, 23 MB, whatever comes.
	maxRefusals     = 30
	maxRefusalsFrom = 10
	// refusalStep is how often refusals are written: every 2 s.
	refusalStep = 2 * time.Second
	// refusalTime limits one writing: 5 s.
	refusalTime = 5 * time.Second
)

// Refusals records refused logins and requests. They are written in batches in the background,
// so that no request waits for that, and at most maxRefusals of them in a minute: the others
// are counted in one record. Its methods are safe for concurrent use. A nil *Refusals records
// nothing.
type Refusals struct {
	write func(context.Context, []access.Record) error
	log   *slog.Logger
	batch []access.Record // is being written

	mu      sync.Mutex
	began   time.Time // of the window
	seen    map[access.Record]bool
	from    map[string]int // how many of seen are from an address
	waiting []access.Record
	left    int    // how many of the window are not recorded
	last    string // the request of the last one: what refuses a request twice counts once
}

// NewRefusals returns a Refusals that writes by a function.
func NewRefusals(write func(context.Context, []access.Record) error, log *slog.Logger) *Refusals {
	return &Refusals{write: write, log: log}
}

// Add records a refusal, or counts it. Two that differ in their request only are the same.
func (f *Refusals) Add(r access.Record) {
	if f == nil {
		return
	}
	r.Refused = true
	key := r
	key.Request = ""
	f.mu.Lock()
	defer f.mu.Unlock()
	full := len(f.seen) >= maxRefusals || f.from[r.Actor.Source] >= maxRefusalsFrom || len(f.waiting) >= maxRefusals
	if again := r.Request != "" && r.Request == f.last; again {
		return
	}
	f.last = r.Request
	if f.seen[key] || full {
		f.left++
		return
	}
	if f.seen == nil {
		f.seen, f.from = map[access.Record]bool{}, map[string]int{}
	}
	f.seen[key] = true
	f.from[r.Actor.Source]++
	f.waiting = append(f.waiting, r)
}

// Run writes refusals until ctx ends, and then once more.
func (f *Refusals) Run(ctx context.Context) error {
	tick := time.NewTicker(refusalStep)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			f.Step(ctx, now)
		case <-ctx.Done():
			f.Step(context.WithoutCancel(ctx), f.began.Add(refusalWindow)) // the rest is counted too
			return nil
		}
	}
}

// Step writes what was added since the last step. If that fails, the next one tries again, and
// meanwhile no more than two batches are kept. One caller at a time may call it.
func (f *Refusals) Step(ctx context.Context, now time.Time) {
	if len(f.batch) == 0 {
		f.batch = f.take(now)
	}
	if len(f.batch) == 0 {
		return
	}
	limited, cancel := context.WithTimeout(ctx, refusalTime)
	defer cancel()
	if err := f.write(limited, f.batch); err != nil {
		f.log.WarnContext(ctx, "refusals not recorded yet", "refusals", len(f.batch), "error", err)
		return
	}
	f.batch = nil
}

// take returns what is to be written. At the end of a window the last record counts what was
// left out.
func (f *Refusals) take(now time.Time) []access.Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	batch := f.waiting
	f.waiting = nil
	if now.Sub(f.began) < refusalWindow {
		return batch
	}
	if f.left > 0 {
		detail := fmt.Sprintf("and %d more within a minute, like those before or from too many", f.left)
		batch = append(batch, access.Record{Event: access.Login, Refused: true, Detail: detail})
	}
	f.began, f.seen, f.from, f.left = now, nil, nil, 0
	return batch
}
