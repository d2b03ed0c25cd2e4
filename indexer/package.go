package indexer

import "context"

// A PackageUser is who changes packages.
type PackageUser struct {
	Number  uint64 // as in the owners of scopes; 0: those who share a token, and whoever has no number
	Account bool   // the actor is an account, which has a number in the database
	// May returns an ErrForbidden unless the user may push to a repository.
	May func(ctx context.Context, repository string) error
}

// A PackageBundle is a part of the history of the index of packages: a bundle of git.
type PackageBundle struct {
	ID   int64
	Base []byte // the commit on which it builds; nil: it has the whole history
	Head []byte // its last commit
	Data []byte
}
