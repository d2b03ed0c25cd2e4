package manage

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
)

const (
	// untagging and deleting are how many requests a deletion of a repository sends at the same
	// time: 8 and 4. The registry reads its storage for each, and has others to serve.
	untagging, deleting = 8, 4
	// chunk is how many manifests are deleted between two looks at what was pushed: 100.
	chunk = 100
	// maxShown is the maximum number of manifests that an Effect lists for a repository: 1,000.
	maxShown = 1000
)

// A deleteRepository deletes all tags and manifests of a repository, as they are when it begins.
// The registry keeps the name of the empty repository.
//
// First it keeps all in the trash, with the tags; nothing is deleted before that is complete,
// which Operation.Total tells. What is deleted is then what is in the trash: so what is pushed
// meanwhile stays, also if the process dies and another one goes on.
type deleteRepository struct{ *Manager }

// Preview implements Previewer.
func (m deleteRepository) Preview(ctx context.Context, o indexer.Operation) (e indexer.Effect, err error) {
	e.Untags, err = m.listed(ctx, o.Repository)
	if err != nil {
		return e, err
	}
	if e.Deletes, e.Manifests, err = m.Store.Contents(ctx, o.Repository, maxShown); err != nil {
		return e, err
	}
	if len(e.Untags)+e.Manifests == 0 {
		return e, &failed{indexer.ErrNotFound, "there is no repository " + o.Repository + ", or it is empty"}
	}
	for i := range e.Deletes {
		e.Deletes[i].Why = "it is in the repository"
	}
	e.Refused, err = m.reasons(ctx, o.Repository, e.Untags)
	return e, err
}

// listed returns the tags of a repository, sorted; none if there is no repository.
func (m *Manager) listed(ctx context.Context, repository string) ([]string, error) {
	tags, err := m.Remote.Tags(ctx, repository)
	if errors.Is(err, indexer.ErrNotFound) {
		return nil, nil
	}
	slices.Sort(tags)
	return tags, err
}

// Perform implements Performer.
func (m deleteRepository) Perform(ctx context.Context, r *Running) error {
	o := r.Operation()
	if o.Total == 0 {
		if err := m.keepAll(ctx, r); err != nil {
			return err
		}
	}
	kept, err := m.kept(ctx, o.ID)
	if err != nil {
		return err
	}
	w, err := r.windowOf(ctx, o.Repository)
	if err != nil {
		return err
	}
	if len(kept) == 0 { // but tags that show nothing
		_, err := m.needed(ctx, r, w, o.Repository)
		return err
	}
	r.note(w, func(w *window) {
		w.begin = slices.MinFunc(kept, func(a, b indexer.Trash) int { return a.KeptAt.Compare(b.KeptAt) }).KeptAt
		if w.begin.Before(w.first) {
			w.first, w.since = w.begin, w.begin
		}
	})
	if r.Resumed() { // what was pushed and deleted before may have to be put back first
		if err := r.settle(ctx, w, o.Repository, false); err != nil {
			return err
		}
	}
	if err := m.untagAll(ctx, r, w, kept); err != nil {
		return err
	}
	if err := m.deleteAll(ctx, r, w, kept); err != nil {
		return err
	}
	if err := r.storeDeleted(ctx, w, o.Repository); err != nil {
		return err
	}
	if err := m.Store.UnlistLoose(ctx, o.Repository); err != nil {
		return err
	}
	return m.Store.ForgetTrash(ctx, o.ID)
}

// keepAll keeps all that the repository has in the trash.
func (m deleteRepository) keepAll(ctx context.Context, r *Running) error {
	o := r.Operation()
	if !sleep(ctx, settleTime) {
		return ctx.Err()
	}
	if err := m.Store.ForgetTrash(ctx, o.ID); err != nil {
		return err
	}
	if err := m.Store.KeepRepository(ctx, o.ID, o.Repository); err != nil {
		return err
	}
	tags, err := m.listed(ctx, o.Repository)
	if err != nil {
		return err
	}
	if err := m.protected(ctx, o.Repository, tags); err != nil {
		return err
	}
	shown, err := m.shown(ctx, o.Repository, tags)
	if err != nil {
		return err
	}
	unkept, err := m.Store.SetTrashTags(ctx, o.ID, o.Repository, shown)
	if err != nil {
		return err
	}
	for d, tags := range unkept { // pushed a moment ago
		if err := r.keep(ctx, o.Repository, d, tags); err != nil && !errors.Is(err, indexer.ErrConflict) {
			return err
		}
	}
	kept, err := m.kept(ctx, o.ID)
	r.Progress(0, len(kept))
	if err != nil {
		return err
	}
	return r.Save(ctx)
}

