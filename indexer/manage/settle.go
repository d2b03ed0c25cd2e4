package manage

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

const (
	// reportTime is how long the registry's report of our last deletion is awaited: 2 s. It
	// comes within milliseconds, after the reports of the pushes before it. If the registry has
	// reported other deletions of ours it is awaited for lateTime: 30 s. Of a registry that takes
	// 400 pushes a second, reports were up to 4 s late.
	reportTime = 2 * time.Second
	lateTime   = 30 * time.Second
	// readTime is how long settle waits until the book has what was changed: 30 s. If the
	// workers need longer, the operation is over before.
	readTime = 30 * time.Second
	// tagTime is how long after its report a tag may be written: 50 ms, six times the median.
	tagTime = 50 * time.Millisecond
	// readEvery is the first pause between two looks: 10 ms. The pauses grow to 20 times as much.
	readEvery = 10 * time.Millisecond
	// flightTime is how much earlier than our first look a push may have been reported whose tag the
	// registry had still to write: 5 s. On disks it takes 0.1 s at most; a bucket may take longer.
	flightTime = 5 * time.Second
)

// settleAll looks for pushes that fell into a deletion, and puts back what they pushed. If wait is
// set, it waits for the registry's reports of them, and then until the book shows what was changed.
// It is called after Perform, and at times within.
//
// The registry is asked for nothing that was not reported by an event, except for the tags that
// were deleted: without events, a push that falls between the last look at a tag and its
// deletion, some milliseconds, is lost, as with the registry alone.
func (r *Running) settleAll(ctx context.Context, wait bool) error {
	r.mu.Lock()
	windows := maps.Clone(r.windows)
	r.mu.Unlock()
	for _, repository := range slices.Sorted(maps.Keys(windows)) {
		if err := r.settle(ctx, windows[repository], repository, wait); err != nil {
			return err
		}
	}
	return nil
}

