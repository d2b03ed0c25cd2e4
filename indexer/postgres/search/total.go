package search

import (
	"context"
	"fmt"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

const (
	// sampleShare is of how many rows one is in the indexes called sample: 64, as
	// their definitions say.
	sampleShare = 64
	// manySampled is how many of a sample must match before all are said to be
	// MaxTotal: 235, which stand for 15,000, give or take 1,000. That there are fewer
	// than 10,000 then is five times what chance makes.
	manySampled = 235
	// dearSample is of how many of a sample dear conditions are looked at: 500,
	// some 5 ms.
	dearSample = 500
)

// total is how many repositories match, up to MaxTotal. Whether they are more, a
// sample tells, since to read ten thousand rows takes 10 ms. Of one version of the
// catalogue each total is counted once.
func (rd *Reader) total(ctx context.Context, s *search, ids []int32) (int, error) {
	inTotal := *s
	inTotal.aside = s.aside || s.asideInTotal
	sql, args, err := pg.Statement("SELECT count(*) FROM (? LIMIT ?) AS capped", inTotal.matching("", ids), query.MaxTotal)
	if err != nil {
		return 0, err
	}
	return remembered(ctx, rd, &rd.caches.totals, fmt.Sprint(sql, args), func() (n int, err error) {
		if ids == nil && len(s.served()) > 0 {
			if many, err := rd.many(ctx, s); many || err != nil {
				return query.MaxTotal, err
			}
		}
		err = rd.db.QueryRow(ctx, sql, args...).Scan(&n)
		return n, err
	})
}

// many reports whether a sample tells that MaxTotal repositories match, and more.
func (rd *Reader) many(ctx context.Context, s *search) (bool, error) {
	sample := append(sq.And{inSample}, s.served()...)
	if !s.dear {
		n, err := rd.sampled(ctx, sq.Expr("SELECT FROM repository_search s WHERE (?)", append(sample, s.filters...)), manySampled)
		return n >= manySampled, err
	}
	n, err := rd.sampled(ctx, sq.Expr("SELECT FROM (SELECT * FROM repository_search s WHERE (?) LIMIT ?) AS s WHERE (?)", sample, dearSample, s.filters), manySampled)
	return n >= manySampled, err
}

// inSample is the condition of the sample of repositories, word for word as in
// the definition of its index.
var inSample = sq.Expr("s.repository_id % 64 = 0")

// expected is how many repositories fulfil conditions on repository_search AS s,
// by a sample; beyond most it is any number beyond.
func (rd *Reader) expected(ctx context.Context, conditions sq.And, most int) (int, error) {
	n, err := rd.sampled(ctx, sq.Expr("SELECT FROM repository_search s WHERE (?)", append(sq.And{inSample}, conditions...)), most/sampleShare+1)
	return n * sampleShare, err
}

// sampled counts the rows of a statement up to most.
func (rd *Reader) sampled(ctx context.Context, q sq.Sqlizer, most int) (n int, err error) {
	sql, args, err := pg.Statement("SELECT count(*) FROM (? LIMIT ?) AS sampled", q, most)
	if err != nil {
		return 0, err
	}
	err = rd.db.QueryRow(ctx, sql, args...).Scan(&n)
	return n, err
}

// CountRepositories is how many repositories have a tag. They are counted once
// for each version of the catalogue, which for a million takes 60 ms.
func (rd *Reader) CountRepositories(ctx context.Context) (int, error) {
	n, err := remembered(ctx, rd, &rd.caches.totals, "repositories", func() (n int, err error) {
		err = rd.db.QueryRow(ctx, "SELECT count(*) FROM repository_search").Scan(&n)
		return n, err
	})
	return n, pg.Wrap("count of repositories", err)
}
