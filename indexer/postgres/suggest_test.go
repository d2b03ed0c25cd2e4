package postgres_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

func names(t *testing.T, s *postgres.Store, all ...string) {
	t.Helper()
	for _, name := range all {
		setTag(t, s, "latest", image(name, name))
	}
}

// Suggest completes what is being typed, and no input is an error.
func TestSuggest(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	names(t, s, "nginx", "library/nginx", "team/nginx-proxy", "nets/router", "team/tools/lab", "team/app", "teams/x")
	for tag, platform := range map[string]indexer.Platform{"gone": {OS: "plan9", Architecture: "mips"}, "kept": {OS: "Windows", Architecture: "AMD64"}} {
		m := image("team/app", tag)
		m.Platform = platform
		setTag(t, s, tag, m)
	}
	chart := image("team/app", "chart")
	chart.Kind, chart.ArtifactType = indexer.KindArtifact, "application/X-Chart"
	setTag(t, s, "chart", chart)
	store(t, s, "gone", indexer.Finding{Task: indexer.Task{Repository: "team/app"}, Outcome: indexer.Gone})
	for name, pulls := range map[string]int{"library/nginx": 3, "team/nginx-proxy": 2, "nginx": 1} {
		if _, err := pool.Exec(t.Context(), "UPDATE repository_search SET pulls = $2 WHERE name = $1", name, pulls); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		text  string
		limit int
		want  []string // texts
	}{
		{"n", 10, []string{"library/nginx", "team/nginx-proxy", "nginx", "nets/router"}},
		{"NG", 10, []string{"library/nginx", "team/nginx-proxy", "nginx"}},
		{"nginx", 2, []string{"nginx", "library/nginx"}}, // the exact name first
		{"fast -ngin", 1, []string{"fast -library/nginx"}},
		{"library/", 10, []string{"library/nginx"}},
		{"la", 10, []string{"team/tools/lab", "label:", "layers:"}},
		{"la", 1, []string{"label:"}},
		{"a repo:nets", 10, []string{"a repo:nets/router"}},
		{"namespace:team", 10, []string{"namespace:team", "namespace:teams"}},
		{"ns:team/t", 10, []string{"ns:team/tools"}},
		{"namespace:", 2, []string{"namespace:library", "namespace:nets"}},
		{"os:", 10, []string{"os:linux", "os:windows"}}, // no value that is no longer used
		{"os:", 1, []string{"os:linux"}},
		{"os:pl", 10, nil},
		{"platform:win", 10, []string{"platform:windows/amd64"}},
		{"type:application/", 10, []string{"type:application/x-chart"}}, // no media types of manifests, configs or layers
		{"arch:am", 10, []string{"arch:amd64"}},
		{"platform:linux/", 10, []string{"platform:linux/amd64"}},
		{"type:i", 10, []string{"type:image", "type:index"}},
		{"has:s", 10, []string{"has:sbom", "has:signature"}},
		{"tag:v", 10, nil},
		{"zzz", 10, nil},
		{"", 10, nil},
		{"nginx ", 10, nil},
		{`"reverse ng`, 10, nil},
		{`label:a="ng`, 10, nil},
		{"\x00\xff", 10, nil},
		{"100%_", 10, nil},
	}
	for _, test := range tests {
		view(t, s, func(v *postgres.View) error {
			got, err := v.Suggest(t.Context(), test.text, test.limit)
			var texts []string
			for _, x := range got {
				texts = append(texts, x.Text)
			}
			if diff := cmp.Diff(test.want, texts); diff != "" {
				t.Errorf("%q (-want +got)\n%s", test.text, diff)
			}
			return err
		})
	}
}
