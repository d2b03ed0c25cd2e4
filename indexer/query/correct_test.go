package query_test

import (
	"slices"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

// A misspelt word becomes the nearest word of names; of equally near ones the most
// frequent; of equally frequent ones the first by name.
func TestCorrected(t *testing.T) {
	t.Parallel()
	names := map[string]int{
		"nginx": 5, "nginy": 5, "nginz": 5, "ngini": 4, "proxy": 1, "proxies": 9, "postgresql": 1, "12345": 9, "ab": 9,
	}
	near := func(word string, edits int) map[string]int {
		found := map[string]int{}
		for w, n := range names {
			if indexer.EditDistance(word, w) <= edits {
				found[w] = n
			}
		}
		return found
	}
	for _, test := range []struct {
		text     string
		misspelt []string
		mistakes int
		want     string
	}{
		{"nginw", []string{"nginw"}, 1, "nginx"},
		{"proxie", []string{"proxie"}, 2, "proxies"}, // nearer than proxy
		{"postgrsl", []string{"postgrsl"}, 1, ""},
		{"postgrsl", []string{"postgrsl"}, 2, "postgresql"},
		{"pozi", []string{"pozi"}, 2, ""}, // too short for two mistakes
		{"12346", []string{"12346"}, 1, ""},
		{"abc", []string{"abc"}, 1, ""}, // ab is too short
		{"nginw prxy", []string{"nginw", "prxy"}, 1, "nginx proxy"},
		{"nginw qqqq", []string{"nginw", "qqqq"}, 1, ""},
		{"nginx", nil, 2, ""},
	} {
		q := query.Plain(test.text)
		if got := q.Corrected(test.misspelt, test.mistakes, near); got != test.want {
			t.Errorf("%q with %d mistakes: got %q, want %q", test.text, test.mistakes, got, test.want)
		}
	}
}

// The words of conditions and excluded words are not corrected, and only the last word is
// known if a longer one is.
func TestCorrectable(t *testing.T) {
	t.Parallel()
	q, err := query.Parse("one -two os:three four", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, term := range q.Correctable() {
		words = append(words, term.Words...)
		if term.Prefix != (term.Words[0] == "four") {
			t.Errorf("%v is a prefix: %v", term.Words, term.Prefix)
		}
	}
	if want := []string{"one", "four"}; !slices.Equal(words, want) {
		t.Errorf("got %v, want %v", words, want)
	}
}