// shown returns what tags show. It leaves out those that cannot be read.
func (m *Manager) shown(ctx context.Context, repository string, tags []string) (map[string]digest.Digest, error) {
	var mu sync.Mutex
	shown := map[string]digest.Digest{}
	err := each(ctx, untagging, tags, func(ctx context.Context, tag string) error {
		d, err := m.firmly(ctx, repository, tag)
		if err != nil {
			return unlessBroken(err)
		}
		mu.Lock()
		defer mu.Unlock()
		shown[tag] = d
		return nil
	})
	return shown, err
}

// unlessBroken returns an error of a tag, or nil if it is about this tag alone: it shows a
// manifest that is gone, or cannot be read.
func unlessBroken(err error) error {
	var status *remote.StatusError
	if errors.Is(err, indexer.ErrNotFound) || errors.As(err, &status) && status.Status == http.StatusInternalServerError {
		return nil
	}
	return err
}

// firmTries is how often a tag is looked at that the registry answers 500 for, with pauses of
// settleTime: 3 times. Its storage may have failed for a moment, and not the tag.
const firmTries = 3

// firmly returns what a tag shows.
func (m *Manager) firmly(ctx context.Context, repository, tag string) (d digest.Digest, err error) {
	for range firmTries {
		d, err = m.Remote.Shows(ctx, repository, tag, "")
		if err == nil || errors.Is(err, indexer.ErrNotFound) || unlessBroken(err) != nil || !sleep(ctx, settleTime) {
			break
		}
	}
	return d, err
}

// each runs f for all items, a number of them at the same time.
func each[T any](ctx context.Context, n int, items []T, f func(context.Context, T) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(n)
	for _, item := range items {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return f(ctx, item) })
	}
	return group.Wait()
}

// kept returns what an operation has kept, indexes first.
func (m *Manager) kept(ctx context.Context, operation int64) (all []indexer.Trash, err error) {
	for after := int64(0); ; {
		page, err := m.Store.TrashOf(ctx, operation, after, 1000)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		all, after = append(all, page...), page[len(page)-1].ID
	}
	slices.SortStableFunc(all, func(a, b indexer.Trash) int {
		return boolOrder(isIndex(a.MediaType), isIndex(b.MediaType))
	})
	return all, nil
}

