package postgres_test

import (
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
)

// An index with problems, for example too many entries, is not read and stored again
// for each tag that moves to it; a scan does read it again.
func TestIndexWithProblemsIsKnown(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	index := listing("team/app", made("team/app", "linux/amd64", 1, 1, "2026-01-01"))
	index.Problems = []string{"more than 1000 manifests"}
	s.Find("team/app", "v1", index)
	stored := s.Rows("SELECT xmin::text::bigint FROM manifest")
	s.Find("team/app", "v2", index)
	if s.Rows("SELECT xmin::text::bigint FROM manifest") != stored {
		t.Error("the index was stored again")
	}
	for priority, want := range map[indexer.Priority]bool{indexer.PriorityEvent: true, indexer.PriorityScan: false, indexer.PriorityConfirm: true} {
		for _, ask := range []indexer.Ask{{Reference: "v1"}, {Reference: "v3", Hint: index.Digest}, {Reference: indexer.TagOrDigest(index.Digest)}} {
			ask.Repository, ask.Priority = "team/app", priority
			if err := s.Ask(t.Context(), []indexer.Ask{ask}); err != nil {
				t.Fatal(err)
			}
			tasks, err := s.Claim(t.Context(), indexer.PriorityConfirm, 10, time.Minute)
			if err != nil || len(tasks) != 1 || tasks[0].Known != want {
				t.Errorf("%+v: got %+v, want one task with Known=%v (%v)", ask, tasks, want, err)
			}
			if _, err := s.Pool.Exec(t.Context(), "DELETE FROM task"); err != nil {
				t.Fatal(err)
			}
		}
	}
	index.Problems = nil // as a newer version of the program may read it
	s.Find("team/app", "v1", index)
	if s.Rows("SELECT cardinality(problems) FROM manifest") != 0 {
		t.Error("the index was not stored again")
	}
}
