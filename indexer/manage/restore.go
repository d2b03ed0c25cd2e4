package manage

import (
	"context"
	"errors"
	"slices"

	"github.com/portbook/portbook/indexer"
)

// A restore puts back what operations have deleted, with the tags, unless these show something
// else now. If it is of several manifests, it does what can be done, and notes what cannot.
type restore struct{ *Manager }

// Preview implements Previewer. It looks at the first 1,000 manifests.
func (m restore) Preview(ctx context.Context, o indexer.Operation) (e indexer.Effect, err error) {
	all, err := m.asked(ctx, o)
	if err != nil {
		return e, err
	}
	for _, t := range all[:min(len(all), maxShown)] {
		if err := m.preview(ctx, t, &e); err != nil {
			return e, err
		}
	}
	if len(e.Puts) > 0 {
		e.Refused = nil // what can be restored is
	}
	return e, nil
}

// preview adds to an effect what restoring one manifest would do.
func (m restore) preview(ctx context.Context, t indexer.Trash, e *indexer.Effect) error {
	frozen, err := m.reasons(ctx, t.Repository, nil)
	if err != nil || len(frozen) > 0 {
		e.Refused = append(e.Refused, frozen...)
		return err
	}
	n := m.newNeeds(t.Repository)
	if err := n.add(ctx, t.Digest, t.Digest, 0); err != nil {
		return err
	}
	if len(n.missing) > 0 {
		e.Missing, e.Refused = append(e.Missing, n.missing...), append(e.Refused, n.refused()...)
		return nil
	}
	put := indexer.Effected{Digest: t.Digest, MediaType: t.MediaType, Tags: t.Tags, Why: "it is in the trash"}
	if t.TagsOnly {
		put.Why = "its tags are in the trash"
	}
	e.Puts = append(e.Puts, put)
	for _, tag := range t.Tags {
		now, err := m.Remote.Shows(ctx, t.Repository, tag, t.Digest)
		switch {
		case errors.Is(err, indexer.ErrNotFound):
			e.Tags = append(e.Tags, indexer.TagMove{Tag: tag, To: t.Digest})
		case err != nil:
			return err
		case now != t.Digest:
			stay := indexer.Effected{Digest: now, Tags: []string{tag}, Why: "the tag shows something else now"}
			e.Stays = append(e.Stays, stay)
		}
	}
	return nil
}

// asked returns the manifests of the trash that an operation is to put back, indexes last. It
// returns ErrNotFound if there are none.
func (m restore) asked(ctx context.Context, o indexer.Operation) (all []indexer.Trash, err error) {
	unstored := false // so that it may have deleted what it did not store as deleted
	switch {
	case o.Options.Undo > 0:
		var undone indexer.Operation
		if undone, err = m.Store.Operation(ctx, o.Options.Undo); err == nil {
			all, err = m.kept(ctx, o.Options.Undo)
		}
		unstored = undone.State == indexer.OperationFailed
	case len(o.Options.Trash) > maxDeletions:
		return nil, indexer.Invalid("at most %d numbers of the trash can be given", maxDeletions)
	default:
		all, err = m.Store.TrashByID(ctx, o.Options.Trash)
	}
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(t indexer.Trash) bool {
		return t.DeletedAt.IsZero() && !unstored || o.Repository != "" && t.Repository != o.Repository ||
			!t.RestoredAt.IsZero() && (o.Claims <= 1 || t.RestoredAt.Before(o.StartedAt)) // an attempt before may lack tags
	})
	if len(all) == 0 {
		return nil, &failed{indexer.ErrNotFound, "there is nothing in the trash to restore"}
	}
	slices.SortStableFunc(all, func(a, b indexer.Trash) int {
		return boolOrder(isIndex(b.MediaType), isIndex(a.MediaType))
	})
	return all, nil
}

// Perform implements Performer.
func (m restore) Perform(ctx context.Context, r *Running) error {
	o := r.Operation()
	all, err := m.asked(ctx, o)
	if errors.Is(err, indexer.ErrNotFound) && r.Resumed() {
		return nil
	}
	if err != nil {
		return err
	}
	var refused []string
	r.Progress(0, len(all))
	for i, t := range all {
		err := m.one(ctx, r, t)
		switch {
		case errors.Is(err, indexer.ErrConflict) || errors.Is(err, indexer.ErrNotFound):
			refused = append(refused, err.Error())
			r.Note("%s@%s was not restored: %s", t.Repository, t.Digest, err)
		case err != nil:
			return err
		}
		r.Progress(i+1, len(all))
	}
	if len(refused) == len(all) {
		return refusal(refused)
	}
	return nil
}

// one puts one manifest back. An index may have been put back with what it needs already.
func (m restore) one(ctx context.Context, r *Running, t indexer.Trash) error {
	n := m.newNeeds(t.Repository)
	if err := n.add(ctx, t.Digest, t.Digest, 0); err != nil {
		return err
	}
	if len(n.missing) > 0 {
		return refusal(n.refused())
	}
	if err := n.put(ctx, r, ""); err != nil {
		return err
	}
	for _, tag := range t.Tags {
		if err := m.tag(ctx, r, t, tag); err != nil {
			return err
		}
	}
	return m.Store.RestoredTrash(ctx, t.ID)
}

// tag makes a tag show a manifest again, if there is no such tag.
func (m restore) tag(ctx context.Context, r *Running, t indexer.Trash, tag string) error {
	now, err := m.Remote.Shows(ctx, t.Repository, tag, t.Digest)
	switch {
	case err == nil && now != t.Digest:
		r.Note("%s:%s shows %s now, and stays", t.Repository, tag, now)
		return nil
	case err == nil:
		return nil
	case !errors.Is(err, indexer.ErrNotFound):
		return err
	}
	mediaType, body, err := m.bytesOf(ctx, t.Repository, t.Digest)
	if err != nil {
		return err
	}
	return r.Put(ctx, t.Repository, indexer.TagOrDigest(tag), mediaType, body)
}
