package postgres

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
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
	// maxTotals is how many totals are remembered: 10,000, some 1 MB, since of what
	// they count only the hash is kept. It may be a list of 12,000 numbers.
	maxTotals = 10_000
)

// total is how many repositories match, up to MaxTotal. Whether they are more, a
// sample tells, since to read ten thousand rows takes 10 ms. Of one version of the
// catalogue each total is counted once.
func (v *View) total(ctx context.Context, s *search, ids []int32) (int, error) {
	counted := *s
	counted.aside = s.aside || s.counted
	sql, args, err := statement("SELECT count(*) FROM (? LIMIT ?) AS capped", counted.matching("", ids), indexer.MaxTotal)
	if err != nil {
		return 0, err
	}
	return v.counted(ctx, fmt.Sprint(sql, args), func() (n int, err error) {
		if ids == nil && len(s.served()) > 0 {
			if many, err := v.many(ctx, s); many || err != nil {
				return indexer.MaxTotal, err
			}
		}
		err = v.tx.QueryRow(ctx, sql, args...).Scan(&n)
		return n, err
	})
}

// many reports whether a sample tells that MaxTotal repositories match, and more.
func (v *View) many(ctx context.Context, s *search) (bool, error) {
	sample := append(sq.And{inSample}, s.served()...)
	if !s.dear {
		n, err := v.sampled(ctx, sq.Expr("SELECT FROM repository_search s WHERE (?)", append(sample, s.filters...)), manySampled)
		return n >= manySampled, err
	}
	n, err := v.sampled(ctx, sq.Expr("SELECT FROM (SELECT * FROM repository_search s WHERE (?) LIMIT ?) AS s WHERE (?)", sample, dearSample, s.filters), manySampled)
	return n >= manySampled, err
}

// inSample is the condition of the sample of repositories, word for word as in
// the definition of its index.
var inSample = sq.Expr("s.repository_id % 64 = 0")

// expected is how many repositories fulfil conditions on repository_search AS s,
// by a sample; beyond most it is any number beyond.
func (v *View) expected(ctx context.Context, conditions sq.And, most int) (int, error) {
	n, err := v.sampled(ctx, sq.Expr("SELECT FROM repository_search s WHERE (?)", append(sq.And{inSample}, conditions...)), most/sampleShare+1)
	return n * sampleShare, err
}

// sampled counts the rows of a statement up to most.
func (v *View) sampled(ctx context.Context, q sq.Sqlizer, most int) (n int, err error) {
	sql, args, err := statement("SELECT count(*) FROM (? LIMIT ?) AS sampled", q, most)
	if err != nil {
		return 0, err
	}
	err = v.tx.QueryRow(ctx, sql, args...).Scan(&n)
	return n, err
}

// totals are those that were counted of one version of the catalogue. Equal
// versions are equal content.
type totals struct {
	mu      sync.Mutex
	version indexer.Version
	of      map[[sha256.Size]byte]int // by the hash of what was counted
}

// counted gives a total that is known of this version, or counts it.
func (v *View) counted(ctx context.Context, what string, count func() (int, error)) (int, error) {
	version, err := v.Version(ctx)
	if err != nil {
		return 0, err
	}
	if n, known := v.totals.get(version, what); known {
		return n, nil
	}
	n, err := count()
	if err == nil {
		v.totals.put(version, what, n)
	}
	return n, err
}

func (t *totals) get(version indexer.Version, what string) (n int, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.version != version {
		return 0, false
	}
	n, known = t.of[sha256.Sum256([]byte(what))]
	return n, known
}

func (t *totals) put(version indexer.Version, what string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.version != version || t.of == nil || len(t.of) >= maxTotals {
		t.version, t.of = version, map[[sha256.Size]byte]int{}
	}
	t.of[sha256.Sum256([]byte(what))] = n
}
