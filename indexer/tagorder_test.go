package indexer_test

import (
	"slices"
	"strings"
	"testing"
	"time"

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

// The leading tag is latest, else the highest version, else the tag that moved last, and
// never one that keeps a referrer or that the registry cannot show.
func TestLeadingTag(t *testing.T) {
	t.Parallel()
	attached := "sha256-" + strings.Repeat("0a", 32)
	for _, test := range []struct {
		moved []string // in this order
		want  string
	}{
		{nil, ""},
		{[]string{"latest", "2.0", "edge"}, "latest"},
		{[]string{"v1.9.0", "v1.10.0", "main", "v1.10.0-rc1"}, "v1.10.0"},
		{[]string{"1.0.1", "1.0"}, "1.0.1"},
		{[]string{"1.9.0", "2.0.0-rc1"}, "1.9.0"}, // a release before a prerelease
		{[]string{"3.18-alpine", "3.19-alpine", "3.9-alpine"}, "3.19-alpine"},
		{[]string{"1-", "1-a"}, "1-a"},
		{[]string{"v1", "V1"}, "V1"},
		{[]string{"main", "edge"}, "edge"},
		{[]string{strings.Repeat("9", 19), "main"}, "main"}, // no number of a version
		{[]string{"main", attached, attached + ".sig"}, "main"},
		{[]string{attached}, ""},
	} {
		tags := []indexer.Tag{{Name: "latest"}} // without a manifest
		for i, name := range test.moved {
			tags = append(tags, indexer.Tag{Name: name, Digest: aDigest, MovedAt: time.Unix(int64(i), 0)})
		}
		if got := indexer.LeadingTag(tags); got != test.want {
			t.Errorf("%q leads %q, want %q", got, test.moved, test.want)
		}
	}
}
