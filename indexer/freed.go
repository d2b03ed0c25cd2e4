package indexer

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// A ManifestRef names a manifest in a repository.
type ManifestRef struct {
	Repository string
	Digest     digest.Digest
}

// A Freed says what deleting some manifests together would free in the storage of the
// registry, once its garbage collection has run. It counts what is stored under a digest
// once: manifests, configs and layers. All bytes except those of manifests are as
// manifests claim them, and each sum is at most MaxSize.
//
// It is about the manifests that the book has. The layers beyond MaxEntries of a manifest
// are not known to the book, so neither is who else uses them. If an image index is deleted
// after manifests that it lists, their bytes become free too, but the book does not have them
// any more: then more is freed.
type Freed struct {
	Manifests int // of those asked about, the ones that the book has

	// Frees is the number of bytes that nothing else in the registry uses, and FreesBlobs
	// the number of digests with these bytes.
	Frees      int64
	FreesBlobs int

	// Shared is the number of bytes that stay, since other manifests of this or another
	// repository use them.
	Shared      int64
	SharedBlobs int

	// FreesManifests and SharedManifests are the bytes of manifests in Frees and Shared; the
	// others are those of configs and layers.
	FreesManifests, SharedManifests int64

	// Unknown is the number of bytes for which it was not found out in time whether
	// anything else uses them. Frees and Shared are lower bounds if there are any.
	Unknown      int64
	UnknownBlobs int

	// Part reports that the asker sees only a part of the repositories. What the others
	// use is then not told, so Frees is an upper bound: bytes that nothing else uses of
	// what the asker sees. Shared is a lower bound.
	Part bool
}

// Known reports whether Frees is exact: nothing was left out, and the asker sees all
// repositories.
func (f Freed) Known() bool { return !f.Part && f.UnknownBlobs == 0 }

// AddSizes returns the sum of two sizes, at most MaxSize.
func AddSizes(a, b int64) int64 { return min(a, MaxSize) + min(b, MaxSize-min(a, MaxSize)) }

// Own returns the bytes of configs and layers that nothing else uses.
func (f Freed) Own() int64 { return max(f.Frees-f.FreesManifests, 0) }

// SharedContent returns the bytes of configs and layers that others use too.
func (f Freed) SharedContent() int64 { return max(f.Shared-f.SharedManifests, 0) }

// AddFrees counts a digest whose bytes would be freed.
func (f *Freed) AddFrees(size int64) { f.Frees, f.FreesBlobs = AddSizes(f.Frees, size), f.FreesBlobs+1 }

// AddShared counts a digest whose bytes would stay.
func (f *Freed) AddShared(size int64) {
	f.Shared, f.SharedBlobs = AddSizes(f.Shared, size), f.SharedBlobs+1
}

// AddUnknown counts a digest that is not known to be either.
func (f *Freed) AddUnknown(size int64) {
	f.Unknown, f.UnknownBlobs = AddSizes(f.Unknown, size), f.UnknownBlobs+1
}

// A HoldingOf names what a Holding is about: a namespace; or a repository, a tag or a
// manifest.
type HoldingOf struct {
	Namespace *string // "" is that of names without a slash; nil: Reference says what
	Reference Reference
	Within    time.Duration // how long to look what else uses something; 0: as long as there is time
}

// A Holding is what a namespace, repository, tag or manifest takes in the storage of the
// registry, and what deleting it would free. A tag takes what its manifest takes. To untag
// it frees nothing: the manifest stays, with or without other tags.
type Holding struct {
	// Own is the bytes of its configs and layers that nothing else uses, and Shared of
	// those that others use too. They include those of the manifests that an image index
	// lists. Both are lower bounds if Frees.Unknown is not 0; if Frees.Part, Own is an
	// upper bound and Shared a lower one.
	Own, Shared int64

	// Frees is what deleting it would free, with what only it needs: of an image index, the
	// manifests that it lists and that no tag and no other index needs.
	Frees Freed

	Manifest *ManifestHolding // nil for a repository and a namespace
}

// Whole reports whether everything was found out in time.
func (h Holding) Whole() bool {
	unknown := h.Frees.UnknownBlobs
	if h.Manifest != nil {
		unknown += h.Manifest.Alone.UnknownBlobs + h.Manifest.All.UnknownBlobs
	}
	return unknown == 0
}

// A ManifestHolding has what else happens if a manifest is deleted.
type ManifestHolding struct {
	Digest   digest.Digest
	Tags     []string // that show it, sorted: they go with it
	ListedBy int      // image indexes that list it, and that cannot be pulled whole without it; at most MaxEntries
	Alone    Freed    // what deleting the manifest would free without what only it needs
	Attached int      // manifests attached to what goes; they stay, unless they are deleted too
	All      Freed    // what deleting these too would free
}
