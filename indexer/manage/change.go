package manage

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/remote"
)

// settleTime is how long before we delete a tag it must have shown its manifest: 300 ms. The
// registry reports a push before it writes the tag, 8 ms before in the median; so of a younger
// push it could not be told whether it came before or after the deletion.
const settleTime = 300 * time.Millisecond

// settleEvery is how many deletions of a repository are made before settle looks what was
// pushed meanwhile: 500.
const settleEvery = 500

// A window is what an operation has changed in a repository and not yet settled.
type window struct {
	since    time.Time                   // before the first change, by the clock of the database
	first    time.Time                   // since, before anything was settled
	begin    time.Time                   // pushes since then stay; zero: since the last look at each
	ahead    time.Duration               // of the clock of the database, to ours
	gone     map[digest.Digest]time.Time // manifests that were deleted, and when, also settled ones
	untagged map[string]look             // tags that were deleted
	touched  map[string]digest.Digest    // references to read, and what the tags among them show; "": nothing
	last     indexer.TagOrDigest         // what was deleted last; "": nothing
	deleted  []digest.Digest             // not yet stored as deleted
	before   map[string]time.Time        // references that an earlier attempt may have deleted, and when it had looked
	puts     map[string]digest.Digest    // what we have put under which reference
	listed   map[string]digest.Digest    // see Running.unbooked
	listedAt time.Time
}

// A look is when we looked at a tag before its deletion, and what it showed; "": that is not known.
type look struct {
	at    time.Time
	shows digest.Digest
}

// windowOf returns the window of a repository. The caller must not hold r.mu.
func (r *Running) windowOf(ctx context.Context, repository string) (*window, error) {
	r.mu.Lock()
	w := r.windows[repository]
	r.mu.Unlock()
	if w != nil {
		return w, nil
	}
	now, err := r.manager.Store.Now(ctx)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.windows[repository] == nil {
		r.windows[repository] = newWindow(now, time.Until(now))
	}
	return r.windows[repository], nil
}

func newWindow(since time.Time, ahead time.Duration) *window {
	return &window{
		since: since, first: since, ahead: ahead, gone: map[digest.Digest]time.Time{}, untagged: map[string]look{},
		touched: map[string]digest.Digest{}, before: map[string]time.Time{}, puts: map[string]digest.Digest{},
	}
}

// now returns the time of the database.
func (w *window) now() time.Time { return time.Now().Add(w.ahead) }

// look returns the time since which pushes stay of what is looked at now: a manifest, or a tag
// that shows it. If an attempt before may have deleted one of them, that is when that one looked
// at it: whoever has pushed it since did so after the deletion, or in the middle of it.
func (r *Running) look(w *window, references ...string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, reference := range references {
		if at, ok := w.before[reference]; ok {
			return at
		}
	}
	if w.begin.IsZero() {
		return w.now()
	}
	return w.begin
}

// resume makes the windows of an operation that was tried before: what it has deleted then may
// not be settled, or not even be stored as deleted.
func (r *Running) resume(ctx context.Context) error {
	o := r.state()
	if !r.Resumed() {
		return nil
	}
	now, err := r.manager.Store.Now(ctx)
	if err != nil {
		return err
	}
	ahead := time.Until(now)
	if o.Tag != "" {
		w := newWindow(o.StartedAt, ahead)
		w.touched[o.Tag] = ""
		w.before[o.Tag] = o.StartedAt
		r.windows[o.Repository] = w
	}
	for after := int64(0); ; {
		page, err := r.manager.Store.TrashOf(ctx, o.ID, after, 1000)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, t := range page {
			after = t.ID
			w := r.windows[t.Repository]
			if w == nil {
				w = newWindow(o.StartedAt, ahead)
				r.windows[t.Repository] = w
			}
			w.resume(t)
		}
	}
}

