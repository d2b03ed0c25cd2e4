package indexer

import "fmt"

// A said is an error of a kind with nothing but a text for the client.
type said struct {
	kind error
	text string
}

func (e *said) Error() string { return e.text }
func (e *said) Unwrap() error { return e.kind }

// Invalid returns an ErrInvalid with a text. The text says which part of the input
// cannot be understood, why, and what to write instead.
func Invalid(format string, a ...any) error { return &said{ErrInvalid, fmt.Sprintf(format, a...)} }

// Conflict returns an ErrConflict with a text. The text says what is in the way, and what to
// do about it.
func Conflict(format string, a ...any) error { return &said{ErrConflict, fmt.Sprintf(format, a...)} }

// Forbidden returns an ErrForbidden with a text. The text says who may do it.
func Forbidden(format string, a ...any) error { return &said{ErrForbidden, fmt.Sprintf(format, a...)} }
