package indexer

import "fmt"

// An invalid is an ErrInvalid with nothing but a text for the sender of the input.
type invalid struct{ text string }

func (e *invalid) Error() string { return e.text }
func (e *invalid) Unwrap() error { return ErrInvalid }

// Invalid returns an ErrInvalid with a text. The text says which part of the input
// cannot be understood, why, and what to write instead.
func Invalid(format string, a ...any) error { return &invalid{fmt.Sprintf(format, a...)} }