// resume notes what an attempt before has kept, and perhaps deleted.
func (w *window) resume(t indexer.Trash) {
	references := t.Tags
	if !t.TagsOnly {
		references = append([]string{t.Digest.String()}, t.Tags...)
	}
	for _, reference := range references {
		w.touched[reference], w.before[reference] = "", t.KeptAt
	}
	for _, tag := range t.Tags {
		w.untagged[tag] = look{t.KeptAt, t.Digest}
	}
	if !t.DeletedAt.IsZero() && !t.TagsOnly {
		w.gone[t.Digest] = t.KeptAt
	}
}

// note changes a window by f.
func (r *Running) note(w *window, f func(*window)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(w)
}

// protected returns an ErrConflict if one of the tags must not be changed.
func (m *Manager) protected(ctx context.Context, repository string, tags []string) error {
	reasons, err := m.reasons(ctx, repository, tags)
	if err == nil && len(reasons) > 0 {
		err = refusal(reasons)
	}
	return err
}

// reasons returns why tags must not be changed, in order of tag.
func (m *Manager) reasons(ctx context.Context, repository string, tags []string) (reasons []string, err error) {
	if m.Protected == nil {
		return nil, nil
	}
	all, err := m.Protected(ctx, repository, tags)
	for _, tag := range slices.Sorted(maps.Keys(all)) {
		switch {
		case tag != "":
			reasons = append(reasons, repository+":"+tag+" is protected: "+all[tag])
		case len(all) == 1: // otherwise each tag has the same reason
			reasons = append(reasons, repository+" is protected: "+all[tag])
		}
	}
	return reasons, err
}

// Untag deletes a tag, if it still shows a digest, or whatever it shows if that is "". It
// returns ErrNotFound if there is no such tag, unless the operation has been tried before, and
// ErrConflict if the tag shows another digest or is protected.
func (r *Running) Untag(ctx context.Context, repository, tag string, shows digest.Digest) error {
	if err := r.manager.protected(ctx, repository, []string{tag}); err != nil {
		return err
	}
	now, err := r.untag(ctx, repository, tag, shows)
	switch {
	case errors.Is(err, indexer.ErrNotFound) && r.Resumed():
		return nil
	case errors.Is(err, indexer.ErrNotFound):
		return notThere(repository, tag)
	case err == nil && shows != "" && now != shows:
		return moved(repository, tag, now)
	}
	return err
}

func notThere(repository, reference string) error {
	return &failed{indexer.ErrNotFound, "the registry has no " + indexer.TagOrDigest(reference).In(repository).String()}
}

func moved(repository, tag string, now digest.Digest) error {
	return indexer.Conflict("%s:%s shows %s now: look again", repository, tag, now)
}

// untag deletes a tag right after the registry has said that it shows a digest, or anything if
// that is "". It returns what the tag shows; if that is something else, nothing is deleted.
func (r *Running) untag(
	ctx context.Context, repository, tag string, shows digest.Digest,
) (now digest.Digest, err error) {
	w, err := r.windowOf(ctx, repository)
	if err != nil {
		return "", err
	}
	if now, err = r.manager.Remote.Shows(ctx, repository, tag, shows); err != nil || shows != "" && now != shows {
		return now, err
	}
	settled, err := r.manager.Store.Settled(ctx, repository, tag, now, settleTime)
	if err != nil {
		return now, err
	}
	if !settled && !sleep(ctx, settleTime) {
		return now, ctx.Err()
	}
	if shows == "" {
		shows = now
	}
	return r.untagSettled(ctx, w, repository, tag, shows, settled)
}

// untagSettled is untag for a tag that has not moved for settleTime. If fresh, the registry has
// just said that it shows the digest.
func (r *Running) untagSettled(
	ctx context.Context, w *window, repository, tag string, shows digest.Digest, fresh bool,
) (now digest.Digest, err error) {
	looked := r.look(w, tag, shows.String())
	if now = shows; !fresh {
		if now, err = r.manager.Remote.Shows(ctx, repository, tag, shows); err != nil || now != shows {
			return now, err
		}
	}
	if err := r.manager.Remote.DeleteTag(ctx, repository, tag); err != nil {
		return now, err
	}
	r.note(w, func(w *window) {
		delete(w.before, tag)
		w.untagged[tag], w.touched[tag], w.last = look{looked, now}, "", indexer.TagOrDigest(tag)
		r.o.Result.Untagged++
	})
	return now, nil
}

