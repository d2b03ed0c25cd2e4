package manage

import (
	"context"
	"errors"

	"github.com/portbook/portbook/indexer"
)

// An untag deletes a tag. The manifest stays.
type untag struct{ *Manager }

// Preview implements Previewer.
func (m untag) Preview(ctx context.Context, o indexer.Operation) (e indexer.Effect, err error) {
	now, err := m.Remote.Shows(ctx, o.Repository, o.Tag, o.Digest)
	switch {
	case errors.Is(err, indexer.ErrNotFound):
		return e, notThere(o.Repository, o.Tag)
	case err != nil:
		return e, err
	case o.Digest != "" && now != o.Digest:
		e.Refused = append(e.Refused, moved(o.Repository, o.Tag, now).Error())
	}
	reasons, err := m.reasons(ctx, o.Repository, []string{o.Tag})
	e.Refused, e.Untags = append(e.Refused, reasons...), []string{o.Tag}
	e.Stays = []indexer.Effected{{Digest: now, Why: "a manifest stays when its tag is deleted"}}
	return e, err
}

// Perform implements Performer.
func (m untag) Perform(ctx context.Context, r *Running) error {
	o := r.Operation()
	r.Progress(0, 1)
	err := r.Untag(ctx, o.Repository, o.Tag, o.Digest)
	if err == nil {
		r.Progress(1, 1)
	}
	return err
}
