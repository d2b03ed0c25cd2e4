package web

import (
	"fmt"

	"github.com/portbook/portbook/indexer"
)

var errNothingHere = fmt.Errorf("page: %w", indexer.ErrNotFound)

// invalid is an error that tells the client which part of its request cannot
// be understood, and why.
func invalid(part, format string, a ...any) error {
	return fmt.Errorf("%s %s: %w", part, fmt.Sprintf(format, a...), indexer.ErrInvalid)
}

// A refusal is an error with a status code of its own. Its text is written for
// the client.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

func refuse(code int, format string, a ...any) error {
	return &refusal{code, fmt.Sprintf(format, a...)}
}
