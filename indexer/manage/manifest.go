package manage

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

// A deleteManifest deletes a manifest with the tags that show it, and if asked for what refers
// to it, and what an index names.
type deleteManifest struct{ *Manager }

// maxDeletions is the maximum number of manifests that go with one: 10,000.
const maxDeletions = 10_000

// Preview implements Previewer.
func (m deleteManifest) Preview(ctx context.Context, o indexer.Operation) (e indexer.Effect, err error) {
	s, err := m.selection(ctx, o, nil)
	if err != nil {
		return e, err
	}
	if _, known := s.bounds[o.Digest]; !known {
		if err := m.Remote.Exists(ctx, o.Repository, o.Digest); err != nil {
			if errors.Is(err, indexer.ErrNotFound) {
				err = notThere(o.Repository, o.Digest.String())
			}
			return e, err
		}
	}
	for _, d := range s.order {
		b := s.bounds[d]
		e.Deletes = append(e.Deletes, indexer.Effected{
			Digest: d, Kind: b.Kind, MediaType: b.MediaType, Tags: b.Tags, Why: s.why[d],
		})
		e.Untags = append(e.Untags, b.Tags...)
	}
	slices.Sort(e.Untags)
	e.Stays = s.stays()
	for _, index := range s.bounds[o.Digest].NamedBy {
		if !s.has(index) {
			e.Refused = append(e.Refused, named(o.Repository, o.Digest, index))
		}
	}
	if o.Options.Tags != nil {
		known := map[string]bool{}
		for _, tag := range o.Options.Tags {
			known[tag] = true
		}
		for _, tag := range s.bounds[o.Digest].Tags {
			if !known[tag] {
				e.Refused = append(e.Refused, o.Repository+":"+tag+" shows "+o.Digest.String()+" too: look again")
			}
		}
	}
	reasons, err := m.reasons(ctx, o.Repository, e.Untags)
	e.Refused = append(e.Refused, reasons...)
	return e, err
}

// Perform implements Performer. Whoever has been killed in the middle selects again: what is
// deleted is not selected, and referrers have gone before the manifest. Its children are those of
// the trash.
func (m deleteManifest) Perform(ctx context.Context, r *Running) error {
	o := r.Operation()
	var children []digest.Digest
	if r.Resumed() && o.Options.Children {
		_, body, err := m.Store.TrashBody(ctx, o.Repository, o.Digest)
		if err != nil && !errors.Is(err, indexer.ErrNotFound) {
			return err
		}
		children = contentOf(body).manifests
	}
	s, err := m.selection(ctx, o, children)
	if err != nil {
		return err
	}
	r.Progress(0, len(s.order))
	for i, d := range s.order {
		deletion := Deletion{Repository: o.Repository, Digest: d, Tags: o.Options.Tags, Unreadable: d == o.Digest}
		if d != o.Digest { // it stays if it got a tag meanwhile
			deletion.Tags = append([]string{}, s.bounds[d].Tags...)
		}
		err := r.Delete(ctx, deletion)
		switch {
		case err != nil && d != o.Digest && errors.Is(err, indexer.ErrConflict):
			r.Note("%s stays: %s", d, err)
		case err != nil:
			return err
		}
		r.Progress(i+1, len(s.order))
	}
	return nil
}

// A selection is what goes with a manifest.
type selection struct {
	asked  digest.Digest
	order  []digest.Digest // those to delete: referrers, the manifest, its children
	why    map[digest.Digest]string
	bounds map[digest.Digest]postgres.Bound // of these and of those beside them
}

func (s *selection) has(d digest.Digest) bool { return s.why[d] != "" }