// settle settles the changes of a repository. Unless wait is set, it waits
// neither for reports nor for the book.
func (r *Running) settle(ctx context.Context, w *window, repository string, wait bool) error {
	next := w.now().Add(-time.Second) // what is under way now may be reported later
	for _, step := range []func(context.Context, *window, string) error{
		r.storeDeleted,
		func(ctx context.Context, w *window, repository string) error {
			if !wait { // what is reported later is found by the next call
				return nil
			}
			return r.awaitReport(ctx, w, repository)
		},
		r.putBackPushed,
		func(ctx context.Context, w *window, repository string) error {
			return r.follow(ctx, w, repository, wait)
		},
		r.putBackPushed, // the registry may have checked a manifest before our deletion, and reported it after
		func(ctx context.Context, w *window, repository string) error {
			return r.follow(ctx, w, repository, wait)
		},
		r.putBackNamed,
	} {
		if err := step(ctx, w, repository); err != nil {
			return err
		}
	}
	r.note(w, func(w *window) {
		w.since, w.last = maxTime(w.since, next), ""
		maps.DeleteFunc(w.untagged, func(_ string, l look) bool { return l.at.Before(w.since.Add(-flightTime)) })
	})
	return nil
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// storeDeleted stores what was deleted.
func (r *Running) storeDeleted(ctx context.Context, w *window, repository string) error {
	r.mu.Lock()
	deleted := slices.Clone(w.deleted)
	r.mu.Unlock()
	if len(deleted) == 0 {
		return nil
	}
	if err := r.manager.Store.DeletedTrash(ctx, r.o.ID, repository, deleted); err != nil {
		return err
	}
	r.note(w, func(w *window) { w.deleted = w.deleted[len(deleted):] })
	return nil
}

// awaitReport waits until the registry has reported the last deletion: then it has reported the
// pushes before.
func (r *Running) awaitReport(ctx context.Context, w *window, repository string) error {
	r.mu.Lock()
	last, since := w.last, w.since
	r.mu.Unlock()
	end, pause, late := time.Now().Add(reportTime), readEvery, false
	for ; last != ""; pause = min(2*pause, 20*readEvery) {
		reported, err := r.manager.Store.Reported(ctx, repository, last, ourselves, since)
		if err != nil || reported {
			return err
		}
		if time.Now().After(end) {
			if late {
				r.Note("the registry is late with its events: a push that fell into this may be lost")
				return nil
			}
			if late, err = r.manager.Store.ReportsDeletions(ctx, ourselves); err != nil || !late {
				return err
			}
			end = end.Add(lateTime - reportTime)
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
	return nil
}

// putBackPushed puts back what others pushed while we deleted, and is gone.
func (r *Running) putBackPushed(ctx context.Context, w *window, repository string) error {
	r.mu.Lock()
	since, changed := w.since, len(w.gone)+len(w.untagged) > 0
	r.mu.Unlock()
	if !changed {
		return nil
	}
	pushes, err := r.manager.Store.PushesSince(ctx, repository, ourselves, since.Add(-flightTime))
	if err != nil {
		return err
	}
	tags, digests := r.lost(w, pushes)
	if err := r.addNeeded(ctx, w, repository, pushes, digests); err != nil {
		return err
	}
	for _, d := range slices.Sorted(maps.Keys(digests)) {
		if err := r.putBack(ctx, w, repository, indexer.TagOrDigest(d), d); err != nil {
			return err
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		if err := r.putBack(ctx, w, repository, indexer.TagOrDigest(tag), tags[tag]); err != nil {
			return err
		}
	}
	return nil
}

// addNeeded adds to digests what is gone and what the manifests need that others have pushed: who
// pushes an index does not push again the manifests that the repository has.
func (r *Running) addNeeded(
	ctx context.Context, w *window, repository string, pushes []postgres.Pushed, digests map[digest.Digest]bool,
) error {
	pushed := map[digest.Digest]bool{}
	r.mu.Lock()
	for _, p := range pushes {
		at, gone := w.gone[p.Digest]
		if !p.Deleted && p.Digest != "" && !w.isOurs(p) && !(gone && p.ReceivedAt.Before(at)) {
			pushed[p.Digest] = true
		}
	}
	gone := maps.Clone(w.gone)
	r.mu.Unlock()
	if len(pushed) == 0 || len(gone) == 0 {
		return nil
	}
	needed, err := r.manager.closure(ctx, repository, slices.Sorted(maps.Keys(pushed)))
	for d := range needed {
		if _, ok := gone[d]; ok && !pushed[d] {
			digests[d] = true
		}
	}
	return err
}

// isOurs reports whether a push is one of this operation. The caller holds Running.mu.
func (w *window) isOurs(p postgres.Pushed) bool {
	reference := cmp.Or(p.Tag, p.Digest.String())
	return p.Ours && w.puts[reference] == p.Digest
}

// lost returns the tags and the digests that were pushed after we had looked at them, and not
// deleted by others since. We may have deleted them. A tag is among them too if it showed something
// else than the last push before our look: that push was under way.
func (r *Running) lost(
	w *window, pushes []postgres.Pushed,
) (tags map[string]digest.Digest, digests map[digest.Digest]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tags, digests = map[string]digest.Digest{}, map[digest.Digest]bool{}
	for _, p := range pushes {
		early := p.ReceivedAt.Before(w.first)
		switch at, gone := w.gone[p.Digest]; {
		case p.Deleted && p.Ours && !early: // by this operation, or beside it: see PushesSince
		case p.Deleted && p.Tag != "":
			delete(tags, p.Tag)
		case p.Deleted:
			delete(digests, p.Digest)
			maps.DeleteFunc(tags, func(_ string, d digest.Digest) bool { return d == p.Digest })
		case p.Digest == "":
		case p.Tag != "" && !w.isOurs(p) && w.isLost(p, early && !gone):
			tags[p.Tag] = p.Digest
		case p.Tag != "":
			delete(tags, p.Tag)
		case gone && !early && !w.isOurs(p) && !p.ReceivedAt.Before(at):
			digests[p.Digest] = true
		}
	}
	return tags, digests
}

// isLost reports whether we may have deleted a tag that was pushed. One at which we have not looked
// goes only with a manifest, or was deleted by an earlier attempt, unless it was pushed early. Then
// another operation may have deleted it, as a plan goes on beside others.
func (w *window) isLost(p postgres.Pushed, early bool) bool {
	l, looked := w.untagged[p.Tag]
	if !looked {
		return !early && len(w.gone)+len(w.before) > 0
	}
	return !p.ReceivedAt.Before(l.at) || l.shows != "" && p.Digest != l.shows
}

// putBack puts a manifest under a reference, if the registry has nothing there.
func (r *Running) putBack(
	ctx context.Context, w *window, repository string, reference indexer.TagOrDigest, d digest.Digest,
) error {
	err := r.there(ctx, repository, reference)
	if errors.Is(err, indexer.ErrNotFound) && sleep(ctx, tagTime) {
		err = r.there(ctx, repository, reference) // the registry reports a push before it writes the tag
	}
	if !errors.Is(err, indexer.ErrNotFound) {
		return err
	}
	mediaType, body, err := r.manager.bytesOf(ctx, repository, d)
	if errors.Is(err, indexer.ErrNotFound) {
		return nil // whoever pushed it has deleted it since
	}
	if err != nil {
		return err
	}
	if err := r.put(ctx, w, repository, reference, put{d, mediaType, body}); err != nil {
		if errors.Is(err, indexer.ErrConflict) {
			r.Note("%s was pushed meanwhile, and could not be put back: %s", reference.In(repository), err)
			return nil
		}
		return err
	}
	r.Note("%s was pushed meanwhile, and was put back", reference.In(repository))
	r.Result(func(result *indexer.OperationResult) {
		result.PutBack++
		if reference.IsTag() {
			result.Tagged--
		} else {
			result.Restored--
		}
	})
	return nil
}

// there returns nil if the registry has a manifest under a reference.
func (r *Running) there(ctx context.Context, repository string, reference indexer.TagOrDigest) error {
	if d := reference.Digest(); d != "" {
		return r.manager.Remote.Exists(ctx, repository, d)
	}
	_, err := r.manager.Remote.Shows(ctx, repository, string(reference), "")
	return err
}

// follow asks for reads of all that was changed and, if wait is set, waits for them.
func (r *Running) follow(ctx context.Context, w *window, repository string, wait bool) error {
	r.mu.Lock()
	var asks []indexer.Ask
	var references []string
	for _, reference := range slices.Sorted(maps.Keys(w.touched)) {
		asks = append(asks, indexer.Ask{
			Repository: repository, Reference: indexer.TagOrDigest(reference), Priority: indexer.PriorityEvent,
			Hint: w.touched[reference],
		})
		references = append(references, reference)
	}
	clear(w.touched)
	r.mu.Unlock()
	if len(asks) == 0 {
		return nil
	}
	if err := r.manager.Store.Ask(ctx, asks); err != nil {
		return err
	}
	r.manager.Wake()
	pause := readEvery
	for end := time.Now().Add(readTime); wait && time.Now().Before(end); pause = min(2*pause, 20*readEvery) {
		unread, err := r.manager.Store.Unread(ctx, repository, references)
		if err != nil || unread == 0 {
			return err
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
	if !wait {
		return nil
	}
	r.Note("the book shows the change later: its workers are behind")
	return nil
}

// putBackNamed puts back manifests that an index names which was pushed meanwhile.
func (r *Running) putBackNamed(ctx context.Context, w *window, repository string) error {
	r.mu.Lock()
	gone := slices.Sorted(maps.Keys(w.gone))
	r.mu.Unlock()
	if len(gone) == 0 {
		return nil
	}
	named, err := r.manager.Store.NamedByOthers(ctx, repository, gone)
	if err != nil {
		return err
	}
	for _, d := range named {
		if err := r.putBack(ctx, w, repository, indexer.TagOrDigest(d), d); err != nil {
			return err
		}
	}
	if len(named) == 0 {
		return nil
	}
	return r.follow(ctx, w, repository, true)
}

// bytesOf returns the media type and the bytes of a manifest, from the registry, the book or the
// trash, or ErrNotFound.
func (m *Manager) bytesOf(ctx context.Context, repository string, d digest.Digest) (string, []byte, error) {
	body, desc, err := m.Remote.Manifest(ctx, repository, d.String())
	if err == nil {
		return desc.MediaType, body, nil
	}
	if errors.Is(err, indexer.ErrUnavailable) {
		return "", nil, err
	}
	mediaType, body, err := m.Store.ManifestBody(ctx, repository, d)
	if errors.Is(err, indexer.ErrNotFound) {
		mediaType, body, err = m.Store.TrashBody(ctx, repository, d)
	}
	return mediaType, body, err
}
