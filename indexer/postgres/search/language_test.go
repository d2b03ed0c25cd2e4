package search_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

// Every field selects the right repositories.
func TestLanguage(t *testing.T) {
	t.Parallel()
	s, nginx := stock(t)
	const (
		web, app, cache, chart, signed = "library/nginx", "team/app", "team/tools/proxy-cache", "charts/nginx-ingress", "team/signed"
	)
	tests := []struct {
		query string
		want  []string // in order of name
	}{
		{"", []string{chart, web, app, signed, cache}},
		{"nginx", []string{chart, web}},
		{"licence:Apache-2.0", []string{chart}},
		{"license:Apache-* nginx", []string{chart}},
		{"licence:apache-2.0", nil},
		{"-licence:Apache-2.0 nginx", []string{web}},
		{"licence:Apache-2.0 OR repo:team/app", []string{chart, app}},
		{"proxy reverse", []string{web, cache}},
		{`"reverse proxy"`, []string{web}},
		{`"proxy reverse"`, []string{cache}},
		{`"cache proxy"`, nil}, // in two texts
		{"proxy -cache", []string{web}},
		{"-proxy", []string{chart, app, signed}},
		{"ingress OR cache", []string{chart, cache}},
		{"nginx OR platform:windows/amd64", []string{chart, web, cache}},
		{"edge", []string{web}}, // from a label
		{"ngi", []string{chart, web}},
		{"ngi nginx", nil},
		{"ngin -proxy", nil}, // only the last term is a prefix
		{"ngi* nginx", []string{chart, web}},
		{"repo:team/app", []string{app}},
		{"repo:team/*", []string{app, signed, cache}},
		{"repo:*nginx*", []string{chart, web}},
		{"namespace:team", []string{app, signed, cache}},
		{"namespace:tea", nil},
		{"-namespace:team", []string{chart, web}},
		{"tag:v1", []string{app}},
		{"tag:v*", []string{app, signed}},
		{"tag:V1", nil},
		{"nginx:1.25", []string{web}},
		{"nginx:9", nil},
		{"os:windows", []string{cache}},
		{"-os:linux", []string{chart, cache}},
		{"os:Windows", []string{cache}}, // case is ignored
		{"arch:arm*", []string{app, signed}},
		{"platform:linux/arm64", []string{app}},
		{"platform:linux/arm64/v8", []string{app}},
		{"platform:linux/arm64/v7", nil},
		{"type:index", []string{app}},
		{"type:artifact", []string{chart}}, // the signature has no tag
		{"type:application/vnd.CNCF.helm.config.v1+json", []string{chart}},
		{"type:*helm*", []string{chart}},
		{"label:team", []string{web, app}},
		{"label:note", nil}, // is an annotation
		{"-label:note nginx", []string{chart, web}},
		{"annotation:note", []string{chart}},
		{"label:team=blue", []string{app}},
		{"label:team=b*", []string{app}},
		{"label:te*=green", []string{app}},
		{"label:team=Blue", nil},
		{"label:org.opencontainers.image.created=2026-11-01T00:00:00Z", []string{web}},
		{"label:org.opencontainers.image.created=2026-11-02T00:00:00Z", nil},
		{`annotation:note="100% _real_"`, []string{chart}},
		{`annotation:note="100% Xreal*"`, nil},
		{"label:team=green label:stage=prod", nil}, // true of two images, not of one
		{"label:team=blue label:stage=prod", []string{app}},
		{"label:team=green platform:linux/amd64", nil},
		{"os:linux OR os:windows arch:amd64", []string{web, app, cache}},
		{"label:team=green OR os:windows label:stage=prod", nil}, // one image must fulfil both
		{"label:team=green OR os:windows arch:arm64", []string{app}},
		{"label:team=green OR cache label:stage=prod", []string{app}}, // with a word, each term holds alone
		{"app:v1 arch:arm64", []string{app}},
		{"nginx:1.25 arch:arm64", nil},
		{"app:v1 OR cache", []string{app, cache}},
		{"size:>500MB", []string{cache}},
		{"size:22MB", []string{app}}, // the index, with both its images
		{"layers:<2", []string{chart, signed}},
		{"created:>2026-10-01", []string{web, app, signed}},
		{"created:2026-10", []string{app}},
		{"created:<7d", []string{signed}},
		{"created:>1y", []string{cache}},
		{"created:<2024-01-15", nil},
		{"created:<=2024-01-15", []string{cache}},
		{"pushed:>2026-01-01", []string{chart, web, app, signed, cache}},
		{"pushed:<2026-01-01", nil},
		{"has:signature", []string{signed}},
		{"has:referrer", []string{signed}},
		{"has:sbom", nil},
		{"is:multiarch", []string{app}},
		{"is:tagged -is:multiarch", []string{chart, web, signed, cache}},
		{"digest:" + nginx.Digest.String()[:14], []string{web}},
		{"digest:" + nginx.Digest.String(), []string{web}},
		{"digest:" + digest.FromString("nothing").String(), nil},
		{`label:team="x' OR true --"`, nil},
		{"o'brien & | ! :* <-> \\", nil},
	}
	for _, test := range tests {
		q := parsed(t, test.query)
		got, total := s.Names(func(v *postgres.View) (indexer.Results, error) { return v.Search(t.Context(), q) })
		slices.Sort(got)
		if diff := cmp.Diff(test.want, got); diff != "" || total != len(test.want) {
			t.Errorf("%q: total %d (-want +got)\n%s", test.query, total, diff)
		}
	}
}

