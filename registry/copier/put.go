package copier

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/opencontainers/go-digest"
)

const (
	// maxLink is the largest link that is read: 1 KiB. A digest takes 71 or 135 bytes.
	maxLink = 1 << 10
	// maxManifest is the largest manifest that is read: 4 MiB, the most that the registry stores.
	maxManifest = 4 << 20
	// maxDepth is how deep image indexes may name each other: 8.
	maxDepth = 8
)

// A hash is the begin of the SHA-256 of a path.
type hash [16]byte

func hashOf(name string) hash {
	sum := sha256.Sum256([]byte(name))
	return hash(sum[:16])
}

func isAbsent(err error) bool {
	absent := driver.PathNotFoundError{}
	return errors.As(err, &absent)
}

// errGone is the error of a file that is not in the source any more.
var errGone = errors.New("is not in the source")

func isGone(err error) bool { return errors.Is(err, errGone) }

// lasting is an error that no further attempt mends.
type lasting struct{ error }

func (e lasting) Unwrap() error { return e.error }

// put copies a file, after all that it needs. Files that need each other deeper than maxDepth are
// an error. A file that failed before is not tried again.
func (c *Copier) put(ctx context.Context, f file, depth int) (result, error) {
	if depth > maxDepth {
		return failed, fmt.Errorf("image indexes name each other more than %d deep", maxDepth)
	}
	if err := c.failure(f.path); err != nil {
		return failed, err
	}
	r, err := c.retried(ctx, func() (result, error) {
		if f.kind == data {
			return c.blob(ctx, f)
		}
		return c.link(ctx, f, depth)
	})
	switch {
	case err == nil && r != kept:
		c.know(f.path)
	case err != nil && ctx.Err() == nil && !isGone(err):
		c.remember(f.path, err)
	}
	return r, err
}

