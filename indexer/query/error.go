package query

import (
	"fmt"
	"unicode/utf8"

	"github.com/portbook/portbook/indexer"
)

// An Error says which part of a query is wrong. It is an indexer.ErrInvalid.
type Error struct {
	Query   string // the whole query
	Offset  int    // of the wrong part, in bytes
	Length  int    // of the wrong part, in bytes
	Problem string // what is wrong, and what to write instead
}

// Error returns the problem, the position of the wrong part in characters from 1,
// and the part.
func (e *Error) Error() string {
	position := utf8.RuneCountInString(e.Query[:e.Offset]) + 1
	return fmt.Sprintf("%s, at %d: %q", e.Problem, position, e.Query[e.Offset:e.Offset+e.Length])
}

func (e *Error) Unwrap() error { return indexer.ErrInvalid }
