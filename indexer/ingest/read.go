package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/remote"
)

const (
	// maxConfig is the most bytes of an image config that we read: 4 MiB, as
	// much as of a manifest. A config with 300 kB of labels is the largest that
	// anybody reported to us.
	maxConfig = 4 << 20
	// tagPatience is how long a tag is given to show what its event announced,
	// if Workers do not say otherwise. The registry sends the event before it
	// writes the tag; the tag was there after 8 ms in the median and 86 ms at
	// most (distribution v3.1.2, 400 pushes).
	tagPatience = 2 * time.Second
	// tagPlace is for how long a worker's place is held while a tag is waited for: 25
	// ms. Nine tags of ten are there by then. Who waits longer waits aside, if there
	// is room, and else leaves it to the second look.
	tagPlace = 25 * time.Millisecond
	// configTimeout is how long the config of an image may take to be read: 10 s,
	// five times the slowest honest answer of 4 MiB (see remote). Then the image is
	// stored without it: a storage that hangs must not keep it out of the book for
	// as long as a request may take.
	configTimeout = 10 * time.Second
	// firstStep is the first pause while waiting for a tag; each is twice the
	// one before, up to maxStep.
	firstStep = 3 * time.Millisecond
	maxStep   = 200 * time.Millisecond
	// confirmAfter is when a tag that an event announced is looked at again: the
	// registry may write it later than we waited, or fail to write it at all.
	confirmAfter = 2 * time.Second
)

// A reader looks at one reference in the registry.
type reader struct {
	remote   *remote.Client
	maxMeta  int           // bytes of labels and annotations
	patience time.Duration // with a tag that does not show yet what was announced
	config   time.Duration // for the config of an image
	linger   func() bool   // moves aside to wait for a tag; false if too many wait
	unread   error         // why a config was not read; nil: it was
}

// read looks at what one task names. An error means that it could not be told
// what is there, or not all of it if the finding is Unfinished; the same look may
// tell later.
func (r *reader) read(ctx context.Context, t indexer.Task) (indexer.Finding, error) {
	f := indexer.Finding{Task: t, Outcome: indexer.Found}
	if t.IsTag() && t.Priority == indexer.PriorityEvent {
		f.Again = confirmAfter
	}
	var err error
	switch {
	case t.IsDigest():
		err = r.readDigest(ctx, &f)
	case t.Hint != "":
		err = r.readAnnounced(ctx, &f)
	default:
		err = r.readTag(ctx, &f, t.TagDigest)
	}
	if errors.Is(err, indexer.ErrNotFound) {
		f.Outcome, err = indexer.Gone, nil
	}
	if err == nil && f.Outcome == indexer.Found && r.unread != nil {
		f.Unfinished, err = true, r.unread
	}
	return f, err
}

// readDigest looks whether a manifest is there, and reads it if it is new.
func (r *reader) readDigest(ctx context.Context, f *indexer.Finding) error {
	if f.Task.Known {
		return r.remote.Exists(ctx, f.Task.Repository, f.Task.Digest())
	}
	return r.readManifest(ctx, f, f.Task.Digest())
}

// readAnnounced reads the manifest that an event announced by its digest, at
// once, and then waits for the tag to show it.
//
// One that is not there is not waited for: the registry writes the manifest before
// it sends the event (distribution v3.1.2: 400 of 400 were readable), so that it is
// deleted already, or the event is forged. Where a storage shows it later after all,
// the second look finds it.
func (r *reader) readAnnounced(ctx context.Context, f *indexer.Finding) error {
	if !f.Task.Known {
		err := r.readManifest(ctx, f, f.Task.Hint)
		if errors.Is(err, indexer.ErrNotFound) {
			return r.readTag(ctx, f, f.Task.TagDigest)
		}
		if err != nil {
			return err
		}
	}
	shown, err := r.await(ctx, f.Task)
	if err != nil {
		return err
	}
	if shown == f.Task.Hint && (f.Task.Known || len(f.Manifests) > 0) {
		f.Digest = shown
		return nil
	}
	return r.readTag(ctx, f, f.Task.TagDigest)
}

