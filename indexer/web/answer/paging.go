package answer

import (
	"errors"
	"strconv"

	"github.com/portbook/portbook/indexer/query"
)

// Number parses s. It returns def if s is not a number, and the largest int if the
// number is too large.
func Number(s string, def int) int {
	n, err := strconv.Atoi(s)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return def
	}
	return n
}

// LastPage returns the number of the last page of n results that starts within
// query.MaxOffset.
func LastPage(n int) int { return query.MaxOffset/n + 1 }

const (
	// DefaultPage is the number of results if n is not set: 25, as the Docker Registry
	// API specifies and as docker and podman request.
	DefaultPage = 25
	// MaxDescription is the maximum number of runes of a description in a list: 500.
	// The clients show 45; the limit keeps a page of 100 results small even if a label
	// is long.
	MaxDescription = 500
)

// First returns the first MaxShown elements of a list.
func First[T any](list []T) []T { return list[:min(len(list), MaxShown)] }

// MaxShown is the maximum number of elements of one list on a page: 1,000. A
// manifest of 4 MiB has room for about 40,000 descriptors.
const MaxShown = 1000

// Sorts are the sort orders of a search.
var Sorts = []string{
	"relevance", string(query.SortName), string(query.SortUpdated), string(query.SortSize), string(query.SortPulls),
}
