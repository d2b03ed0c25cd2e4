package postgres

import (
	"context"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// Freshness returns the catalogue version of this state and the time when the last
// complete scan ended.
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
