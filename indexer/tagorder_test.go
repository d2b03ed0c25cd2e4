package indexer_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
)

// People look for the newest version first.
func TestSortTags(t *testing.T) {
	t.Parallel()
	kept := "sha256-" + strings.Repeat("0", 64) + ".sig"
	want := []string{
		"latest", "20260131", "v10", "2.0.1", "2.0", "2.0-rc2", "2.0-rc1", "1.10", "1.10-alpine", "1.9", "01", "1", "v1",
		"Edge", "edge", "main", "pr-9", "pr-10", kept,
	}
	var tags []indexer.Tag
	for _, name := range slices.Sorted(slices.Values(want)) {
		tags = append(tags, indexer.Tag{Name: name})
	}
	indexer.SortTags(tags)
	var got []string
	for _, tag := range tags {
		got = append(got, tag.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sorted tags (-want +got):\n%s", diff)
	}
}
