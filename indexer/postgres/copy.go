package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/search"
)

const (
	// copyEvery is how often KeepCopy looks for changes that no request has taken in: each
	// second, so that the first request after a pause finds little to do.
	copyEvery = time.Second
	// copyShare is how many times longer than the last build the pause before the next one
	// is: ten times. A copy that must be built again and again, because a program of before
	// writes, so takes at most a tenth of a processor.
	copyShare = 10
	// copyTooLarge is the pause after a copy was too large: 10 minutes.
	copyTooLarge = 10 * time.Minute
	// copyRows is the number of search rows that one statement reads for a copy: 8,192,
	// about 100 ms.
	copyRows = 8192
	// copyImages is the number of repositories whose images one statement reads for a copy:
	// 2,048, about 100 ms at ten images each.
	copyImages = 2048
	// copyTimeout limits one view that reads search rows for a copy: 1 minute.
	copyTimeout = time.Minute
)

// A keeper keeps the copy in memory of a store.
type keeper struct {
	*memory.Copy
	built atomic.Pointer[build]
	now   chan struct{} // wakes KeepCopy
}

func newKeeper(limit int) *keeper {
	return &keeper{Copy: memory.New(limit), now: make(chan struct{}, 1)}
}

// A build says how a copy was last built.
type build struct {
	at   time.Time
	took time.Duration
	err  error // why it was not; nil if it was
}

// SearchCopy returns the state of the copy in memory.
func (s *Store) SearchCopy() indexer.SearchCopy { return s.keeper.status() }

// Copy returns the state of the copy in memory, which is not part of the snapshot. It tells
// its size only to those who see all repositories.
func (v *View) Copy(context.Context) (indexer.SearchCopy, error) {
	status := v.copy.status()
	if !v.visible.All() {
		status.Repositories, status.Segments, status.Bytes = 0, 0, 0
	}
	return status, nil
}

func (k *keeper) status() (status indexer.SearchCopy) {
	if k == nil {
		return status
	}
	status.Kept = true
	if built := k.built.Load(); built != nil {
		status.BuiltAt, status.Took = built.at, built.took
		status.TooLarge = errors.Is(built.err, memory.ErrTooLarge)
	}
	if st := k.Newest(); st != nil {
		status.Ready = true
		status.Repositories, status.Segments, status.Bytes = st.Len(), st.Segments(), int64(st.Bytes())
		status.Version = versionOf(st.Vector())
	}
	return status
}

// KeepCopy builds the copy in memory and keeps it up to date until the context ends. If
// the store has none, it returns at once.
func (s *Store) KeepCopy(ctx context.Context) error {
	if s.keeper == nil {
		return nil
	}
	for ctx.Err() == nil {
		if !s.keeper.due() {
			_ = wait(ctx, copyEvery)
			continue
		}
		pause := copyEvery
		err := s.CopyStep(ctx)
		if err == nil {
			begin, more := time.Now(), false
			if more, err = s.CopyImages(ctx); more {
				pause = time.Since(begin) // leave half of the time to others
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, memory.ErrTooLarge):
			s.config.Log.ErrorContext(ctx, "the copy for searches does not fit into memory, so they use the database",
				"error", err, "remedy", "raise search.memory_limit, or set search.memory to false")
		case err != nil:
			s.config.Log.WarnContext(ctx, "searches use the database for now", "error", err)
			_ = wait(ctx, copyEvery)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		case <-s.keeper.now:
		}
	}
	return nil
}

// due reports whether there is a copy, or it is time to build one.
func (k *keeper) due() bool {
	built := k.built.Load()
	if built == nil || k.Newest() != nil {
		return true
	}
	pause := copyShare * built.took
	if errors.Is(built.err, memory.ErrTooLarge) {
		pause = max(pause, copyTooLarge)
	}
	return time.Since(built.at) >= pause
}

