package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

const (
	// storeTimeout limits one transaction that stores findings: 10 s from its start.
	// The largest manifest that is read, of 1,000 entries and 4 MiB, takes less than 1
	// s on two busy cores.
	storeTimeout = 10 * time.Second
	// sharedWait limits the wait for a lock in a transaction that stores findings of
	// several workers: 500 ms, fifty times what a push takes. After that each finding
	// is stored in a transaction of its own.
	sharedWait = 500 * time.Millisecond
	// scanWait is the same limit for findings of a scan: 3 s. Nobody waits for them, and
	// storing 64 findings one by one takes ten times as long as storing them together.
	scanWait = 3 * time.Second
	// A finding of more than largeRows rows or largeBytes bytes is large: 250 rows or 512
	// KiB. It is stored by itself, so that no other finding waits for it. The largest
	// index seen in public registries has 60 entries, and an image at most 127 layers.
	largeRows  = 250
	largeBytes = 512 << 10
)

// errStopping is the reason for releasing a task that was read but not stored.
var errStopping = fmt.Errorf("stopping: %w", context.Canceled)

// A saver stores the findings of all workers of one process.
type saver struct {
	store *postgres.Store
	limit time.Duration // of one transaction
	group group

	alone  sync.Mutex // held while a finding is stored by itself
	mu     sync.Mutex
	apart  map[string]int    // by repository: findings being stored by themselves, or waiting for that
	beside map[string]*group // by repository: small findings that wait behind those
}

// save stores findings and returns those that could not be stored. They count as failed
// attempts. An error means that the database is unavailable; the leases of all tasks then
// expire. leave is called before a wait that other workers need not share.
func (s *saver) save(
	ctx context.Context, findings []indexer.Finding, shared bool, leave func(),
) (failed []failure, err error) {
	var together, apart []indexer.Finding
	for _, f := range findings {
		if isLarge(f) || s.isApart(f.Task.Repository) {
			apart = append(apart, f)
		} else {
			together = append(together, f)
		}
	}
	failed, blocked, err := s.saveTogether(ctx, together, shared)
	if err != nil {
		return failed, err
	}
	apart = append(apart, blocked...)
	if len(apart) == 0 {
		return failed, nil
	}
	leave()
	beside := map[string][]indexer.Finding{}
	for _, f := range apart {
		if !isLarge(f) {
			beside[f.Task.Repository] = append(beside[f.Task.Repository], f)
			continue
		}
		failure, err := s.saveApart(ctx, f)
		if err != nil {
			return failed, err
		}
		failed = append(failed, failure...)
	}
	for _, same := range beside {
		failure, err := s.saveBeside(ctx, same)
		if err != nil {
			return failed, err
		}
		failed = append(failed, failure...)
	}
	return failed, nil
}

// isLarge reports whether storing a finding takes long.
func isLarge(f indexer.Finding) bool {
	rows, size := len(f.Asks), 0
	for _, m := range f.Manifests {
		rows += len(m.Entries) + len(m.Layers) + len(m.Labels) + len(m.Annotations)
		size += len(m.Body) + len(m.ConfigBody) + sizeOfStrings(m.Labels) + sizeOfStrings(m.Annotations)
	}
	return rows > largeRows || size > largeBytes
}

// saveTogether stores findings in one transaction, shared with other workers if shared is
// true. If that fails, it stores each finding in a transaction of its own and returns as
// blocked those that could not get a lock in time.
func (s *saver) saveTogether(
	ctx context.Context, findings []indexer.Finding, shared bool,
) (failed []failure, blocked []indexer.Finding, err error) {
	if len(findings) == 0 {
		return nil, nil, nil
	}
	if shared {
		err = s.group.apply(findings, func(all []indexer.Finding) error { return s.apply(ctx, all, sharedWait) })
	} else {
		err = s.apply(ctx, findings, scanWait)
	}
	if err == nil {
		return nil, nil, nil
	}
	if ctx.Err() != nil {
		return giveBack(findings), nil, nil
	}
	for i, f := range findings {
		err := s.apply(ctx, []indexer.Finding{f}, sharedWait)
		switch {
		case err != nil && ctx.Err() != nil:
			return append(failed, giveBack(findings[i:])...), nil, nil
		case err == nil || errors.Is(err, postgres.ErrStale): // another worker has the task now
		case errors.Is(err, postgres.ErrLocked) || errors.Is(err, indexer.ErrTooSlow):
			blocked = append(blocked, f)
		case errors.Is(err, indexer.ErrUnavailable):
			return failed, nil, err
		default:
			failed = append(failed, notStored(f, err))
		}
	}
	return failed, blocked, nil
}

