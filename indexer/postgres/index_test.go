package postgres_test

import (
	"testing"

	"github.com/portbook/portbook/indexer"
)

// If an image index and its only tag go in one transaction, its images are no longer found either,
// though the index can no longer tell which they are.
func TestIndexAndTagGoTogether(t *testing.T) {
	t.Parallel()
	for name, tag := range map[string]indexer.Finding{
		"deleted tag": {Outcome: indexer.Gone},
		"moved tag":   {Outcome: indexer.Found},
		"broken tag":  {Outcome: indexer.Broken, Problem: "the registry answered 500"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			amd, arm := made("app", "linux/amd64", 1, 1, "2026-01-01"), made("app", "linux/arm64", 2, 2, "2026-01-02")
			index, other := listing("app", amd, arm), made("app", "linux/s390x", 3, 3, "2026-01-03")
			s.Find("app", "v1", index, amd, arm)
			s.Find("app", "other", other)
			tag.Task = indexer.Task{Repository: "app", Reference: indexer.TagOrDigest("v1")}
			if tag.Outcome == indexer.Found {
				tag.Digest, tag.Manifests = other.Digest, []indexer.Manifest{other}
			}
			gone := indexer.Finding{Task: indexer.Task{Repository: "app", Reference: indexer.TagOrDigest(index.Digest)}, Outcome: indexer.Gone}
			if err := s.apply([]indexer.Finding{tag, gone}); err != nil {
				t.Fatal(err)
			}
			if n := one[int](t, s.Pool, "SELECT count(*) FROM manifest WHERE kind = 'index'"); n > 0 {
				t.Fatal("the index is still there")
			}
			s.consistent("app")
		})
	}
}
