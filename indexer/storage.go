package indexer

import "time"

// Storage is the storage used by all repositories when it was last counted. Bytes are
// those of configs and layers, from their manifests; each blob counts once. The
// manifests themselves, some KB each, are not counted.
type Storage struct {
	Repositories int
	Manifests    int
	Size         int64     // bytes of all blobs
	Own          int64     // bytes of blobs that only one repository uses
	Untagged     int       // manifests: see RepositoryStorage
	UntaggedSize int64     // bytes: see RepositoryStorage
	CountedAt    time.Time // when the result of a count last changed; zero before the first

	// Part reports that the asker sees only a part of the repositories. The numbers are
	// then sums over that part, in which a blob of several repositories counts several
	// times. Own and UntaggedSize are 0 and all bytes are shared ones, here and in
	// NamespaceStorage and RepositoryStorage: which blobs no other repository uses would
	// tell what is in those that the asker does not see.
	Part bool
}

// A NamespaceStorage is the storage used by all repositories of a namespace.
type NamespaceStorage struct {
	Namespace    string // "" is that of names without a slash
	Repositories int
	Own          int64 // bytes of blobs that no other namespace uses
	Shared       int64 // bytes of blobs that other namespaces use too
}

// A RepositoryStorage is the storage used by a repository.
type RepositoryStorage struct {
	Name         string
	Own          int64 // bytes of blobs that no other repository uses
	Shared       int64 // bytes of blobs that other repositories use too
	Manifests    int
	Untagged     int       // manifests without a tag, direct or of an image index, and attached to none
	UntaggedSize int64     // bytes of its own blobs that only such manifests use
	PushedAt     time.Time // when a new manifest or a move of a tag was last seen
}

// A StorageQuery selects one page of the storage of repositories.
type StorageQuery struct {
	Order     StorageOrder
	Namespace *string // nil: all; "" is that of names without a slash
	Name      string  // only this repository; "": all
	After     string  // only names after this one; for ByName
	Offset    int     // number of repositories to skip
	Limit     int
}

// A StorageOrder is an order of repositories.
type StorageOrder int

const (
	ByName     StorageOrder = iota
	ByStorage               // most bytes first, including shared ones
	ByPush                  // the oldest PushedAt first
	ByUntagged              // largest UntaggedSize first; only repositories with untagged manifests
)