// saveApart stores one finding by itself. The time limit begins when it has the lock.
func (s *saver) saveApart(ctx context.Context, f indexer.Finding) (failed []failure, err error) {
	s.count(f.Task.Repository, 1)
	defer s.count(f.Task.Repository, -1)
	s.alone.Lock()
	defer s.alone.Unlock()
	if ctx.Err() != nil {
		return giveBack([]indexer.Finding{f}), nil
	}
	return stored(f, s.apply(ctx, []indexer.Finding{f}, 0))
}

// stored turns the result of storing one finding into the results of save.
func stored(f indexer.Finding, err error) (failed []failure, away error) {
	switch {
	case err == nil || errors.Is(err, postgres.ErrStale):
		return nil, nil
	case errors.Is(err, indexer.ErrUnavailable) && !errors.Is(err, indexer.ErrTooSlow):
		return nil, err
	}
	return []failure{notStored(f, err)}, nil
}

// saveBeside stores small findings of one repository together with all others that wait
// for that repository. One by one, a thousand tags of a large index would take minutes.
func (s *saver) saveBeside(ctx context.Context, findings []indexer.Finding) (failed []failure, err error) {
	repository := findings[0].Task.Repository
	s.count(repository, 1)
	defer s.count(repository, -1)
	others := true
	err = s.groupBeside(repository).apply(findings, func(all []indexer.Finding) error {
		others = len(all) > 1
		s.alone.Lock()
		defer s.alone.Unlock()
		if ctx.Err() != nil {
			return errStopping
		}
		return s.apply(ctx, all, 0)
	})
	switch {
	case err != nil && ctx.Err() != nil:
		return giveBack(findings), nil
	case !others:
		return stored(findings[0], err)
	case err == nil || errors.Is(err, indexer.ErrUnavailable) && !errors.Is(err, indexer.ErrTooSlow):
		return nil, err
	}
	for _, f := range findings {
		failure, err := s.saveApart(ctx, f)
		if err != nil {
			return failed, err
		}
		failed = append(failed, failure...)
	}
	return failed, nil
}

// groupBeside returns the group of a repository. The caller has counted the repository.
func (s *saver) groupBeside(repository string) *group {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.beside == nil {
		s.beside = map[string]*group{}
	}
	if s.beside[repository] == nil {
		s.beside[repository] = &group{}
	}
	return s.beside[repository]
}

// apply stores findings in one transaction. Its time limit begins now. It does not end
// with ctx, so that what was read is stored when the program stops.
func (s *saver) apply(ctx context.Context, findings []indexer.Finding, lockWait time.Duration) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limit)
	defer cancel()
	return s.store.ApplyUnlessLocked(ctx, findings, lockWait)
}

func notStored(f indexer.Finding, err error) failure {
	return failure{task: f.Task, err: fmt.Errorf("not stored: %w", err)}
}

func giveBack(findings []indexer.Finding) (failed []failure) {
	for _, f := range findings {
		failed = append(failed, failure{task: f.Task, err: errStopping})
	}
	return failed
}

func (s *saver) count(repository string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.apart == nil {
		s.apart = map[string]int{}
	}
	if s.apart[repository] += n; s.apart[repository] == 0 {
		delete(s.apart, repository)
		delete(s.beside, repository)
	}
}

// isApart reports whether a finding of the repository is being stored by itself, or waits
// for that. Storing another finding of the repository would wait for the same locks.
func (s *saver) isApart(repository string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.apart[repository] > 0
}

// A group stores one batch after the other. Findings that arrive while a batch is being
// stored form the next batch.
type group struct {
	storing sync.Mutex
	mu      sync.Mutex
	next    *batch
}

// A batch is stored by the first of its callers that gets the lock.
type batch struct {
	findings []indexer.Finding
	stored   bool
	err      error
}

func (g *group) apply(findings []indexer.Finding, store func([]indexer.Finding) error) error {
	g.mu.Lock()
	if g.next == nil {
		g.next = &batch{}
	}
	b := g.next
	b.findings = append(b.findings, findings...)
	g.mu.Unlock()

	g.storing.Lock()
	defer g.storing.Unlock()
	if b.stored {
		return b.err
	}
	g.mu.Lock()
	g.next = nil
	g.mu.Unlock()
	b.err, b.stored = store(b.findings), true
	return b.err
}