// A Deletion is a manifest to delete.
type Deletion struct {
	Repository string
	Digest     digest.Digest
	// Tags are all tags that the caller knows to show it: they are deleted too. If another one
	// shows it, that is an ErrConflict. With nil, any tags that show it are deleted.
	Tags []string
	// Referrers says that what refers to it is deleted too, first, with its own tags.
	Referrers bool
	// Unreadable says that it is deleted even if its bytes cannot be read, and so not be kept.
	Unreadable bool
}

// Delete deletes a manifest with the tags that show it. It returns ErrConflict if one of them is
// protected or is not among the known ones, or if an index of the repository names the manifest,
// unless this operation has deleted that index. It returns nil if the manifest is gone already.
//
// The bytes are kept in the trash first.
func (r *Running) Delete(ctx context.Context, d Deletion) error {
	return r.delete(ctx, d, 0)
}

// maxReferrerDepth is how deep referrers of referrers are followed: 8.
const maxReferrerDepth = 8

func (r *Running) delete(ctx context.Context, d Deletion, depth int) error {
	w, err := r.windowOf(ctx, d.Repository)
	if err != nil {
		return err
	}
	if r.isGone(w, d.Digest) {
		return nil
	}
	bounds, err := r.manager.Store.Bounds(ctx, d.Repository, []digest.Digest{d.Digest})
	if err != nil {
		return err
	}
	b := bounds[d.Digest]
	if err := r.notNamed(ctx, w, d, b); err != nil {
		return err
	}
	tags, err := r.tagsShowing(ctx, d, b)
	if err != nil {
		return err
	}
	err = r.keep(ctx, d.Repository, d.Digest, tags)
	if err != nil && !(d.Unreadable && errors.Is(err, indexer.ErrConflict)) {
		return err
	}
	if d.Referrers && depth < maxReferrerDepth {
		if err := r.deleteReferrers(ctx, d, b.ReferredBy, depth+1); err != nil {
			return err
		}
	}
	if err := r.untagAll(ctx, d, tags); err != nil {
		return err
	}
	if len(tags) == 0 && time.Since(b.SeenAt) < settleTime && !sleep(ctx, settleTime) {
		return ctx.Err()
	}
	if err := r.deleteDigest(ctx, w, d.Repository, d.Digest); err != nil {
		return err
	}
	if r.unsettled(w) >= settleEvery {
		return r.settle(ctx, w, d.Repository, false)
	}
	return nil
}

// deleteReferrers deletes what refers to a manifest, except what must stay.
func (r *Running) deleteReferrers(ctx context.Context, d Deletion, referrers []digest.Digest, depth int) error {
	for _, referrer := range referrers {
		err := r.delete(ctx, Deletion{Repository: d.Repository, Digest: referrer, Referrers: true}, depth)
		if err != nil && !errors.Is(err, indexer.ErrConflict) {
			return err
		}
		if err != nil {
			r.Note("the referrer %s stays: %s", referrer, err)
		}
	}
	return nil
}

// untagAll deletes the tags of a manifest that still show it.
func (r *Running) untagAll(ctx context.Context, d Deletion, tags []string) error {
	for _, tag := range tags {
		now, err := r.untag(ctx, d.Repository, tag, d.Digest)
		if err != nil && !errors.Is(err, indexer.ErrNotFound) {
			return err
		}
		if err == nil && now != d.Digest {
			r.Note("%s:%s shows %s now, and stays", d.Repository, tag, now)
		}
	}
	return nil
}

