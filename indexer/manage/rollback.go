package manage

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
)

// A rollback makes a tag show a manifest that it has shown before, or another one of the
// repository. The bytes are those of the registry, of the book or of the trash.
type rollback struct{ *Manager }

// Preview implements Previewer.
func (m rollback) Preview(ctx context.Context, o indexer.Operation) (e indexer.Effect, err error) {
	to, err := m.target(ctx, o)
	if err != nil {
		return e, err
	}
	now, err := m.Remote.Shows(ctx, o.Repository, o.Tag, to)
	if err != nil && !errors.Is(err, indexer.ErrNotFound) {
		return e, err
	}
	if o.Options.Shows != "" && now != o.Options.Shows && now != to {
		e.Refused = append(e.Refused, changed(o, now).Error())
	}
	if now == to {
		return e, nil
	}
	n := m.newNeeds(o.Repository)
	if err := n.add(ctx, to, to, 0); err != nil {
		return e, err
	}
	e.Tags = []indexer.TagMove{{Tag: o.Tag, From: now, To: to}}
	e.Missing = n.missing
	e.Refused = append(e.Refused, n.refused()...)
	for _, p := range n.puts {
		e.Puts = append(e.Puts, indexer.Effected{Digest: p.digest, MediaType: p.mediaType, Why: "it was deleted"})
	}
	if now != "" {
		e.Stays = []indexer.Effected{{Digest: now, Why: "a manifest stays when its tag moves"}}
	}
	var tags []string
	if now != "" {
		tags = []string{o.Tag}
	}
	reasons, err := m.reasons(ctx, o.Repository, tags)
	e.Refused = append(e.Refused, reasons...)
	return e, err
}

// changed is the error of a tag that does not show what the caller has seen.
func changed(o indexer.Operation, now digest.Digest) error {
	if now == "" {
		return indexer.Conflict("%s:%s was deleted meanwhile: look again", o.Repository, o.Tag)
	}
	return moved(o.Repository, o.Tag, now)
}

// target returns the digest that the tag is to show.
func (m rollback) target(ctx context.Context, o indexer.Operation) (digest.Digest, error) {
	if o.Options.Move == 0 {
		if o.Digest == "" {
			return "", indexer.Invalid("a rollback needs a digest, or an entry of the history")
		}
		return o.Digest, nil
	}
	move, err := m.Store.MoveOf(ctx, o.Repository, o.Tag, o.Options.Move)
	switch {
	case errors.Is(err, indexer.ErrNotFound):
		return "", &failed{indexer.ErrNotFound, "the history of " + o.Repository + ":" + o.Tag + " has no such entry"}
	case err != nil:
		return "", err
	case move.To == "":
		return "", indexer.Conflict("that entry is a deletion of %s:%s: choose one with a digest", o.Repository, o.Tag)
	case o.Digest != "" && o.Digest != move.To:
		return "", indexer.Conflict("that entry has the digest %s, and not %s", move.To, o.Digest)
	}
	return move.To, nil
}

// Perform implements Performer.
func (m rollback) Perform(ctx context.Context, r *Running) error {
	o := r.Operation()
	to, err := m.target(ctx, o)
	if err != nil {
		return err
	}
	r.Progress(0, 1)
	now, err := m.Remote.Shows(ctx, o.Repository, o.Tag, to)
	switch {
	case err != nil && !errors.Is(err, indexer.ErrNotFound):
		return err
	case now == to:
		r.Progress(1, 1)
		return nil
	case o.Options.Shows != "" && now != o.Options.Shows:
		return changed(o, now)
	}
	n := m.newNeeds(o.Repository)
	if err := n.add(ctx, to, to, 0); err != nil {
		return err
	}
	if len(n.missing) > 0 {
		return refusal(n.refused())
	}
	if err := n.put(ctx, r, to); err != nil {
		return err
	}
	mediaType, body, err := m.bytesOf(ctx, o.Repository, to)
	if err != nil {
		return err
	}
	if err := r.Put(ctx, o.Repository, indexer.TagOrDigest(o.Tag), mediaType, body); err != nil {
		return err
	}
	r.Progress(1, 1)
	return nil
}
