package indexer

import "fmt"

// An invalid is ErrInvalid with a text that is written for whoever sent the
// input, and with nothing after it.
type invalid struct{ text string }

func (e *invalid) Error() string { return e.text }
func (e *invalid) Unwrap() error { return ErrInvalid }

// Invalid returns an ErrInvalid whose text says which part of the input cannot
// be understood, why, and what to write instead.
func Invalid(format string, a ...any) error { return &invalid{fmt.Sprintf(format, a...)} }
