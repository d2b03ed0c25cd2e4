package memory

import (
	"fmt"
	"slices"
	"testing"
)

// A repository that changes while its segment is merged is not there twice, and one that
// goes does not come back.
func TestMergeWhileWritten(t *testing.T) {
	t.Parallel()
	row := func(id int32, updated int64) Row {
		return Row{ID: id, Name: fmt.Sprint("team/app-", id), UpdatedAt: updated}
	}
	st := &State{facts: newDictionary(), sights: newSights()}
	for id := int32(1); id <= mergeFactor; id++ {
		st = st.with(Vector{}, []int32{id}, []Row{row(id, 1)})
	}
	parts := st.due()
	if len(parts) != mergeFactor {
		t.Fatalf("got %d segments to merge, want %d", len(parts), mergeFactor)
	}
	by := st.merged(parts)
	st = st.with(Vector{}, []int32{2, 3, 4}, []Row{row(3, 2), row(4, 2), row(9, 2)})
	st = st.with(Vector{}, []int32{4}, nil)
	st = st.replace(parts, by)
	updated := map[int32]int64{}
	for _, p := range st.parts {
		for d := range p.live.all() {
			updated[p.ids[d]] += p.updated[d]
		}
	}
	want := map[int32]int64{1: 1, 3: 2, 5: 1, 6: 1, 7: 1, 8: 1, 9: 2}
	if fmt.Sprint(updated) != fmt.Sprint(want) || st.Len() != len(want) {
		t.Errorf("got repositories and when they changed %v, %d in all, want %v", updated, st.Len(), want)
	}
	if slices.ContainsFunc(parts, func(p part) bool { return hasSegment(st.parts, p.segment) }) {
		t.Error("a merged segment is still there")
	}
}
