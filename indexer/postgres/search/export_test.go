package search

import (
	"context"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

const (
	MaxFacetValues     = maxFacetValues
	MaxImageBytes      = maxImageBytes
	MaxKeys            = maxKeys
	MaxLabelKeys       = maxLabelKeys
	MaxListing         = maxListing
	MaxRepositoryBytes = maxRepositoryBytes
	MaxSpelled         = maxSpelled
	MaxTerm            = maxTerm
	MaxValues          = maxValues
)

var (
	Compare          = compare
	ExactCondition   = exactCondition
	ImagesOf         = imagesOf
	NotDerived       = notDerived
	TermsOf          = termsOf
	TouchedManifests = touchedManifests
	KindCase         = kindCase
)

// LeadingQuery selects the leading tag of the tags with the names $1 that moved at the
// times $2.
const LeadingQuery = `SELECT t.name FROM (
		SELECT name COLLATE "C" AS name, moved_at FROM unnest($1::text[], $2::timestamptz[]) AS moved (name, moved_at)
	) AS t CROSS JOIN ` + versionOfTag + `
	WHERE ` + isOwn + ` ORDER BY ` + leadingOrder + ` LIMIT 1`

// DB returns the transaction of a reader.
func (rd *Reader) DB() pg.Querier { return rd.db }

// Ways returns the names of the methods that can execute a query, and "Search", which
// chooses one of them.
func Ways(q query.Query) []string {
	if newSearch(q).words == "" {
		return []string{"Search", "sorted", "walked"}
	}
	return []string{"Search", "ranked", "sorted", "walked"}
}

// SearchBy is Search with one of the Ways.
func (rd *Reader) SearchBy(ctx context.Context, q query.Query, way string) (indexer.Results, error) {
	plan := map[string]func(*search) (page, error){
		"ranked": (*search).ranked,
		"sorted": func(s *search) (page, error) { return s.sorted(nil) },
		"walked": (*search).walked,
	}[way]
	if plan == nil {
		return rd.Search(ctx, q)
	}
	s := newSearch(q)
	p, err := plan(s)
	if err != nil {
		return indexer.Results{}, err
	}
	return rd.show(ctx, s, p)
}

// Spelled reports whether the prefixes of a query are replaced by words.
func (rd *Reader) Spelled(ctx context.Context, q query.Query) (bool, error) {
	s := newSearch(q)
	err := rd.spell(ctx, s)
	return s.words != newSearch(q).words, err
}