// retried calls f until it succeeds, or has failed too often.
func (c *Copier) retried(ctx context.Context, f func() (result, error)) (r result, err error) {
	pause := c.config.Pause
	for n := 1; ; n++ {
		r, err = f()
		last := lasting{}
		if err == nil || isGone(err) || errors.As(err, &last) || n == attempts {
			return r, err
		}
		select {
		case <-ctx.Done():
			return failed, ctx.Err()
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// link copies a link after what it needs.
func (c *Copier) link(ctx context.Context, f file, depth int) (result, error) {
	content, d, err := c.readLink(ctx, f)
	if err != nil {
		return failed, err
	}
	old, err := c.config.To.GetContent(ctx, f.path)
	switch {
	case err == nil && string(old) == string(content):
		return there, nil
	case err == nil && f.kind == tag && c.config.KeepTags:
		return kept, nil
	case err != nil && !isAbsent(err):
		return failed, err
	}
	if err := c.needs(ctx, f, d, depth); err != nil {
		return failed, err
	}
	return copied, c.config.To.PutContent(ctx, f.path, content)
}

// readLink reads a link of the source and checks it.
func (c *Copier) readLink(ctx context.Context, f file) (content []byte, d digest.Digest, err error) {
	if f.size > maxLink {
		return nil, "", lasting{fmt.Errorf("a link of %d bytes", f.size)}
	}
	if content, err = c.config.From.GetContent(ctx, f.path); isAbsent(err) {
		return nil, "", errGone
	} else if err != nil {
		return nil, "", err
	}
	d, err = digest.Parse(strings.TrimSpace(string(content)))
	if err != nil || f.digest != "" && d.String() != f.digest {
		return nil, "", lasting{fmt.Errorf("the link says %.100q, which is not its digest", content)}
	}
	return content, d, nil
}

// needs copies what a link needs, if it is not there.
func (c *Copier) needs(ctx context.Context, f file, d digest.Digest, depth int) error {
	switch f.kind {
	case layer:
		return c.have(ctx, blobFile(d), depth)
	case tag:
		err := c.have(ctx, manifestFile(f.repository, d), depth)
		if isGone(err) && f.digest != "" {
			return nil // a former manifest of the tag that was deleted
		}
		return dangling(err)
	}
	if err := c.have(ctx, blobFile(d), depth); err != nil {
		return dangling(err)
	}
	return c.named(ctx, f.repository, d, depth)
}

// dangling makes an error of its own of a target that the source does not have: the link is there.
func dangling(err error) error {
	if isGone(err) {
		return lasting{errors.New("what it links is not in the source")}
	}
	return err
}

// have copies a file if it is not in the destination.
func (c *Copier) have(ctx context.Context, f file, depth int) error {
	if c.knows(f.path) {
		return nil
	}
	if _, err := c.config.To.Stat(ctx, f.path); err == nil {
		c.know(f.path)
		return nil
	} else if !isAbsent(err) {
		return err
	}
	info, err := c.config.From.Stat(ctx, f.path)
	switch {
	case isAbsent(err):
		return errGone
	case err != nil:
		return err
	}
	f.size = info.Size()
	_, err = c.put(ctx, f, depth+1)
	return err
}

// A document is what a manifest or image index names.
type document struct {
	Config    *named
	Layers    []named
	Blobs     []named
	Manifests []named
	FSLayers  []struct{ BlobSum digest.Digest }
}

type named struct{ Digest digest.Digest }

// blobs returns the blobs that a manifest names.
func (d document) blobs() (all []digest.Digest) {
	if d.Config != nil {
		all = append(all, d.Config.Digest)
	}
	for _, list := range [][]named{d.Layers, d.Blobs} {
		for _, n := range list {
			all = append(all, n.Digest)
		}
	}
	for _, n := range d.FSLayers {
		all = append(all, n.BlobSum)
	}
	return all
}

// named copies what a manifest of the destination names. What the source does not have either,
// such as a platform that was left out or a layer that is elsewhere, is not missed.
func (c *Copier) named(ctx context.Context, repository string, d digest.Digest, depth int) error {
	doc, err := c.document(ctx, d)
	if err != nil {
		return err
	}
	for _, b := range doc.blobs() {
		if b.Validate() != nil {
			continue
		}
		if err := c.namedFiles(ctx, depth, blobFile(b), layerFile(repository, b)); err != nil {
			return fmt.Errorf("it names %s: %w", b, err)
		}
	}
	for _, m := range doc.Manifests {
		if m.Digest.Validate() != nil || m.Digest == d {
			continue
		}
		if err := c.namedFiles(ctx, depth, manifestFile(repository, m.Digest)); err != nil {
			return fmt.Errorf("it names %s: %w", m.Digest, err)
		}
	}
	return nil
}

// namedFiles copies files that the source has.
func (c *Copier) namedFiles(ctx context.Context, depth int, files ...file) error {
	for _, f := range files {
		if err := c.have(ctx, f, depth); err != nil && !isGone(err) {
			return err
		}
	}
	return nil
}

// document reads a manifest of the destination. What is not JSON names nothing: the registry
// shows it as it is.
func (c *Copier) document(ctx context.Context, d digest.Digest) (doc document, err error) {
	name := blobFile(d).path
	info, err := c.config.To.Stat(ctx, name)
	if err != nil {
		return doc, err
	}
	if info.Size() > maxManifest {
		return doc, lasting{fmt.Errorf("a manifest of %d bytes, more than the registry serves", info.Size())}
	}
	content, err := c.config.To.GetContent(ctx, name)
	if err != nil {
		return doc, err
	}
	if json.Unmarshal(content, &doc) != nil {
		return document{}, nil
	}
	return doc, nil
}

// knows reports whether a file is known to be in the destination.
func (c *Copier) knows(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.known[hashOf(name)]
	return known
}

func (c *Copier) know(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) < maxKnown {
		c.known[hashOf(name)] = struct{}{}
	}
}

// failure returns why a file was not copied, or nil.
func (c *Copier) failure(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed[name]
}

func (c *Copier) remember(name string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failed) < maxFailed {
		c.failed[name] = err
	}
}
