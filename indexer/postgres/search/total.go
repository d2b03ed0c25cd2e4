package search

import (
	"context"
	"fmt"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

const (
	// The *_sample indexes hold one row in 64, as their definitions say.
	sampleShare = 64
	// If at least manySampled rows of a sample match, the total is MaxTotal: 235 rows
	// stand for 15,000, give or take 1,000. A true total below 10,000 is five
	// standard deviations away.
	manySampled = 235
	// At most costlySample rows of a sample are tested with costly conditions: 500,
	// about 5 ms.
	costlySample = 500
)

// total returns how many repositories match, at most MaxTotal. A sample tells whether
// there are more, since reading ten thousand rows takes 10 ms. Each total is cached
// for one version of the catalogue.
func (rd *Reader) total(ctx context.Context, s *search, ids []int32) (int, error) {
	inTotal := *s
	inTotal.aside = s.aside || s.asideInTotal
	sql, args, err := pg.Statement("SELECT count(*) FROM (? LIMIT ?) AS capped", inTotal.matching("", ids), query.MaxTotal)
	if err != nil {
		return 0, err
	}
	return cached(ctx, rd, rd.caches.totals, fmt.Sprint(sql, args), func() (n int, err error) {
		if ids == nil && len(s.served()) > 0 {
			if many, err := rd.many(ctx, s); many || err != nil {
				return query.MaxTotal, err
			}
		}
		err = rd.db.QueryRow(ctx, sql, args...).Scan(&n)
		return n, err
	})
}

// many reports whether, according to a sample, at least MaxTotal repositories match.
func (rd *Reader) many(ctx context.Context, s *search) (bool, error) {
	sample := append(sq.And{inSample}, s.served()...)
	if !s.costly {
		n, err := rd.sampled(ctx, sq.Expr("SELECT FROM repository_search s WHERE (?)", append(sample, s.filters...)), manySampled)
		return n >= manySampled, err
	}
	n, err := rd.sampled(ctx, sq.Expr("SELECT FROM (SELECT * FROM repository_search s WHERE (?) LIMIT ?) AS s WHERE (?)", sample, costlySample, s.filters), manySampled)
	return n >= manySampled, err
}

// inSample is the condition of the index repository_search_sample, verbatim as in its
// definition.
var inSample = sq.Expr("s.repository_id % 64 = 0")

// expected returns how many repositories fulfil conditions on repository_search AS s,
// estimated from a sample. Above most, the number is only a lower bound.
func (rd *Reader) expected(ctx context.Context, conditions sq.And, most int) (int, error) {
	n, err := rd.sampled(ctx, sq.Expr("SELECT FROM repository_search s WHERE (?)", append(sq.And{inSample}, conditions...)), most/sampleShare+1)
	return n * sampleShare, err
}

// sampled returns the number of rows of a statement, or most if there are more.
func (rd *Reader) sampled(ctx context.Context, q sq.Sqlizer, most int) (n int, err error) {
	sql, args, err := pg.Statement("SELECT count(*) FROM (? LIMIT ?) AS sampled", q, most)
	if err != nil {
		return 0, err
	}
	err = rd.db.QueryRow(ctx, sql, args...).Scan(&n)
	return n, err
}

// CountRepositories returns the number of repositories with a tag. It is cached for
// each version of the catalogue, since counting a million takes 60 ms.
func (rd *Reader) CountRepositories(ctx context.Context) (int, error) {
	n, err := cached(ctx, rd, rd.caches.totals, "repositories", func() (n int, err error) {
		err = rd.db.QueryRow(ctx, "SELECT count(*) FROM repository_search").Scan(&n)
		return n, err
	})
	return n, pg.Wrap("count of repositories", err)
}
