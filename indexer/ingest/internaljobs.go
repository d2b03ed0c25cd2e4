package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/portbook/portbook/indexer"
)

const (
	// looseEvery is how often rows of blobs that are used are removed from loose_blob: every
	// minute. Usually there are none.
	looseEvery = time.Minute
	// maxIncomplete is the maximum number of incomplete manifests that one run of indexManifests
	// reads again: 100,000.
	maxIncomplete = 100_000
	// indexEvery is how often indexManifests looks whether the scan and its reads have ended.
	indexEvery = 100 * time.Millisecond
	// indexStuck is how long indexManifests waits without any progress before it fails: 1 min.
	indexStuck = time.Minute
)

// internalJobs returns the jobs that run only if somebody asks for them. One of them runs at a
// time.
func (l *Leader) internalJobs(scan *job, counting chan struct{}) []*job {
	steps := map[string]step{
		indexer.IndexManifests: func(ctx context.Context) error { return l.indexManifests(ctx, scan) },
		indexer.RunBlobGC:      l.runBlobGC,
		indexer.CalculateProjectStorage: func(ctx context.Context) error {
			return l.calculateProjectStorage(ctx, counting)
		},
	}
	steps[indexer.RunAll] = func(ctx context.Context) error {
		for i, name := range indexer.InternalJobs[:3] {
			progress(ctx, int64(i), 3)
			l.config.Log.InfoContext(ctx, "job begins", "job", name, "part_of", indexer.RunAll)
			if err := steps[name](context.WithValue(ctx, progressKey{}, nil)); err != nil {
				return &partFailed{name, err}
			}
			l.config.Log.InfoContext(ctx, "job done", "job", name, "part_of", indexer.RunAll)
		}
		progress(ctx, 3, 3)
		return nil
	}
	var jobs []*job
	alone := make(chan struct{}, 1)
	for _, name := range indexer.InternalJobs {
		jobs = append(jobs, &job{name: name, next: always(steps[name]), pause: never, alone: alone, onlyAsked: true})
	}
	return jobs
}

// pruneLoose removes rows of loose_blob of blobs that are used, and puts back what a run of
// runBlobGC that was killed has removed.
func (l *Leader) pruneLoose(ctx context.Context) error {
	n, err := l.config.Store.PruneLoose(ctx, false)
	if n > 0 {
		l.config.Log.DebugContext(ctx, "loose blobs are used", "rows", n)
	}
	return errors.Join(err, l.releaseHeld(ctx))
}

// giveTimes gives what is in the book the times that were imported for it.
func (l *Leader) giveTimes(ctx context.Context) error {
	n, err := l.config.Store.GiveTimes(ctx)
	if n > 0 {
		l.config.Log.InfoContext(ctx, "imported times are in the book", "rows", n)
	}
	return err
}

// indexManifests compares the whole registry with the book, and waits until all that differs has
// been read, and all manifests of which the book does not know everything. What cannot be read
// is skipped, as in every scan.
func (l *Leader) indexManifests(ctx context.Context, scan *job) error {
	store := l.config.Store
	incomplete, err := store.AskIncomplete(ctx, maxIncomplete)
	if err != nil {
		return err
	}
	if err := store.RequestScan(ctx, indexer.IndexManifests); err != nil {
		return err
	}
	requested, err := store.WaitingScan(ctx)
	if errors.Is(err, indexer.ErrNotFound) { // it has ended already
		return l.awaitReads(ctx)
	}
	if err != nil {
		return err
	}
	scan.wake()
	if err := l.awaitScan(ctx, requested.ID); err != nil {
		return err
	}
	if err := l.awaitReads(ctx); err != nil {
		return err
	}
	l.config.Log.InfoContext(ctx, "manifests indexed", "scan", requested.ID, "incomplete", incomplete)
	return nil
}

// awaitScan returns when a scan has ended, or its reason if it makes no progress for indexStuck.
func (l *Leader) awaitScan(ctx context.Context, id int64) error {
	var last indexer.Scan
	for moved := time.Now(); ; rest(ctx, indexEvery) {
		scan, err := l.config.Store.ScanByID(ctx, id)
		if err != nil {
			return err
		}
		progress(ctx, int64(scan.Repositories), int64(scan.Listed))
		switch {
		case !scan.FinishedAt.IsZero():
			return nil
		case scan.Repositories != last.Repositories || scan.Listed != last.Listed:
			moved, last = time.Now(), scan
		case scan.Problem != "" && time.Since(moved) > indexStuck:
			return &indexer.Fault{Reason: scan.Problem, Err: fmt.Errorf("scan %d: %s", id, scan.Problem)}
		}
	}
}

// awaitReads returns when all that scans have found has been read, or an error if nothing is
// read for indexStuck.
func (l *Leader) awaitReads(ctx context.Context) error {
	fewest := -1
	for moved := time.Now(); ; rest(ctx, indexEvery) {
		left, err := l.config.Store.ScanBacklog(ctx)
		switch {
		case err != nil || left == 0:
			return err
		case fewest < 0 || left < fewest:
			moved, fewest = time.Now(), left
		case time.Since(moved) > indexStuck:
			text := fmt.Sprintf("the registry could not be read: %d references wait", left)
			return &indexer.Fault{Reason: text, Err: errors.New(text)}
		}
	}
}

// calculateProjectStorage counts the storage of repositories, and then that of projects.
func (l *Leader) calculateProjectStorage(ctx context.Context, counting chan struct{}) error {
	select {
	case counting <- struct{}{}:
		defer func() { <-counting }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if _, err := l.config.Store.PruneLoose(ctx, true); err != nil {
		return err
	}
	if err := l.countStorage(ctx); err != nil {
		return err
	}
	n, err := l.config.Store.CountProjects(ctx)
	if err == nil {
		l.config.Log.InfoContext(ctx, "storage of projects calculated", "projects", n)
	}
	return err
}
