package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/schema/schematest"
)

// A misspelt word is corrected if the correction finds something, and only then.
func TestCorrect(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	names(t, s, "has/latest", "library/nginx", "team/postgresql", "team/nginy", "other/nginx", "x/kubernetes-proxy", "y/redis")
	tests := []struct{ query, want string }{
		{"ngnix", "nginx"},  // swapped
		{"nginxx", "nginx"}, // one letter too many
		{"ngix", "nginx"},   // one letter missing
		{"ngimx", "nginx"},  // a wrong letter; nginx is more frequent than nginy
		{"Ngnix:latest", "nginx:latest"},
		{"hsa:latest", ""},          // has:latest would be a condition, and it does not exist
		{"kubrenets", "kubernetes"}, // two mistakes in a long word
		{"rdes", ""},                // two mistakes in a short word
		{"ngnix rediss -ngnix", ""}, // no repository has both
		{"ngnix -rediss namespace:library", "nginx -rediss namespace:library"},
		{"ngnix namespace:team", ""},
		{"postgresq", ""}, // the beginning of an existing word
		{"postgresq nginx", ""},
		{"qqqqqqqqqq", ""},
		{"nginx redis", ""},
		{"nginy:none", ""}, // the word exists, and nginx is in more names
		{"öngnixäüöä", ""},
		{"12345678", ""},
		{"", ""},
	}
	for _, test := range tests {
		q, err := query.Parse(test.query, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		view(t, s, func(v *postgres.View) error {
			found, err := v.Search(t.Context(), q.Page(25, 0))
			if err != nil || found.Total > 0 && len(q.Clauses) > 0 {
				if test.want != "" {
					t.Errorf("%q finds %d repositories, want the correction %q", test.query, found.Total, test.want)
				}
				return err // no correction is requested
			}
			near, err := v.Near(t.Context(), q.Page(25, 0))
			if want := strings.Replace(test.want, "kubernetes", "", 1); near != want && test.want != "" { // two mistakes are too many for near
				t.Errorf("Near of %q: got %q, want %q", test.query, near, want)
			}
			if err != nil {
				return err
			}
			got, err := v.Correct(t.Context(), q.Page(25, 0))
			if got != test.want {
				t.Errorf("Correct of %q: got %q, want %q", test.query, got, test.want)
			}
			return err
		})
	}
	store(t, s, "latest", indexer.Finding{Task: indexer.Task{Repository: "y/redis"}, Outcome: indexer.Gone})
	view(t, s, func(v *postgres.View) error {
		if got, err := v.Correct(t.Context(), query.Plain("rediss").Page(1, 0)); got != "" || err != nil {
			t.Errorf("a deleted word was suggested: %q, %v", got, err)
		}
		return nil
	})
}
