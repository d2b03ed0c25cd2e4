package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

// Sorting and walking find the same uses of a digest.
func TestUsesBothWays(t *testing.T) {
	t.Parallel()
	s, nginx := stock(t)
	amd := made("team/app", "linux/amd64", 10e6, 2, "2026-10-01", "team", "blue", "stage", "prod") // as in stock
	signed := made("team/signed", "linux/arm/v7", 1e6, 1, "2026-11-20")
	for _, d := range []digest.Digest{nginx.Digest, amd.Digest, signed.Digest, digest.FromString("layer0"), digest.FromString("layer5")} {
		err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) error {
			sorted, walked, whole, err := postgres.UsesBothWays(t.Context(), v, d, 3)
			if diff := cmp.Diff(sorted, walked); diff != "" || len(sorted) == 0 || whole != (len(sorted) == 3) {
				t.Errorf("%s: whole page %v (-sorted +walked)\n%s", d, whole, diff)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
