package indexer

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// A HeldRepository is a repository of a project: one that has a manifest or a tag, or blobs of
// manifests that were deleted.
type HeldRepository struct {
	Name      string
	CreatedAt time.Time // when we first saw it
	// Size is the bytes of its configs and layers, each once: those of its manifests, and those
	// that it still has though no manifest of it uses them, as far as events and deletions have
	// told of them. It is 0 in lists.
	Size int64
}

// A HeldTag is a tag of a repository.
type HeldTag struct {
	Tag       string
	Digest    digest.Digest
	CreatedAt time.Time // when it was last pushed, also if it did not move
}

// A HeldManifest is a manifest of a repository.
type HeldManifest struct {
	Digest    digest.Digest
	CreatedAt time.Time // when we first read it
}

// A ProjectStorage is what a project takes, as the job calculateProjectStorage found.
type ProjectStorage struct {
	Size      int64     // the sum of the sizes of its repositories
	UpdatedAt time.Time // of that run; zero: it has not run since the project was first seen
}

// A BlobEvent says that a blob of a repository was pushed, mounted or pulled.
type BlobEvent struct {
	Repository string
	Digest     digest.Digest
	Size       int64
	Pull       bool
}

// A LooseBlob is a blob that a repository has and no manifest of it seems to use.
type LooseBlob struct {
	Repository string
	Digest     digest.Digest
	Size       int64
	Since      time.Time // when it was last pushed, mounted or pulled, or its last manifest was deleted
	HeldAt     time.Time // when it was removed, and can be put back; zero: it was not
}

// HoldRepository is the repository that has a blob for some seconds after runBlobGC has removed
// it from another one, in case that a manifest with it was pushed at that moment. It has no
// manifest, so the registry does not list it.
const HoldRepository = "portbook-hold"