// deleteDigest deletes a manifest that no tag shows.
func (r *Running) deleteDigest(ctx context.Context, w *window, repository string, d digest.Digest) error {
	began := r.look(w, d.String())
	err := r.manager.Remote.DeleteManifest(ctx, repository, d)
	if err != nil && !errors.Is(err, indexer.ErrNotFound) {
		return err
	}
	r.note(w, func(w *window) {
		delete(w.before, d.String())
		w.gone[d], w.touched[d.String()] = began, ""
		if err == nil { // of what was gone already nothing is reported
			w.last = indexer.TagOrDigest(d)
		}
		w.deleted = append(w.deleted, d)
		r.o.Result.Deleted++
	})
	return nil
}

func (r *Running) isGone(w *window, d digest.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, gone := w.gone[d]
	return gone
}

func (r *Running) unsettled(w *window) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(w.deleted)
}

// notNamed returns an ErrConflict if an index that is not deleted names a manifest.
func (r *Running) notNamed(ctx context.Context, w *window, d Deletion, b postgres.Bound) error {
	var reasons []string
	for _, index := range b.NamedBy {
		if r.isGone(w, index) {
			continue
		}
		switch err := r.manager.Remote.Exists(ctx, d.Repository, index); {
		case err == nil:
			reasons = append(reasons, named(d.Repository, d.Digest, index))
		case !errors.Is(err, indexer.ErrNotFound):
			return err
		}
	}
	if len(reasons) > 0 {
		return refusal(reasons)
	}
	return nil
}

// named is the reason not to delete a manifest that an index names.
func named(repository string, d, index digest.Digest) string {
	return "the index " + repository + "@" + index.String() + " names " + d.String() + ": delete the index first"
}

// tagsShowing returns the tags that show a manifest, or are said to: each is looked at again
// before it is deleted.
func (r *Running) tagsShowing(ctx context.Context, d Deletion, b postgres.Bound) ([]string, error) {
	pushed, err := r.manager.Store.TagsPushed(ctx, d.Repository, d.Digest)
	if err != nil {
		return nil, err
	}
	unbooked, err := r.unbooked(ctx, d.Repository)
	if err != nil {
		return nil, err
	}
	candidates := slices.Concat(b.Tags, d.Tags, pushed)
	for tag, shows := range unbooked {
		if shows == d.Digest {
			candidates = append(candidates, tag)
		}
	}
	slices.Sort(candidates)
	candidates = slices.Compact(candidates)
	var tags, unknown []string
	for _, tag := range candidates {
		now, err := r.manager.Remote.Shows(ctx, d.Repository, tag, d.Digest)
		switch {
		case err != nil && !errors.Is(err, indexer.ErrNotFound):
			return nil, err
		case err != nil || now != d.Digest:
			continue
		case d.Tags != nil && !slices.Contains(d.Tags, tag):
			unknown = append(unknown, d.Repository+":"+tag+" shows "+d.Digest.String()+" too: look again")
		}
		tags = append(tags, tag)
	}
	if len(unknown) > 0 {
		return nil, refusal(unknown)
	}
	return tags, r.manager.protected(ctx, d.Repository, tags)
}

// listEvery is how long unbooked relies on a list of tags: 10 s, so that a plan that deletes
// thousands of manifests of a repository does not list its tags for each.
const listEvery = 10 * time.Second

// unbooked returns what those tags show that the registry lists and the book does not have,
// because no event has told of them. With its manifest the registry would delete them too.
func (r *Running) unbooked(ctx context.Context, repository string) (map[string]digest.Digest, error) {
	w, err := r.windowOf(ctx, repository)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	listed, fresh := w.listed, time.Since(w.listedAt) < listEvery
	r.mu.Unlock()
	if fresh {
		return listed, nil
	}
	all, err := r.manager.listed(ctx, repository)
	if err != nil {
		return nil, err
	}
	unknown, err := r.manager.Store.UnknownTags(ctx, repository, all)
	if err != nil {
		return nil, err
	}
	listed, err = r.manager.shown(ctx, repository, unknown)
	r.note(w, func(w *window) { w.listed, w.listedAt = listed, time.Now() })
	return listed, err
}

