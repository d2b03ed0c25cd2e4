package postgres

import (
	"context"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// Freshness is the catalogue version of this state, and when the last whole scan
// ended.
func (v *View) Freshness(ctx context.Context) (indexer.Freshness, error) {
	const q = "SELECT " + versionColumns + ", (SELECT max(finished_at) FROM scan WHERE error IS NULL)"
	var f indexer.Freshness
	var epoch *string
	var shards []int64
	var scanned *time.Time
	err := v.tx.QueryRow(ctx, q).Scan(&epoch, &shards, &scanned)
	if err == nil {
		f.Version, err = versionOf(epoch, shards)
	}
	v.version, f.ScannedAt = f.Version, pg.TimeOrZero(scanned)
	return f, pg.Wrap("freshness", err)
}

// CountRepositories is how many repositories have a tag. They are counted once
// for each version of the catalogue, which for a million takes 60 ms.
func (v *View) CountRepositories(ctx context.Context) (int, error) {
	n, err := remembered(ctx, v, &v.caches.totals, "repositories", func() (n int, err error) {
		err = v.tx.QueryRow(ctx, "SELECT count(*) FROM repository_search").Scan(&n)
		return n, err
	})
	return n, pg.Wrap("count of repositories", err)
}
