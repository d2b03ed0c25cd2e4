// Package search finds repositories and images. It writes the search rows, which are
// derived from manifests and tags, and executes all queries on them.
//
// A Reader reads one snapshot. Functions that write rows run in the transaction of
// their caller, who has locked the repositories and changes the catalogue version.
package search

import (
	"context"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A Reader searches one snapshot of the catalogue.
type Reader struct {
	db       pg.Querier // a transaction of one snapshot
	asker    indexer.Asker
	visible  indexer.Visibility // the repositories that asker may see
	official []string           // namespaces whose repositories are marked official
	state    func(context.Context) (*memory.State, error)
}

// New returns a reader for an asker in a transaction of one snapshot. Repositories of the
// namespaces in official are marked official. state returns the copy of the search rows in
// memory in the state of the snapshot, or nil: then searches are answered by SQL.
func New(
	db pg.Querier, asker indexer.Asker, official []string, state func(context.Context) (*memory.State, error),
) *Reader {
	return &Reader{db: db, asker: asker, visible: asker.Visibility(), official: official, state: state}
}

// Asker returns the asker of rd.
func (rd *Reader) Asker() indexer.Asker { return rd.asker }
