// Package search finds repositories and images. It writes the search rows, which are
// derived from manifests and tags, and executes all queries on them.
//
// A Reader reads one snapshot. Functions that write rows run in the transaction of
// their caller, who has locked the repositories and changes the catalogue version.
package search

import (
	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A Reader searches one snapshot of the catalogue.
type Reader struct {
	db       pg.Querier // a transaction of one snapshot
	asker    indexer.Asker
	visible  indexer.Visibility // the repositories that asker may see
	official []string           // namespaces whose repositories are marked official
}

// New returns a reader for an asker, who may see the repositories in visible, in a
// transaction of one snapshot. Repositories of the namespaces in official are marked
// official.
func New(db pg.Querier, asker indexer.Asker, visible indexer.Visibility, official []string) *Reader {
	return &Reader{db: db, asker: asker, visible: visible, official: official}
}

// Asker returns the asker of rd.
func (rd *Reader) Asker() indexer.Asker { return rd.asker }
