package manage

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
)

// A putBack puts a protected tag back that somebody has moved or deleted all the same.
type putBack struct{ *Manager }

// Perform implements Performer. If the tag is not protected any more, or shows what it must, it
// does nothing.
func (m putBack) Perform(ctx context.Context, r *Running) error {
	o := r.Operation()
	reasons, err := m.reasons(ctx, o.Repository, []string{o.Tag})
	if err != nil {
		return err
	}
	if len(reasons) == 0 {
		r.Note("%s:%s is not protected any more, and stays", o.Repository, o.Tag)
		return nil
	}
	now, err := m.Remote.Shows(ctx, o.Repository, o.Tag, o.Digest)
	if err != nil && !errors.Is(err, indexer.ErrNotFound) {
		return err
	}
	if now == o.Digest {
		return nil
	}
	mediaType, body, err := m.protectedBytes(ctx, o.Repository, o.Digest)
	if errors.Is(err, indexer.ErrNotFound) {
		return indexer.Conflict("nobody has the manifest %s any more: push it again", o.Digest)
	}
	if err != nil {
		return err
	}
	w, err := r.windowOf(ctx, o.Repository)
	if err != nil {
		return err
	}
	if err := m.putChildren(ctx, r, w, o); err != nil {
		return err
	}
	return r.put(ctx, w, o.Repository, indexer.TagOrDigest(o.Tag), put{o.Digest, mediaType, body})
}

// protectedBytes returns the bytes of a manifest, from wherever they are.
func (m putBack) protectedBytes(ctx context.Context, repository string, d digest.Digest) (string, []byte, error) {
	mediaType, body, err := m.bytesOf(ctx, repository, d)
	if errors.Is(err, indexer.ErrNotFound) {
		mediaType, body, err = m.Store.ProtectedBody(ctx, repository, d)
	}
	return mediaType, body, err
}

// putChildren puts back what an index names and the registry lacks.
func (m putBack) putChildren(ctx context.Context, r *Running, w *window, o indexer.Operation) error {
	bounds, err := m.Store.Bounds(ctx, o.Repository, []digest.Digest{o.Digest})
	if err != nil {
		return err
	}
	for _, child := range bounds[o.Digest].Names {
		err := m.Remote.Exists(ctx, o.Repository, child)
		if !errors.Is(err, indexer.ErrNotFound) {
			if err != nil {
				return err
			}
			continue
		}
		mediaType, body, err := m.protectedBytes(ctx, o.Repository, child)
		if errors.Is(err, indexer.ErrNotFound) {
			return indexer.Conflict("nobody has the manifest %s any more, which %s names: push it again", child, o.Digest)
		}
		if err == nil {
			err = r.put(ctx, w, o.Repository, indexer.TagOrDigest(child), put{child, mediaType, body})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