// keep stores the bytes of a manifest in the trash. If neither the registry nor the book has
// bytes that can be read, it is an ErrConflict and a note.
func (r *Running) keep(ctx context.Context, repository string, d digest.Digest, tags []string) error {
	mediaType, body, err := r.manager.Store.ManifestBody(ctx, repository, d)
	for n := 0; errors.Is(err, indexer.ErrNotFound) && n < firmTries; n++ {
		var desc ocispec.Descriptor
		body, desc, err = r.manager.Remote.Manifest(ctx, repository, d.String())
		mediaType = desc.MediaType
		switch {
		case errors.Is(err, indexer.ErrNotFound):
			return nil // it is gone already
		case err != nil && unlessBroken(err) == nil && n+1 < firmTries && sleep(ctx, settleTime):
			err = indexer.ErrNotFound
		}
	}
	switch {
	case err != nil && (unlessBroken(err) == nil || errors.Is(err, indexer.ErrInvalid)):
		r.Note("%s@%s cannot be restored later: %s", repository, d, textOf(err))
		return indexer.Conflict("the bytes of %s@%s cannot be read, so they cannot be kept", repository, d)
	case err != nil:
		return err
	}
	return r.manager.Store.KeepTrash(ctx, indexer.Trash{
		Operation: r.o.ID, Repository: repository, Digest: d, MediaType: mediaType, Body: body, Tags: tags,
	})
}

// Put puts a manifest into the registry, under a tag or its digest, whose bytes the caller has.
// If the tag shows it, it does nothing. It returns ErrConflict if the tag is protected and shows
// another digest, if the repository is frozen, or if a blob or a manifest that the bytes name is
// missing.
func (r *Running) Put(
	ctx context.Context, repository string, reference indexer.TagOrDigest, mediaType string, body []byte,
) error {
	d := digest.FromBytes(body)
	if want := reference.Digest(); want != "" {
		d = want.Algorithm().FromBytes(body)
	}
	var tags []string
	if tag := reference.Tag(); tag != "" {
		now, err := r.manager.Remote.Shows(ctx, repository, tag, d)
		if err != nil && !errors.Is(err, indexer.ErrNotFound) {
			return err
		}
		if now == d {
			return nil
		}
		if now != "" { // the first push of a protected tag is allowed
			tags = []string{tag}
		}
	}
	if err := r.manager.protected(ctx, repository, tags); err != nil { // or frozen
		return err
	}
	w, err := r.windowOf(ctx, repository)
	if err != nil {
		return err
	}
	return r.put(ctx, w, repository, reference, put{d, mediaType, body})
}

// put is Put without a look at the tag.
func (r *Running) put(ctx context.Context, w *window, repository string, reference indexer.TagOrDigest, p put) error {
	d := p.digest
	r.note(w, func(w *window) { w.puts[string(reference)] = d }) // before its event comes
	_, err := r.manager.Remote.Put(ctx, repository, reference, p.mediaType, p.body)
	var status *remote.StatusError
	if errors.As(err, &status) && status.Status == http.StatusBadRequest {
		return indexer.Conflict("the registry refuses %s@%s: a blob or a manifest that it names is missing", repository, d)
	}
	if err != nil {
		return err
	}
	r.note(w, func(w *window) {
		delete(w.gone, d)
		w.deleted = slices.DeleteFunc(w.deleted, func(x digest.Digest) bool { return x == d })
		w.touched[string(reference)] = d
		if reference.IsTag() {
			delete(w.untagged, reference.Tag())
			r.o.Result.Tagged++
		} else {
			r.o.Result.Restored++
		}
	})
	return r.manager.Store.BackInRegistry(ctx, repository, d, reference.Tag())
}
