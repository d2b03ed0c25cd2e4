package manage

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
)

// ourselves is the user agent by which the registry's events name us.
const ourselves = access.Ourselves

const (
	// maxNeeded is the maximum number of blobs and manifests that are looked for to put one
	// manifest back: 10,000. Each is a request.
	maxNeeded = 10_000
	// maxDepth is how deep indexes of indexes are followed: 8.
	maxDepth = 8
)

// A content is what the bytes of a manifest name.
type content struct {
	blobs     []digest.Digest
	manifests []digest.Digest
}

// contentOf returns what the bytes of a manifest name, without layers that are elsewhere.
func contentOf(body []byte) (c content) {
	var m struct {
		Config    *ocispec.Descriptor
		Layers    []ocispec.Descriptor
		Manifests []ocispec.Descriptor
	}
	if json.Unmarshal(body, &m) != nil {
		return c
	}
	if m.Config != nil {
		m.Layers = append(m.Layers, *m.Config)
	}
	for _, l := range m.Layers {
		if l.Digest.Validate() == nil && len(l.URLs) == 0 {
			c.blobs = append(c.blobs, l.Digest)
		}
	}
	for _, e := range m.Manifests {
		if e.Digest.Validate() == nil {
			c.manifests = append(c.manifests, e.Digest)
		}
	}
	return c
}

// A put is a manifest to put into the registry.
type put struct {
	digest    digest.Digest
	mediaType string
	body      []byte
}

// A needs finds what it takes to put manifests of one repository back. It remembers what it has
// looked for.
type needs struct {
	*Manager
	repository string
	puts       []put // in the order in which to put them
	mounts     map[digest.Digest]string
	missing    []indexer.Missing

	seen   map[digest.Digest]bool // manifests that are there, or among puts or missing
	blobs  map[digest.Digest]bool // whether the registry has a blob
	looked int
}

func (m *Manager) newNeeds(repository string) *needs {
	return &needs{
		Manager: m, repository: repository, mounts: map[digest.Digest]string{}, seen: map[digest.Digest]bool{},
		blobs: map[digest.Digest]bool{},
	}
}

// add looks for a manifest and all that it needs. of is the index that needs it, or the manifest
// itself.
func (n *needs) add(ctx context.Context, d, of digest.Digest, depth int) error {
	if n.seen[d] {
		return nil
	}
	n.seen[d] = true
	if n.looked++; n.looked > maxNeeded || depth > maxDepth {
		return indexer.Conflict("%s needs more than %d blobs and manifests, or indexes of more than %d levels", of, maxNeeded,
			maxDepth)
	}
	mediaType, body, err := n.bytesOf(ctx, n.repository, d)
	if errors.Is(err, indexer.ErrNotFound) {
		n.missing = append(n.missing, indexer.Missing{Digest: d, Of: of, What: "manifest"})
		return nil
	}
	if err != nil {
		return err
	}
	before := len(n.missing)
	if err := n.addContent(ctx, d, contentOf(body), depth); err != nil {
		return err
	}
	err = n.Remote.Exists(ctx, n.repository, d)
	if errors.Is(err, indexer.ErrNotFound) && len(n.missing) == before {
		n.puts = append(n.puts, put{d, mediaType, body})
		return nil
	}
	if errors.Is(err, indexer.ErrNotFound) {
		return nil
	}
	return err
}

func (n *needs) addContent(ctx context.Context, d digest.Digest, c content, depth int) error {
	for _, child := range c.manifests {
		if err := n.add(ctx, child, d, depth+1); err != nil {
			return err
		}
	}
	for _, blob := range c.blobs {
		there, err := n.hasBlob(ctx, blob)
		if err != nil {
			return err
		}
		if !there {
			n.missing = append(n.missing, indexer.Missing{Digest: blob, Of: d, What: "blob"})
		}
	}
	return nil
}

// hasBlob reports whether the registry has a blob, in the repository or in another one from
// where it can be mounted.
func (n *needs) hasBlob(ctx context.Context, blob digest.Digest) (bool, error) {
	if there, known := n.blobs[blob]; known {
		return there, nil
	}
	if n.looked++; n.looked > maxNeeded {
		return false, indexer.Conflict("more than %d blobs and manifests are needed", maxNeeded)
	}
	err := n.Remote.HasBlob(ctx, n.repository, blob)
	if errors.Is(err, indexer.ErrNotFound) {
		err = n.findElsewhere(ctx, blob)
	}
	if err != nil && !errors.Is(err, indexer.ErrNotFound) {
		return false, err
	}
	n.blobs[blob] = err == nil
	return err == nil, nil
}

// findElsewhere looks for a blob in other repositories. It returns ErrNotFound if none has it.
func (n *needs) findElsewhere(ctx context.Context, blob digest.Digest) error {
	names, err := n.Store.RepositoriesWithBlob(ctx, blob, n.repository)
	if err != nil {
		return err
	}
	for _, name := range names {
		err := n.Remote.HasBlob(ctx, name, blob)
		if err == nil {
			n.mounts[blob] = name
			return nil
		}
		if !errors.Is(err, indexer.ErrNotFound) {
			return err
		}
	}
	return indexer.ErrNotFound
}

// refused returns why what is needed cannot be had.
func (n *needs) refused() (reasons []string) {
	for _, x := range n.missing {
		reasons = append(reasons, "the registry no longer has the "+x.What+" "+x.Digest.String()+" of "+x.Of.String())
	}
	return reasons
}

// put puts all that is needed into the registry, by digest, except the manifest last.
func (n *needs) put(ctx context.Context, r *Running, last digest.Digest) error {
	for blob, from := range n.mounts {
		if err := n.Remote.Mount(ctx, n.repository, from, blob); err != nil {
			return err
		}
	}
	for _, p := range n.puts {
		if p.digest == last {
			continue
		}
		if err := r.Put(ctx, n.repository, indexer.TagOrDigest(p.digest), p.mediaType, p.body); err != nil {
			return err
		}
	}
	return nil
}
