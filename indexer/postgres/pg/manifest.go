package pg

import (
	"cmp"
	"iter"
	"slices"
)

// A ManifestID is the key of a manifest.
type ManifestID struct {
	Repository int32 `db:"repository_id"`
	ID         int64
}

// SortedManifests returns keys in order of repository and id.
func SortedManifests(keys iter.Seq[ManifestID]) []ManifestID {
	return slices.SortedFunc(keys, func(a, b ManifestID) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.ID, b.ID))
	})
}
