package indexer

import (
	"errors"
	"fmt"
)

// Kinds of error. They are wrapped, never returned bare; test with errors.Is.
var (
	// ErrNotFound: what was asked for by name does not exist.
	ErrNotFound = errors.New("not found")
	// ErrInvalid: the input cannot be understood, and never will be. The text
	// of such an error is written for whoever sent the input.
	ErrInvalid = errors.New("invalid")
	// ErrUnavailable: somebody we depend on does not answer just now. The same
	// call may succeed later; nothing is wrong with what was asked.
	ErrUnavailable = errors.New("unavailable")
	// ErrTooSlow: it was stopped because it took too long. It is ErrUnavailable
	// too, but asking for less helps more than asking again.
	ErrTooSlow = fmt.Errorf("took too long: %w", ErrUnavailable)
)
