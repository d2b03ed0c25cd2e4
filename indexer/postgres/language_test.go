package postgres

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/schema/schematest"
)

// A shelf is a small catalogue to ask things of.
type shelf struct {
	t *testing.T
	*Store
}

// now is the present of the queries of these tests.
var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func (s shelf) find(repository, reference string, m ...indexer.Manifest) {
	s.t.Helper()
	ctx := s.t.Context()
	if err := s.Ask(ctx, []indexer.Ask{{Repository: repository, Reference: reference}}); err != nil {
		s.t.Fatal(err)
	}
	tasks, err := s.Claim(ctx, indexer.PriorityConfirm, 100, time.Minute)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, t := range tasks { // what the one asked for left behind is done with
		f := indexer.Finding{Task: t, Outcome: indexer.Gone}
		if t.Repository == repository && t.Reference == reference {
			f.Outcome, f.Manifests = indexer.Found, m
			if len(m) > 0 {
				f.Digest = m[0].Digest
			} else {
				f.Outcome = indexer.Gone
			}
		} else if t.Digest() != "" {
			f.Outcome = indexer.Found // as it was
			f.Digest = t.Digest()
		}
		if err := s.Apply(ctx, []indexer.Finding{f}); err != nil {
			s.t.Fatal(err)
		}
	}
}

func made(repository, platform string, size int64, layers int, created string, labels ...string) indexer.Manifest {
	m := indexer.Manifest{
		Repository: repository, MediaType: ocispec.MediaTypeImageManifest, Kind: indexer.KindImage, ContentSize: size, Labels: map[string]string{},
	}
	parts := [3]string{}
	copy(parts[:], splitSlash(platform))
	m.Platform = indexer.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
	m.CreatedAt, _ = time.Parse("2006-01-02", created)
	for i := 0; i+1 < len(labels); i += 2 {
		m.Labels[labels[i]] = labels[i+1]
	}
	for i := range layers {
		m.Layers = append(m.Layers, ocispec.Descriptor{Digest: digest.FromString(fmt.Sprint("layer", i)), Size: 1})
	}
	m.Body = fmt.Appendf(nil, `{"schemaVersion":2,"is":%q}`, fmt.Sprint(repository, platform, size, layers, created, labels))
	m.Digest, m.Size = digest.FromBytes(m.Body), int64(len(m.Body))
	return m
}

func splitSlash(s string) []string {
	var parts []string
	for s != "" {
		i := slices.Index([]byte(s), '/')
		if i < 0 {
			return append(parts, s)
		}
		parts, s = append(parts, s[:i]), s[i+1:]
	}
	return parts
}

func listing(repository string, images ...indexer.Manifest) indexer.Manifest {
	m := indexer.Manifest{Repository: repository, MediaType: ocispec.MediaTypeImageIndex, Kind: indexer.KindIndex}
	for _, i := range images {
		m.Entries = append(m.Entries, indexer.Entry{Digest: i.Digest, MediaType: i.MediaType, Size: i.Size, Platform: i.Platform})
	}
	m.Body = fmt.Appendf(nil, `{"schemaVersion":2,"lists":%q}`, fmt.Sprint(m.Entries))
	m.Digest, m.Size = digest.FromBytes(m.Body), int64(len(m.Body))
	return m
}

// stock fills a catalogue in which every field tells some repositories from
// others.
func stock(t *testing.T) (s shelf, nginx indexer.Manifest) {
	s = shelf{t, New(schematest.New(t))}
	return s, s.stock()
}

func (s shelf) stock() (nginx indexer.Manifest) {
	put := func(tag string, m ...indexer.Manifest) { s.find(m[0].Repository, tag, m...) }
	nginx = made("library/nginx", "linux/amd64", 60e6, 6, "2026-11-01", "org.opencontainers.image.description", "A reverse proxy",
		"team", "edge", "org.opencontainers.image.created", "2026-11-01T00:00:00Z")
	put("1.25", nginx)
	put("latest", nginx)
	amd, arm := made("team/app", "linux/amd64", 10e6, 2, "2026-10-01", "team", "blue", "stage", "prod"),
		made("team/app", "linux/arm64/v8", 12e6, 2, "2026-10-02", "team", "green")
	put("v1", listing("team/app", amd, arm), amd, arm)
	put("1.0", made("team/tools/proxy-cache", "Windows/amd64", 900e6, 12, "2024-01-15", "org.opencontainers.image.title", "Proxy, reverse"))
	chart := made("charts/nginx-ingress", "", 4000, 1, "")
	chart.Kind, chart.ArtifactType = indexer.KindArtifact, "application/vnd.cncf.helm.config.v1+json"
	chart.Annotations = map[string]string{"org.opencontainers.image.licenses": "Apache-2.0", "note": "100% _real_"}
	put("0.1", chart)
	signed := made("team/signed", "linux/arm/v7", 1e6, 1, "2026-11-20")
	put("v2", signed)
	signature := made("team/signed", "", 100, 1, "2026-11-20", "x", "y")
	signature.Kind, signature.ArtifactType, signature.Subject = indexer.KindArtifact, "application/vnd.cncf.notary.signature", signed.Digest
	s.find("team/signed", signature.Digest.String(), signature)
	return nginx
}

