package postgres_test

import (
	"fmt"
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// For a moment a primary and a standby may each show one of two commits on different
// shards: the sums are equal, the states are not.
func TestEqualSumsAreNotEqualVersions(t *testing.T) {
	t.Parallel()
	versionWith := func(shard int) (version, fresh indexer.Version) {
		pool := schematest.New(t)
		s := postgres.New(pool, postgres.Config{})
		execute(t, pool, "UPDATE catalogue_epoch SET epoch = 'e'")
		execute(t, pool, fmt.Sprintf("UPDATE catalogue_version SET v = CASE shard WHEN %d THEN 1 ELSE 0 END", shard))
		view(t, s, func(v *postgres.View) (err error) {
			version, err = v.Version(t.Context())
			return err
		})
		view(t, s, func(v *postgres.View) error {
			f, err := v.Freshness(t.Context())
			fresh = f.Version
			return err
		})
		return version, fresh
	}
	first, fresh := versionWith(3)
	second, _ := versionWith(4)
	if first.Number != second.Number || first.Epoch != second.Epoch {
		t.Fatalf("versions %v and %v, want the same epoch and number", first, second)
	}
	if first == second {
		t.Errorf("two states have the same version %+v", first)
	}
	if first != fresh {
		t.Errorf("Version returned %+v, Freshness %+v", first, fresh)
	}
}