// selection selects what an operation deletes. If the manifest is not in the book any more, these
// are its children.
func (m deleteManifest) selection(
	ctx context.Context, o indexer.Operation, children []digest.Digest,
) (*selection, error) {
	s := &selection{asked: o.Digest, why: map[digest.Digest]string{o.Digest: "it was asked for"}}
	s.bounds = map[digest.Digest]postgres.Bound{}
	for added := []digest.Digest{o.Digest}; len(added) > 0; {
		if err := m.look(ctx, o.Repository, s, added); err != nil {
			return nil, err
		}
		if _, known := s.bounds[o.Digest]; !known && len(children) > 0 {
			s.bounds[o.Digest] = postgres.Bound{Digest: o.Digest, Kind: indexer.KindIndex, Names: children}
			if err := m.look(ctx, o.Repository, s, children); err != nil {
				return nil, err
			}
		}
		added = s.grow(o.Options)
		if len(s.why) > maxDeletions {
			return nil, indexer.Conflict("more than %d manifests go with %s: delete the repository, or fewer at a time",
				maxDeletions, o.Digest)
		}
	}
	s.sort()
	return s, nil
}

// look reads the bounds of manifests, and of those that they name or that refer to them.
func (m deleteManifest) look(ctx context.Context, repository string, s *selection, of []digest.Digest) error {
	for range 2 {
		bounds, err := m.Store.Bounds(ctx, repository, of)
		if err != nil {
			return err
		}
		maps.Copy(s.bounds, bounds)
		of = nil
		for _, b := range bounds {
			of = append(of, slices.DeleteFunc(slices.Concat(b.Names, b.ReferredBy), func(d digest.Digest) bool {
				_, known := s.bounds[d]
				return known
			})...)
		}
	}
	return nil
}

// grow adds what goes with those that are selected, and returns what it has added.
func (s *selection) grow(options indexer.OperationOptions) (added []digest.Digest) {
	for _, d := range slices.Sorted(maps.Keys(s.why)) {
		b := s.bounds[d]
		if options.Referrers {
			for _, x := range b.ReferredBy {
				if !s.has(x) && s.free(x) {
					s.why[x] = "it refers to " + d.String()
					added = append(added, x)
				}
			}
		}
		if !options.Children {
			continue
		}
		for _, x := range b.Names {
			if !s.has(x) && len(s.bounds[x].Tags) == 0 && s.free(x) {
				s.why[x] = "the index " + d.String() + " names it, and nothing else needs it"
				added = append(added, x)
			}
		}
	}
	return added
}

// free reports whether no index that stays names a manifest.
func (s *selection) free(d digest.Digest) bool {
	return !slices.ContainsFunc(s.bounds[d].NamedBy, func(index digest.Digest) bool { return !s.has(index) })
}

// sort sets the order of the deletions: an index before what it names, and a referrer before its
// subject.
func (s *selection) sort() {
	placed := map[digest.Digest]bool{}
	var place func(d digest.Digest)
	place = func(d digest.Digest) {
		if placed[d] || !s.has(d) {
			return
		}
		placed[d] = true
		for _, before := range slices.Concat(s.bounds[d].NamedBy, s.bounds[d].ReferredBy) {
			place(before)
		}
		s.order = append(s.order, d)
	}
	for _, d := range slices.Sorted(maps.Keys(s.why)) {
		place(d)
	}
}

// stays returns the manifests beside the selected ones that stay, with the reason.
func (s *selection) stays() (stays []indexer.Effected) {
	said := map[digest.Digest]bool{}
	stay := func(d digest.Digest, why string) {
		b := s.bounds[d]
		if s.has(d) || said[d] {
			return
		}
		said[d] = true
		stays = append(stays, indexer.Effected{Digest: d, Kind: b.Kind, MediaType: b.MediaType, Tags: b.Tags, Why: why})
	}
	for _, d := range s.order {
		for _, x := range s.bounds[d].Names {
			switch b := s.bounds[x]; {
			case len(b.Tags) > 0:
				stay(x, "tags show it")
			case !s.free(x):
				stay(x, "another index names it")
			default:
				stay(x, "the manifests of an index stay unless asked otherwise")
			}
		}
		for _, x := range s.bounds[d].ReferredBy {
			stay(x, "referrers stay unless asked otherwise")
		}
	}
	return stays
}