// CopyStep builds the copy in memory or, if there is one, takes in what changed, and
// merges its segments.
func (s *Store) CopyStep(ctx context.Context) error {
	if s.keeper.Newest() == nil {
		return s.buildCopy(ctx)
	}
	err := s.inSource(ctx, func(ctx context.Context, source search.Source) error {
		_, err := s.keeper.CatchUp(ctx, source.Vector, source)
		return err
	})
	if errors.Is(err, memory.ErrPast) { // a request was faster, or another server is behind
		err = nil
	}
	for merged := true; merged && err == nil; {
		merged, err = s.keeper.Merge(ctx)
	}
	return err
}

// CopyImages reads the images of the next repositories into the copy in memory, and
// reports whether there are more. They are read after the search rows, because they take
// several times as long, and only conditions on one image and their facets wait for them.
func (s *Store) CopyImages(ctx context.Context) (more bool, err error) {
	err = s.inSource(ctx, func(ctx context.Context, source search.Source) error {
		st, err := s.keeper.At(ctx, source.Vector, source)
		if err != nil || !s.keeper.HasRoom(st) {
			return err
		}
		ids := st.Unread(copyImages)
		if len(ids) == 0 {
			return nil
		}
		images, read, err := source.Images(ctx, ids)
		if err == nil {
			st.Learn(read, images)
			more = true
		}
		return err
	})
	if errors.Is(err, memory.ErrNotReady) || errors.Is(err, memory.ErrPast) { // CopyStep comes first
		err = nil
	}
	return more, err
}

// buildCopy reads all search rows. Each part is read from a snapshot of its own, so that
// no snapshot is held for long; what changes meanwhile is read again at the end.
func (s *Store) buildCopy(ctx context.Context) error {
	begin := time.Now()
	err := s.fillCopy(ctx)
	built := &build{at: time.Now(), took: time.Since(begin), err: err}
	s.keeper.built.Store(built)
	if err != nil {
		return fmt.Errorf("copy the search rows: %w", err)
	}
	status := s.SearchCopy()
	s.config.Log.InfoContext(ctx, "searches use a copy in memory", "repositories", status.Repositories,
		"bytes", status.Bytes, "took", built.took.Round(time.Millisecond))
	return nil
}

func (s *Store) fillCopy(ctx context.Context) error {
	builder := s.keeper.Builder()
	var since memory.Vector
	var rows []memory.Row
	for last, more := int32(0), true; more; {
		err := s.inSource(ctx, func(ctx context.Context, source search.Source) error {
			if last == 0 {
				since = source.Vector
			}
			if source.Vector.Epoch != since.Epoch {
				return fmt.Errorf("the database was replaced meanwhile: %w", memory.ErrNotReady)
			}
			next, err := source.After(ctx, last, copyRows)
			if more = len(next) == copyRows; len(next) > 0 {
				last = next[len(next)-1].ID
			}
			rows = append(rows, next...)
			return err
		})
		if err != nil {
			return err
		}
		if len(rows) == memory.MaxRows || !more {
			if err := builder.Add(rows); err != nil {
				return err
			}
			rows = nil
		}
	}
	return s.inSource(ctx, func(ctx context.Context, source search.Source) error {
		return builder.Replace(ctx, since, source.Vector, source)
	})
}

// inSource runs f on one snapshot.
func (s *Store) inSource(ctx context.Context, f func(context.Context, search.Source) error) error {
	ctx, cancel := context.WithTimeout(ctx, copyTimeout)
	defer cancel()
	return s.View(ctx, indexer.Everyone, func(v *View) error {
		vector, err := v.vector()
		if err != nil {
			return err
		}
		return f(ctx, search.Source{DB: v.tx, Vector: vector})
	})
}

// state returns the state of the copy in memory that a view reads, nil if there is none.
func (v *View) state(ctx context.Context) (*memory.State, error) {
	if v.copy == nil {
		return nil, nil
	}
	vector, err := v.vector()
	if err != nil {
		return nil, err
	}
	st, err := v.copy.At(ctx, vector, search.Source{DB: v.tx, Vector: vector})
	if errors.Is(err, memory.ErrNotReady) {
		v.copy.wake()
		return nil, nil
	}
	return st, err
}

// wake makes KeepCopy look at once.
func (k *keeper) wake() {
	select {
	case k.now <- struct{}{}:
	default:
	}
}
