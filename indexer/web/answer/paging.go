package answer

import (
	"errors"
	"strconv"

	"github.com/portbook/portbook/indexer/query"
)

// Number reads s; def if it is none. One that is too large for an int is the
// largest int.
func Number(s string, def int) int {
	n, err := strconv.Atoi(s)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return def
	}
	return n
}

// LastPage is the last page of n that starts within query.MaxOffset.
func LastPage(n int) int { return query.MaxOffset/n + 1 }

const (
	// DefaultPage is how many results are given if n does not say: 25, as the
	// Docker Registry API has it, and what docker and podman ask for.
	DefaultPage = 25
	// MaxDescription is the most runes of a description in a list: 500. The
	// clients show 45; it keeps a page of 100 results small whatever people
	// write into a label.
	MaxDescription = 500
)

// Sorts are the orders of a search.
var Sorts = []string{"relevance", string(query.SortName), string(query.SortUpdated), string(query.SortSize), string(query.SortPulls)}
