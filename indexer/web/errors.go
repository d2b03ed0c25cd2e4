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
