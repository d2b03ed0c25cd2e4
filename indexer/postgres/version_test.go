package postgres_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/query"
)

// A package has a version if any of its tags looks like one, and is found by text
// from the middle of its name.
func TestVersions(t *testing.T) {
	t.Parallel()
	s, nginx := stock(t)
	for _, tag := range []string{"v1.9", "10", "x", "1x", "sha256-aa.sig"} {
		s.Find("library/nginx", tag, nginx)
	}
	var versions map[string][]string
	var found indexer.Results
	err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) (err error) {
		if versions, err = v.Versions(t.Context(), []string{"library/nginx", "team/signed", "none", "\x00"}); err != nil {
			return err
		}
		q, err := query.Parse("rox OR repo:*rox*", now)
		if err != nil {
			return err
		}
		found, err = v.Search(t.Context(), q.Page(50, 0))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range versions {
		slices.Sort(list)
	}
	if diff := cmp.Diff(map[string][]string{"library/nginx": {"1.25", "10", "v1.9"}, "team/signed": {"v2"}}, versions); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if found.Total != 1 || len(found.Items) != 1 || found.Items[0].Name != "team/tools/proxy-cache" {
		t.Errorf("found %+v", found)
	}
}
