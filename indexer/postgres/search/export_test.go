package search

import (
	"context"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
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
	MaxTerm            = memory.MaxTerm
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

// Verify returns those of the repositories that a query selects.
func (rd *Reader) Verify(ctx context.Context, q query.Query, ids []int32) ([]int32, error) {
	return rd.verify(ctx, q, ids)
}

// Rows returns the results of repositories, in the order of ids.
func (rd *Reader) Rows(ctx context.Context, ids []int32) ([]indexer.Result, error) {
	return rd.rows(ctx, ids)
}

// Having returns the repositories that fulfil a term which an index decides.
func (rd *Reader) Having(ctx context.Context, t query.Term, limit int) (ids []int32, complete bool, err error) {
	return rd.having(ctx, t, limit)
}

// ImagesUpTo is Images with another number instead of maxImagesRead.
func (s Source) ImagesUpTo(ctx context.Context, ids []int32, most int) (map[int32][]memory.Image, []int32, error) {
	return s.images(ctx, ids, most)
}
