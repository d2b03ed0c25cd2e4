package postgres

import (
	"context"
	"time"

	"github.com/portbook/portbook/indexer"
)

// Freshness is the catalogue version of this state, and when the last whole scan
// ended.
func (v *View) Freshness(ctx context.Context) (indexer.Freshness, error) {
	const q = `
		SELECT (SELECT epoch FROM catalogue_epoch), (SELECT sum(v)::bigint FROM catalogue_version),
			(SELECT max(finished_at) FROM scan WHERE error IS NULL)`
	var f indexer.Freshness
	var epoch *string
	var number *int64
	var scanned *time.Time
	err := v.tx.QueryRow(ctx, q).Scan(&epoch, &number, &scanned)
	if err == nil {
		f.Version, err = versionOf(epoch, number)
	}
	f.ScannedAt = timeFrom(scanned)
	return f, wrap("freshness", err)
}

// A counted is how many repositories a version of the catalogue has.
type counted struct {
	version indexer.Version
	n       int
}

// CountRepositories is how many repositories have a tag. They are counted once
// for each version of the catalogue, which for a million takes 60 ms; equal
// versions are equal content.
func (v *View) CountRepositories(ctx context.Context) (int, error) {
	version, err := v.Version(ctx)
	if err != nil {
		return 0, err
	}
	if known := v.counted.Load(); known != nil && known.version == version {
		return known.n, nil
	}
	var n int
	if err := v.tx.QueryRow(ctx, "SELECT count(*) FROM repository_search").Scan(&n); err != nil {
		return 0, wrap("count of repositories", err)
	}
	v.counted.Store(&counted{version, n})
	return n, nil
}
