package memory

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
)

var (
	// ErrNotReady means that a copy does not hold the repositories: it is being built, is
	// behind by more than a request can wait for, or was too large.
	ErrNotReady = errors.New("the copy in memory is not ready")
	// ErrTooLarge means that a copy would take more memory than it may.
	ErrTooLarge = errors.New("the copy in memory would exceed its limit")
	// ErrPast means that a copy is past the requested state and does not hold it any more. A
	// newer snapshot of the same server is not past.
	ErrPast = errors.New("the copy in memory is past this state")
)

const (
	// keptStates is the number of states that a copy holds: 8. They share nearly all
	// memory. A request whose snapshot is a little older than that of another request,
	// which brought the copy up to date, finds its state among them.
	keptStates = 8
	// maxChanged is the maximum number of changed repositories that a request takes in: 500,
	// some 20 ms. A copy that is further behind is brought up to date by Run.
	maxChanged = 500
)

// A Copy holds the search rows of a book in memory, as States. It is brought up to date
// by those who read it. It is safe for concurrent use.
type Copy struct {
	limit  int                      // bytes
	states atomic.Pointer[[]*State] // the newest last; nil: not ready
	sights *sights
	shown  *shown
	turn   chan struct{} // held while states change
}

// New returns a copy that is not ready and may take a number of bytes.
func New(limit int) *Copy {
	return &Copy{limit: limit, sights: newSights(), shown: newShown(), turn: make(chan struct{}, 1)}
}

// A Source reads one snapshot of the book.
type Source interface {
	// Changed returns the repositories that changed since a state. It reports false if that
	// is not known.
	Changed(ctx context.Context, since Vector) (ids []int32, known bool, err error)
	// Rows returns the rows of repositories, in any order, without those that have none.
	Rows(ctx context.Context, ids []int32) ([]Row, error)
}

// At returns the state of a vector, which is that of the snapshot of source. If no request
// has done so yet, it takes in what changed since the newest state. It returns ErrNotReady
// or ErrPast, or an error of source.
func (c *Copy) At(ctx context.Context, v Vector, source Source) (*State, error) {
	return c.at(ctx, v, source, maxChanged)
}

// CatchUp is At for any number of changes.
func (c *Copy) CatchUp(ctx context.Context, v Vector, source Source) (*State, error) {
	return c.at(ctx, v, source, math.MaxInt)
}

func (c *Copy) at(ctx context.Context, v Vector, source Source, most int) (*State, error) {
	if st, err := c.held(v); st != nil || err != nil {
		return st, err
	}
	if err := c.take(ctx); err != nil {
		return nil, err
	}
	defer c.giveBack()
	if st, err := c.held(v); st != nil || err != nil { // another request has taken it in
		return st, err
	}
	newest := c.Newest()
	ids, known, err := source.Changed(ctx, newest.vector)
	switch {
	case err != nil:
		return nil, err
	case !known:
		c.states.Store(nil) // to be built again
		return nil, ErrNotReady
	case len(ids) > most:
		return nil, ErrNotReady
	}
	var rows []Row
	if len(ids) > 0 {
		if rows, err = source.Rows(ctx, ids); err != nil {
			return nil, err
		}
	}
	return c.publish(newest.with(v, ids, rows).mergeSmall())
}

func (c *Copy) take(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Copy) giveBack() { <-c.turn }

// held returns the state of v, or nil if the copy must take in changes.
func (c *Copy) held(v Vector) (*State, error) {
	states := c.states.Load()
	if states == nil {
		return nil, ErrNotReady
	}
	for _, st := range slices.Backward(*states) {
		if st.vector.Equal(v) {
			return st, nil
		}
	}
	newest := (*states)[len(*states)-1].vector
	switch _, later := v.After(newest); {
	case later:
		return nil, nil
	case v.Epoch != newest.Epoch:
		c.states.CompareAndSwap(states, nil) // to be built again
		return nil, ErrNotReady
	}
	return nil, ErrPast
}

// Newest returns the newest state, nil if the copy is not ready.
func (c *Copy) Newest() *State {
	states := c.states.Load()
	if states == nil {
		return nil
	}
	return (*states)[len(*states)-1]
}

// publish makes st the newest state.
func (c *Copy) publish(st *State) (*State, error) {
	if err := c.fits(st.Bytes()); err != nil {
		c.states.Store(nil)
		return nil, fmt.Errorf("%w: %w", err, ErrNotReady)
	}
	var kept []*State
	if states := c.states.Load(); states != nil {
		kept = slices.Clone((*states)[max(0, len(*states)+1-keptStates):])
	}
	kept = append(kept, st)
	c.states.Store(&kept)
	return st, nil
}

func (c *Copy) fits(bytes int) error {
	if bytes > c.limit {
		return fmt.Errorf("%d MB of at most %d: %w", bytes>>20, c.limit>>20, ErrTooLarge)
	}
	return nil
}

// HasRoom reports whether a copy with a state may grow by an eighth. The images of
// repositories take about that much.
func (c *Copy) HasRoom(st *State) bool { return c.fits(st.Bytes()+st.Bytes()/8) == nil }

// Merge merges some segments into one, if that is due, and reports whether it did.
// Questions are not delayed by it.
func (c *Copy) Merge(ctx context.Context) (bool, error) {
	newest := c.Newest()
	if newest == nil {
		return false, nil
	}
	parts := newest.due()
	if parts == nil {
		return false, nil
	}
	by := newest.merged(parts)
	if err := c.take(ctx); err != nil {
		return false, err
	}
	defer c.giveBack()
	if now := c.Newest(); now != nil && now.facts == newest.facts {
		st := now.replace(parts, by)
		kept := slices.Clone(*c.states.Load())
		kept[len(kept)-1] = st // the same state of the book
		c.states.Store(&kept)
	}
	return true, nil
}

// A Builder collects all repositories of a book for a copy.
type Builder struct {
	copy  *Copy
	parts []part
	facts *dictionary
	bytes int
}

// Builder returns a builder that has no repositories yet.
func (c *Copy) Builder() *Builder { return &Builder{copy: c, facts: newDictionary()} }

// MaxRows is the maximum number of rows of one call of Add: 65,536. As many in each call
// make the fewest segments.
const MaxRows = maxDocuments

// Add adds repositories that were not added before. It returns ErrTooLarge if the copy may
// not be so large.
func (b *Builder) Add(rows []Row) error {
	if len(rows) == 0 {
		return nil
	}
	p := newPart(newSegment(rows, b.facts))
	b.parts = append(b.parts, p)
	b.bytes += p.size
	return b.copy.fits(b.bytes + b.facts.size())
}

// Replace makes the copy ready with the repositories of b, in the state of v, which is that
// of the snapshot of source. All rows of b were read from the state since or later ones, so
// what changed since then is read again. It returns ErrNotReady if that is not known.
func (b *Builder) Replace(ctx context.Context, since, v Vector, source Source) error {
	ids, known, err := source.Changed(ctx, since)
	if err != nil {
		return err
	}
	if !known {
		return ErrNotReady
	}
	rows, err := source.Rows(ctx, ids)
	if err != nil {
		return err
	}
	if err := b.copy.take(ctx); err != nil {
		return err
	}
	defer b.copy.giveBack()
	st := &State{vector: since, parts: b.parts, facts: b.facts, sights: b.copy.sights, shown: b.copy.shown}
	b.copy.states.Store(nil)
	_, err = b.copy.publish(st.with(v, ids, rows))
	return err
}