func (s shelf) names(run func(*View) (indexer.Results, error)) (names []string, total int) {
	s.t.Helper()
	err := s.View(context.Background(), func(v *View) error {
		results, err := run(v)
		total = results.Total
		names = nil
		for _, r := range results.Items {
			names = append(names, r.Name)
		}
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
	return names, total
}

func parsed(t *testing.T, text string) query.Query {
	t.Helper()
	q, err := query.Parse(text, now)
	if err != nil {
		t.Fatal(err)
	}
	return q.Page(25, 0)
}

// Every field selects what it says, in whatever way the statement is made.
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
		{`"cache proxy"`, nil}, // of two texts
		{"proxy -cache", []string{web}},
		{"-proxy", []string{chart, app, signed}},
		{"ingress OR cache", []string{chart, cache}},
		{"nginx OR platform:windows/amd64", []string{chart, web, cache}},
		{"edge", []string{web}}, // text of a label
		{"ngi", []string{chart, web}},
		{"ngi nginx", nil},
		{"ngin -proxy", nil}, // the last term is another
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
		{"os:Windows", []string{cache}}, // whatever the case of either
		{"arch:arm*", []string{app, signed}},
		{"platform:linux/arm64", []string{app}},
		{"platform:linux/arm64/v8", []string{app}},
		{"platform:linux/arm64/v7", nil},
		{"type:index", []string{app}},
		{"type:artifact", []string{chart}}, // the signature has no tag
		{"type:application/vnd.CNCF.helm.config.v1+json", []string{chart}},
		{"type:*helm*", []string{chart}},
		{"label:team", []string{web, app}},
		{"label:note", nil}, // an annotation
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
		{"label:team=green label:stage=prod", nil}, // of two images
		{"label:team=blue label:stage=prod", []string{app}},
		{"label:team=green platform:linux/amd64", nil},
		{"os:linux OR os:windows arch:amd64", []string{web, app, cache}},
		{"label:team=green OR os:windows label:stage=prod", nil}, // one image must be both
		{"label:team=green OR os:windows arch:arm64", []string{app}},
		{"label:team=green OR cache label:stage=prod", []string{app}}, // with a word beside, each by itself
		{"app:v1 arch:arm64", []string{app}},
		{"nginx:1.25 arch:arm64", nil},
		{"app:v1 OR cache", []string{app, cache}},
		{"size:>500MB", []string{cache}},
		{"size:22MB", []string{app}}, // of the index: both its images
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
		shown := func(plan func(*search) (page, error)) func(*View) (indexer.Results, error) {
			return func(v *View) (indexer.Results, error) {
				s := newSearch(q)
				p, err := plan(s)
				if err != nil {
					return indexer.Results{}, err
				}
				return v.show(t.Context(), s, p)
			}
		}
		ways := map[string]func(*View) (indexer.Results, error){
			"Search": func(v *View) (indexer.Results, error) { return v.Search(t.Context(), q) },
			"sorted": shown(func(s *search) (page, error) { return s.sorted(nil) }),
			"walked": shown((*search).walked),
		}
		if newSearch(q).words != "" {
			ways["ranked"] = shown((*search).ranked)
		}
		for way, run := range ways {
			got, total := s.names(run)
			slices.Sort(got)
			if diff := cmp.Diff(test.want, got); diff != "" || total != len(test.want) {
				t.Errorf("%s of %q: total %d (-want +got)\n%s", way, test.query, total, diff)
			}
		}
	}
}

// What is found follows what is pushed, moved and deleted.
func TestSearchRowsFollow(t *testing.T) {
	t.Parallel()
	s, nginx := stock(t)
	found := func(query string, want ...string) {
		t.Helper()
		got, _ := s.names(func(v *View) (indexer.Results, error) { return v.Search(t.Context(), parsed(t, query)) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got)\n%s", query, diff)
		}
	}
	found("label:team=edge", "library/nginx")
	other := made("library/nginx", "linux/s390x", 5, 1, "2026-11-02", "team", "core")
	s.find("library/nginx", "latest", other)
	found("label:team=core tag:latest", "library/nginx")
	found("label:team=edge", "library/nginx") // by 1.25
	found("label:team=edge tag:latest")
	s.find("library/nginx", "1.25") // gone
	found("label:team=edge")
	found("arch:amd64 repo:library/nginx")
	found("arch:s390x", "library/nginx")
	s.find("library/nginx", "1.25", nginx)
	found("label:team=edge arch:amd64", "library/nginx")
	s.find("team/app", "v1") // the index, and with it its images
	found("repo:team/app")
	found("label:team=green")
	if n := s.rows("SELECT count(*) FROM image_search i JOIN repository r ON r.id = i.repository_id WHERE r.name = 'team/app'"); n != 0 {
		t.Errorf("%d search rows of images are left of a repository without tags", n)
	}
}

func (s shelf) rows(q string) (n int) {
	s.t.Helper()
	if err := s.pool.QueryRow(s.t.Context(), q).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// Search rows of an older form are made anew, and then are what they were.
func TestReform(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	ctx := t.Context()
	const content = `SELECT md5(string_agg(x, '')) FROM (SELECT s::text AS x FROM repository_search s UNION ALL SELECT i::text FROM image_search i ORDER BY 1) AS all_of_them`
	if _, err := s.pool.Exec(ctx, "UPDATE repository_search SET tier = 2"); err != nil { // where they begin anew
		t.Fatal(err)
	}
	var before, after string
	if err := s.pool.QueryRow(ctx, content).Scan(&before); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"DELETE FROM image_search", "UPDATE repository_search SET form = 0, facts = '{}', all_words = ''", "DELETE FROM repository_search WHERE name = 'team/app'"} {
		if _, err := s.pool.Exec(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	for n := 1; n > 0; {
		var err error
		if n, err = s.Reform(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.pool.QueryRow(ctx, content).Scan(&after); err != nil || before != after {
		t.Errorf("the rows differ from those that were written one by one: %v", err)
	}
}
