// Package search finds repositories and images: the search rows that are derived
// from manifests and tags, and all that is asked of them.
//
// A Reader answers from one snapshot. What writes the rows takes the transaction of
// its caller, who holds the locks of the repositories and moves the catalogue version.
package search

import (
	"context"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A Reader searches one state of the book.
type Reader struct {
	db       pg.Querier    // a transaction of one snapshot
	asker    indexer.Asker // the one filter of what is found; Everyone finds all
	official []string      // namespaces whose repositories are marked official
	caches   *Caches
	version  func(context.Context) (indexer.Version, error)
}

// New returns a reader for an asker on a transaction of one snapshot. Repositories of the
// namespaces in official are marked so; version returns the catalogue version of the
// snapshot, by which caches keep values.
func New(db pg.Querier, asker indexer.Asker, official []string, caches *Caches, version func(context.Context) (indexer.Version, error)) *Reader {
	return &Reader{db: db, asker: asker, official: official, caches: caches, version: version}
}

// Asker returns who rd reads for.
func (rd *Reader) Asker() indexer.Asker { return rd.asker }
