package query_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer/query"
)

// WithWord replaces free words only: not words of fields, of negated terms, or parts
// of longer words.
func TestWithWord(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, word, by, want string }{
		{"ngnix", "ngnix", "nginx", "nginx"},
		{"  my-Ngnix  proxy ", "ngnix", "nginx", "my-nginx  proxy"},
		{"ngnix label:ngnix=1 -ngnix tag:ngnix", "ngnix", "nginx", "nginx label:ngnix=1 -ngnix tag:ngnix"},
		{`"a ngnix" OR ngnix*`, "ngnix", "nginx", `"a nginx" OR nginx*`},
		{"ngnixes ngnix", "ngnix", "nginx", "ngnixes nginx"},
		{"library/ngnix:1.25", "ngnix", "nginx", "library/nginx:1.25"},
		{"übre x", "übre", "über", "über x"},
	}
	now := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	for _, test := range tests {
		q, err := query.Parse(test.text, now)
		if err != nil {
			t.Fatal(err)
		}
		got := q.WithWord(test.word, test.by)
		want, err := query.Parse(test.want, now)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q with %s for %s (-want +got)\n%s", test.text, test.by, test.word, diff)
		}
	}
}

func TestFreeWords(t *testing.T) {
	t.Parallel()
	q, err := query.Parse(`web "web proxy" -cache team/app:1 os:linux OR fast ng`, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	words, prefix := q.FreeWords()
	if diff := cmp.Diff([]string{"web", "proxy", "team", "app", "fast", "ng"}, words); diff != "" || prefix != "ng" {
		t.Errorf("FreeWords: prefix %q, words (-want +got)\n%s", prefix, diff)
	}
}