// Results follow what is pushed, moved and deleted.
func TestSearchRowsFollow(t *testing.T) {
	t.Parallel()
	s, nginx := stock(t)
	found := func(query string, want ...string) {
		t.Helper()
		got, _ := s.Names(func(v *postgres.View) (indexer.Results, error) { return v.Search(t.Context(), parsed(t, query)) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got)\n%s", query, diff)
		}
	}
	found("label:team=edge", "library/nginx")
	other := made("library/nginx", "linux/s390x", 5, 1, "2026-11-02", "team", "core")
	s.Find("library/nginx", "latest", other)
	found("label:team=core tag:latest", "library/nginx")
	found("label:team=edge", "library/nginx") // tag 1.25
	found("label:team=edge tag:latest")
	s.Find("library/nginx", "1.25") // deleted
	found("label:team=edge")
	found("arch:amd64 repo:library/nginx")
	found("arch:s390x", "library/nginx")
	s.Find("library/nginx", "1.25", nginx)
	found("label:team=edge arch:amd64", "library/nginx")
	s.Find("team/app", "v1") // deleted: the index, and with it its images
	found("repo:team/app")
	found("label:team=green")
	if n := s.Rows("SELECT count(*) FROM image_search i JOIN repository r ON r.id = i.repository_id WHERE r.name = 'team/app'"); n != 0 {
		t.Errorf("%d search rows of images are left of a repository without tags", n)
	}
}

// Search rows of an older form are rewritten, and then equal the rows of a push.
func TestReform(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	ctx := t.Context()
	const content = `SELECT md5(string_agg(x, '')) FROM (SELECT s::text AS x FROM repository_search s UNION ALL SELECT i::text FROM image_search i ORDER BY 1) AS all_of_them`
	var before, after string
	if err := s.Pool.QueryRow(ctx, content).Scan(&before); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"DELETE FROM image_search", "UPDATE repository_search SET form = 0, facts = '{}', all_words = ''", "DELETE FROM repository_search WHERE name = 'team/app'"} {
		if _, err := s.Pool.Exec(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n > 0; {
		var err error
		if n, err = s.Reform(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Pool.QueryRow(ctx, content).Scan(&after); err != nil || before != after {
		t.Errorf("the rewritten rows differ from those of pushes: %v", err)
	}
}
