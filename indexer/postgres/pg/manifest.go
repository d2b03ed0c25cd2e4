package pg

import (
	"cmp"
	"iter"
	"slices"
)

// A ManifestID is the key of a manifest.
type ManifestID struct {
	Repository int32
	ID         int64
}

// ManifestColumns returns sorted keys as two arrays, one for each column.
func ManifestColumns(keys iter.Seq[ManifestID]) (repositories []int32, ids []int64) {
	sorted := slices.SortedFunc(keys, func(a, b ManifestID) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.ID, b.ID))
	})
	for _, k := range sorted {
		repositories, ids = append(repositories, k.Repository), append(ids, k.ID)
	}
	return repositories, ids
}
