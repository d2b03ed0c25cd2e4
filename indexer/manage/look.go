package manage

import (
	"context"
	"errors"
	"sync"

	"github.com/portbook/portbook/indexer"
)

// Refresh compares the tags of a repository with the book, and asks for reads of those that
// differ: no event has told of them. If the storage is looked at, it also asks for reads of the
// manifests that only the last look knows. Who decides by the book about many tags and manifests calls
// it first, and then waits until nothing of the repository waits to be read.
func (r *Running) Refresh(ctx context.Context, repository string) error {
	tags, err := r.manager.listed(ctx, repository)
	if err != nil {
		return err
	}
	shelves, err := r.manager.Store.Shelves(ctx, []string{repository})
	if err != nil {
		return err
	}
	booked := shelves[0].Tags
	var mu sync.Mutex
	var asks []indexer.Ask
	differs := func(reference string) {
		mu.Lock()
		defer mu.Unlock()
		asks = append(asks, indexer.Ask{
			Repository: repository, Reference: indexer.TagOrDigest(reference), Priority: indexer.PriorityEvent,
		})
	}
	err = each(ctx, untagging, tags, func(ctx context.Context, tag string) error {
		now, err := r.manager.Remote.Shows(ctx, repository, tag, booked[tag])
		if err != nil && unlessBroken(err) != nil {
			return err
		}
		if err != nil || now != booked[tag] {
			differs(tag)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, tag := range tags {
		delete(booked, tag)
	}
	for tag := range booked {
		differs(tag)
	}
	if err := r.addStored(ctx, repository, differs); err != nil || len(asks) == 0 {
		return err
	}
	if err := r.manager.Store.Ask(ctx, asks); err != nil {
		return err
	}
	r.manager.Wake()
	return nil
}

// maxStored is how many manifests addStored asks for, at most: 1,000.
const maxStored = 1000

// addStored calls f for the manifests that the storage has and the book does not, and that were
// not deleted since.
func (r *Running) addStored(ctx context.Context, repository string, f func(reference string)) error {
	stored, err := r.manager.Store.OnlyStored(ctx, repository, maxStored)
	for _, d := range stored {
		switch err := r.manager.Remote.Exists(ctx, repository, d); {
		case err == nil:
			f(d.String())
		case !errors.Is(err, indexer.ErrNotFound):
			return err
		}
	}
	return err
}

// Leave is settleAll for one repository, of which nothing further is changed: what was deleted is
// stored, and what was pushed meanwhile is put back, long before the end of an operation that
// changes many repositories.
func (r *Running) Leave(ctx context.Context, repository string) error {
	r.mu.Lock()
	w := r.windows[repository]
	r.mu.Unlock()
	if w == nil {
		return nil
	}
	if err := r.settle(ctx, w, repository, true); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.windows, repository)
	return nil
}
