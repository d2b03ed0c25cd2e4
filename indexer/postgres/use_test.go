package postgres_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// All uses of a digest are found, page by page.
func TestUses(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	ctx := t.Context()
	one, two := image("b/app", "one"), image("a/app", "two")
	setTag(t, s, "v1", one)
	setTag(t, s, "v2", one)
	setTag(t, s, "v1", two)
	index := indexer.Manifest{
		Repository: "b/app", Digest: digest.FromString("index"), Kind: indexer.KindIndex, MediaType: "application/vnd.oci.image.index.v1+json",
		Entries: []indexer.Entry{{Digest: one.Digest, MediaType: one.MediaType}},
	}
	setTag(t, s, "multi", index)
	signature := image("b/app", "signature")
	signature.Subject = one.Digest
	store(t, s, signature.Digest.String(), indexer.Finding{
		Task: indexer.Task{Repository: "b/app"}, Outcome: indexer.Found, Digest: signature.Digest, Manifests: []indexer.Manifest{signature}})
	short := map[digest.Digest]string{one.Digest: "one", two.Digest: "two", index.Digest: "index", signature.Digest: "signature"}
	tests := []struct {
		digest digest.Digest
		want   map[string]string
	}{
		{one.Digest, map[string]string{"b/app one": "manifest [v1 v2]", "b/app index": "entry [multi]", "b/app signature": "subject []"}},
		{one.Config.Digest, map[string]string{"b/app one": "config [v1 v2]"}},
		{one.Layers[0].Digest, map[string]string{"a/app two": "layer [v1]", "b/app one": "layer [v1 v2]", "b/app signature": "layer []"}},
		{digest.FromString("nothing"), map[string]string{}},
	}
	for _, test := range tests {
		view(t, s, func(v *postgres.View) error {
			got := map[string]string{}
			var repository string
			var last digest.Digest
			for range 10 {
				uses, err := v.Uses(ctx, test.digest, repository, last, 1)
				if err != nil || len(uses) == 0 {
					break
				}
				u := uses[0]
				if u.Repository < repository || u.Repository == repository && u.Digest <= last {
					t.Errorf("got %s in %s after %s in %s", u.Digest, u.Repository, last, repository)
				}
				repository, last = u.Repository, u.Digest
				got[u.Repository+" "+short[u.Digest]] = fmt.Sprint(u.As, " ", u.Tags)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s (-want +got)\n%s", test.digest, diff)
			}
			return nil
		})
	}
}
