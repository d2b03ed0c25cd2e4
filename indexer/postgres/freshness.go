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
	const q = "SELECT " + vectorColumns + ", (SELECT max(finished_at) FROM scan WHERE error IS NULL)"
	var scanned *time.Time
	vector, err := readVector(v.tx.QueryRow(ctx, q), &scanned)
	if err != nil {
		return indexer.Freshness{}, pg.Wrap("freshness", err)
	}
	v.read = &vector
	return indexer.Freshness{Version: versionOf(vector), ScannedAt: pg.TimeOrZero(scanned)}, nil
}