// boolOrder orders true before false.
func boolOrder(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// isIndex reports whether a media type is that of an image index.
func isIndex(mediaType string) bool {
	return strings.Contains(mediaType, "image.index") || strings.Contains(mediaType, "manifest.list")
}

// untagAll deletes the tags of what is kept.
func (m deleteRepository) untagAll(ctx context.Context, r *Running, w *window, kept []indexer.Trash) error {
	type tagged struct {
		tag string
		d   digest.Digest
	}
	var all []tagged
	for _, t := range kept {
		for _, tag := range t.Tags {
			all = append(all, tagged{tag, t.Digest})
		}
	}
	repository := r.Operation().Repository
	pushes, err := m.Store.PushesSince(ctx, repository, ourselves, w.begin)
	if err != nil {
		return err
	}
	pushed, _ := r.lost(w, pushes)
	return each(ctx, untagging, all, func(ctx context.Context, t tagged) error {
		if pushed[t.tag] != "" {
			r.Note("%s:%s was pushed meanwhile, and stays", repository, t.tag)
			return nil
		}
		now, err := r.untagSettled(ctx, w, repository, t.tag, t.d, false)
		switch {
		case err != nil:
			return unlessBroken(err)
		case now != t.d:
			r.Note("%s:%s shows %s now, and stays", repository, t.tag, now)
		}
		return nil
	})
}

// deleteAll deletes the manifests that are kept, unless a tag shows them again, or something
// that a tag shows needs them.
func (m deleteRepository) deleteAll(ctx context.Context, r *Running, w *window, kept []indexer.Trash) error {
	repository := r.Operation().Repository
	needed, err := m.needed(ctx, r, w, repository)
	if err != nil {
		return err
	}
	done := 0
	for part := range slices.Chunk(kept, chunk) {
		pushed, err := m.pushed(ctx, r, w, repository)
		if err != nil {
			return err
		}
		err = each(ctx, deleting, part, func(ctx context.Context, t indexer.Trash) error {
			switch {
			case r.isGone(w, t.Digest):
				return nil
			case needed[t.Digest] || pushed[t.Digest]:
				r.Note("%s@%s was pushed meanwhile, or is needed by what was, and stays", repository, t.Digest)
				return nil
			}
			return r.deleteDigest(ctx, w, repository, t.Digest)
		})
		if err != nil {
			return err
		}
		done += len(part)
		r.Progress(done, len(kept))
		if r.unsettled(w) >= settleEvery {
			if err := r.settle(ctx, w, repository, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// needed returns what the tags show that the repository has now, and what that needs: the
// manifests of an index, and referrers. A tag that shows nothing is deleted.
func (m deleteRepository) needed(
	ctx context.Context, r *Running, w *window, repository string,
) (map[digest.Digest]bool, error) {
	tags, err := m.listed(ctx, repository)
	if err != nil {
		return nil, err
	}
	var shown []digest.Digest
	pushes, err := m.Store.PushesSince(ctx, repository, ourselves, r.Operation().StartedAt)
	if err != nil {
		return nil, err
	}
	for _, tag := range tags {
		switch d, err := m.firmly(ctx, repository, tag); {
		case err == nil:
			shown = append(shown, d)
		case unlessBroken(err) != nil:
			return nil, err
		case slices.ContainsFunc(pushes, func(p postgres.Pushed) bool { return p.Tag == tag && !p.Deleted }):
			r.Note("%s:%s was pushed meanwhile, and stays", repository, tag)
		default:
			if err := m.Remote.DeleteTag(ctx, repository, tag); err != nil && unlessBroken(err) != nil {
				return nil, err
			}
			at := r.look(w, tag)
			r.note(w, func(w *window) {
				w.untagged[tag] = look{at: at}
				r.o.Result.Untagged++
			})
		}
	}
	return m.closure(ctx, repository, shown)
}

// pushed returns what others have pushed since all was kept, and what that needs.
func (m deleteRepository) pushed(
	ctx context.Context, r *Running, w *window, repository string,
) (map[digest.Digest]bool, error) {
	pushes, err := m.Store.PushesSince(ctx, repository, ourselves, w.begin)
	if err != nil {
		return nil, err
	}
	tags, digests := r.lost(w, pushes)
	var all []digest.Digest
	for _, d := range tags {
		all = append(all, d)
	}
	for d := range digests {
		all = append(all, d)
	}
	return m.closure(ctx, repository, all)
}

// closure returns manifests with what they name and what refers to them, as the registry and the
// book say.
func (m *Manager) closure(ctx context.Context, repository string, of []digest.Digest) (map[digest.Digest]bool, error) {
	all := map[digest.Digest]bool{}
	for len(of) > 0 {
		bounds, err := m.Store.Bounds(ctx, repository, of)
		if err != nil {
			return nil, err
		}
		var next []digest.Digest
		for _, d := range of {
			if all[d] {
				continue
			}
			all[d] = true
			next = append(next, bounds[d].ReferredBy...)
			if _, known := bounds[d]; known {
				next = append(next, bounds[d].Names...)
				continue
			}
			switch body, _, err := m.Remote.Manifest(ctx, repository, d.String()); {
			case err == nil:
				next = append(next, contentOf(body).manifests...)
			case !errors.Is(err, indexer.ErrNotFound):
				return nil, err
			}
		}
		of = next
	}
	return all, nil
}
