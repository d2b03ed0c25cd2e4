package ingest

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/remote"
)

const (
	// maxConfig is the maximum size of an image config that is read: 4 MiB, as for a
	// manifest. The largest config reported to us has 300 kB of labels.
	maxConfig = 4 << 20
	// tagPatience is how long to wait for a tag to show what its event announced, unless
	// WorkersConfig sets another time: 2 s. The registry sends the event before it writes
	// the tag: 8 ms before in the median, 86 ms at most (distribution v3.1.2, 400 pushes).
	tagPatience = 2 * time.Second
	// tagPlace is how long a worker keeps its place while it waits for a tag: 25 ms. Nine
	// tags of ten are there by then. After that it waits aside if there is room, and
	// otherwise leaves the tag to the second look.
	tagPlace = 25 * time.Millisecond
	// configTimeout limits reading the config of an image: 10 s, five times the slowest
	// answer of 4 MiB measured (see remote). After that the image is stored without it, so
	// that a storage that hangs does not delay the image by the full request timeout.
	configTimeout = 10 * time.Second
	// firstStep is the first pause while waiting for a tag; each is twice the
	// one before, up to maxStep.
	firstStep = 3 * time.Millisecond
	maxStep   = 200 * time.Millisecond
	// confirmAfter is the pause before the second look at a tag that an event announced:
	// the registry may write the tag later than we waited, or fail to write it.
	confirmAfter = 2 * time.Second
)

// A reader reads one reference from the registry.
type reader struct {
	remote   *remote.Client
	log      *slog.Logger
	maxMeta  int           // bytes of labels and annotations
	patience time.Duration // see WorkersConfig.TagPatience
	config   time.Duration // see WorkersConfig.ConfigTimeout
	linger   func() bool   // moves aside to wait for a tag; false if too many wait
	unread   error         // why a config was not read; nil if it was
}

// readSafely is read, but a panic is an error: content that the program cannot stand is retried,
// given up and shown as such, and hides no other.
func (r *reader) readSafely(ctx context.Context, t indexer.Task) (f indexer.Finding, err error) {
	defer func() {
		if p := recover(); p != nil {
			caught := indexer.PanicOf(p)
			r.log.ErrorContext(ctx, "read panicked", "repository", t.Repository, "reference", t.Reference,
				"error", caught, "stack", string(debug.Stack()))
			f, err = indexer.Finding{}, caught
		}
	}()
	return r.read(ctx, t)
}

// read reads the reference of a task. An error means that the read failed and may succeed
// later; if the finding is Unfinished, only part of it failed.
func (r *reader) read(ctx context.Context, t indexer.Task) (indexer.Finding, error) {
	f := indexer.Finding{Task: t, Outcome: indexer.Found}
	if t.Reference.IsTag() && t.Priority == indexer.PriorityEvent {
		f.Again = confirmAfter
	}
	var err error
	switch {
	case t.Reference.IsDigest():
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

// readDigest reads a manifest by digest. If the book has it, it only checks that the
// registry has it too.
func (r *reader) readDigest(ctx context.Context, f *indexer.Finding) error {
	if f.Task.Known {
		return r.remote.Exists(ctx, f.Task.Repository, f.Task.Reference.Digest())
	}
	return r.readManifest(ctx, f, f.Task.Reference.Digest())
}

// readAnnounced reads the manifest that an event announced, by its digest, and then waits
// for the tag to show it.
//
// It does not wait for a missing manifest: the registry writes the manifest before it sends
// the event (400 of 400 were readable, distribution v3.1.2), so the manifest was deleted or
// the event is forged. If a storage shows it later, the second look finds it.
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

// await polls a tag until it shows what was announced, the patience is over or too many
// other reads wait for tags. It returns what the tag shows last.
func (r *reader) await(ctx context.Context, t indexer.Task) (shown digest.Digest, err error) {
	step, begin := firstStep, time.Now()
	// The patience begins with the event, so that for a batch of tags that have all
	// moved on we wait once and not once for each tag.
	for deadline := t.HintedAt.Add(r.patience); ; step = min(2*step, maxStep) {
		shown, err = r.remote.Shows(ctx, t.Repository, t.Reference.Tag(), t.Hint)
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

// readTag reads the manifest that a tag shows, unless that is the known digest.
func (r *reader) readTag(ctx context.Context, f *indexer.Finding, known digest.Digest) error {
	if known != "" && !f.Task.Known && f.Task.Hint == "" {
		known = "" // the book has the manifest with problems: read it again
	}
	body, desc, same, err := r.remote.ManifestUnless(ctx, f.Task.Repository, f.Task.Reference.Tag(), known)
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

// readManifest reads a manifest by its digest. If its bytes do not match the digest, the
// manifest is recorded with a problem and without content.
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

// broken records a tag that the registry lists but cannot serve correctly.
func (r *reader) broken(f *indexer.Finding, err error) error {
	f.Outcome, f.Problem = indexer.Broken, reason(err)
	return nil
}

// take parses a manifest, reads the config of an image and adds tasks for the manifests
// that an index lists.
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
			// The rest is stored: a storage that does not serve one blob must not keep the
			// image out of the book.
			addProblem(&m, "the config was not read: %s", reason(err))
			r.unread = err
		}
	}
	limit(&m, r.maxMeta)
	f.Manifests = append(f.Manifests, m)
	for _, e := range m.Entries {
		f.Asks = append(f.Asks, indexer.Ask{
			Repository: m.Repository, Reference: indexer.TagOrDigest(e.Digest), Priority: f.Task.Priority,
		})
	}
	return nil
}

// readConfig reads the config of an image. A config that is missing, too large or does not
// match its digest is recorded as a problem of the image.
func (r *reader) readConfig(ctx context.Context, m *indexer.Manifest) error {
	if m.Config.Size > maxConfig {
		addProblem(m, "the config has %d bytes, more than the limit of %d", m.Config.Size, maxConfig)
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.config)
	defer cancel()
	body, err := r.remote.Blob(ctx, m.Repository, m.Config.Digest, maxConfig)
	switch {
	case errors.Is(err, indexer.ErrNotFound):
		addProblem(m, "the config %s is not in the registry", m.Config.Digest)
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
