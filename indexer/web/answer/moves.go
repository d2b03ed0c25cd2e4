package answer

import (
	"net/http"

	"github.com/portbook/portbook/indexer"
)

// MovesBefore returns at most limit moves, and the value of before for the next
// page, or 0 if there is none.
func MovesBefore(r *http.Request, b Book, repository, tag string, before int64,
	limit int) (moves []indexer.Move, next int64, err error) {
	moves, err = b.History(r.Context(), repository, tag, before, limit+1)
	if len(moves) > limit {
		moves, next = moves[:limit], moves[limit-1].ID
	}
	return moves, next, err
}
