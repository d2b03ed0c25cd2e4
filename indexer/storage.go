package indexer

import "time"

// Storage is what everything takes, as it was last counted. Bytes are those of
// configs and layers as their manifests say, each once; the manifests themselves,
// some KB each, are left out.
type Storage struct {
	Repositories int
	Manifests    int
	Size         int64     // bytes of all
	Own          int64     // bytes of what one repository alone uses
	Untagged     int       // manifests: see RepositoryStorage
	UntaggedSize int64     // bytes: see RepositoryStorage
	CountedAt    time.Time // when a count last came to anything else; zero before the first
}

// A NamespaceStorage is what all repositories of a namespace take together.
type NamespaceStorage struct {
	Namespace    string // "" is that of names without a slash
	Repositories int
	Own          int64 // bytes of what no other namespace uses
	Shared       int64 // bytes of what others use too
}

// A RepositoryStorage is what a repository takes.
type RepositoryStorage struct {
	Name         string
	Own          int64 // bytes of what no other repository uses
	Shared       int64 // bytes of what others use too
	Manifests    int
	Untagged     int       // manifests that no tag shows, itself or by an image index, and that are attached to none
	UntaggedSize int64     // bytes of what is its own and only such manifests use
	PushedAt     time.Time // when a new manifest, or a tag that moved, was last seen
}

// A StorageQuery selects repositories by what they take.
type StorageQuery struct {
	Order     StorageOrder
	Namespace *string // nil: all; "" is that of names without a slash
	After     string  // only names after this one; for ByName
	Offset    int     // how many to pass over
	Limit     int
}

// A StorageOrder is an order of repositories.
type StorageOrder int

const (
	ByName     StorageOrder = iota
	ByStorage               // most bytes first, shared ones too
	ByPush                  // those not pushed to for the longest time first
	ByUntagged              // most bytes of untagged manifests first; only those that have any
)
