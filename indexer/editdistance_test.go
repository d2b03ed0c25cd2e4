package indexer_test

import (
	"testing"

	"github.com/portbook/portbook/indexer"
)

func TestEditDistance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"ngnix", "nginx", 1}, {"kitten", "sitting", 3}, {"label", "lable", 1},
	} {
		if got := indexer.EditDistance(test.a, test.b); got != test.want || indexer.EditDistance(test.b, test.a) != test.want {
			t.Errorf("EditDistance(%q, %q) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