// await asks in short steps what the tag shows, until it is what was announced, or
// the patience is over, or too many others wait for tags. It returns what the tag
// shows in the end.
func (r *reader) await(ctx context.Context, t indexer.Task) (shown digest.Digest, err error) {
	step, begin := firstStep, time.Now()
	// Counted from when we were told: a batch of tags that have all moved on is
	// waited for once, not once for each.
	for deadline := t.HintedAt.Add(r.patience); ; step = min(2*step, maxStep) {
		shown, err = r.remote.Shows(ctx, t.Repository, t.Reference, t.Hint)
		if err == nil && shown == t.Hint || err != nil && !errors.Is(err, indexer.ErrNotFound) {
			return shown, err
		}
		next := time.Now().Add(step)
		if next.After(deadline) || next.Sub(begin) > tagPlace && !r.linger() {
			return shown, err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(step):
		}
	}
}

// readTag reads what a tag shows, if that is not the digest known already.
func (r *reader) readTag(ctx context.Context, f *indexer.Finding, known digest.Digest) error {
	if known != "" && !f.Task.Known && f.Task.Hint == "" {
		known = "" // the book has the manifest with problems: read it again
	}
	body, desc, same, err := r.remote.ManifestUnless(ctx, f.Task.Repository, f.Task.Reference, known)
	if errors.Is(err, indexer.ErrInvalid) {
		return r.broken(f, err)
	}
	if err != nil {
		return err
	}
	if same {
		f.Digest = known
		return nil
	}
	f.Digest = desc.Digest
	return r.take(ctx, f, body, desc)
}

// readManifest reads a manifest by its digest. One that has other bytes than its
// digest says is taken as there, and as unreadable.
func (r *reader) readManifest(ctx context.Context, f *indexer.Finding, d digest.Digest) error {
	body, desc, err := r.remote.Manifest(ctx, f.Task.Repository, d.String())
	if errors.Is(err, indexer.ErrInvalid) {
		f.Manifests = append(f.Manifests, indexer.Manifest{
			Repository: f.Task.Repository, Digest: d, Kind: indexer.KindUnknown, Problems: []string{reason(err)},
		})
		return nil
	}
	if err != nil {
		return err
	}
	return r.take(ctx, f, body, desc)
}

// broken records a tag that the registry has and cannot show as it should.
func (r *reader) broken(f *indexer.Finding, err error) error {
	f.Outcome, f.Problem = indexer.Broken, reason(err)
	return nil
}

// take parses a manifest, reads the config of an image, and asks for the
// manifests that an index lists.
func (r *reader) take(ctx context.Context, f *indexer.Finding, body []byte, desc ocispec.Descriptor) error {
	for _, m := range f.Manifests {
		if m.Digest == desc.Digest {
			return nil // read a moment ago
		}
	}
	m := parseManifest(f.Task.Repository, body, desc)
	if m.Kind == indexer.KindImage && m.Config != nil {
		err := r.readConfig(ctx, &m)
		switch {
		case err == nil:
		case errors.Is(context.Cause(ctx), errCrowded):
			err = errCrowded
		case ctx.Err() != nil:
			return err // we are stopping
		}
		if err != nil {
			// The rest is stored meanwhile: a storage that does not answer for one blob
			// must not keep the image out of the book.
			m.Problems = append(m.Problems, "the config was not read: "+reason(err))
			r.unread = err
		}
	}
	limitMetadata(&m, r.maxMeta)
	limitProblems(&m)
	f.Manifests = append(f.Manifests, m)
	for _, e := range m.Entries {
		f.Asks = append(f.Asks, indexer.Ask{Repository: m.Repository, Reference: e.Digest.String(), Priority: f.Task.Priority})
	}
	return nil
}

// readConfig reads the config of an image. One that is missing, too large or not
// what its digest says is a problem of the image, which is stored without it.
func (r *reader) readConfig(ctx context.Context, m *indexer.Manifest) error {
	if m.Config.Size > maxConfig {
		m.Problems = append(m.Problems, fmt.Sprintf("the config is %d bytes, more than the %d that we read", m.Config.Size, maxConfig))
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.config)
	defer cancel()
	body, err := r.remote.Blob(ctx, m.Repository, m.Config.Digest, maxConfig)
	switch {
	case errors.Is(err, indexer.ErrNotFound):
		m.Problems = append(m.Problems, fmt.Sprintf("the config %s is not in the registry", m.Config.Digest))
		return nil
	case errors.Is(err, indexer.ErrInvalid):
		m.Problems = append(m.Problems, reason(err))
		return nil
	case err != nil:
		return err
	}
	parseConfig(m, body)
	return nil
}
