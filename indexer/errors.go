package indexer

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

// A Fault is an error with two texts. Reason is for everybody: pages, the API,
// and what is stored for them. It begins with "the ", says who did what, and
// holds nothing that somebody outside wrote: no host, no address, no header and
// no body of an answer. Err is for the log.
type Fault struct {
	Reason string
	Err    error
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

// reasonStart is how every reason begins. What programs stored before there were
// reasons began otherwise: with a method, an address, a name, "not stored".
const reasonStart = "the "

// oldReason stands for what such a program stored, which may hold the address of
// a presigned request or the beginning of a body.
const oldReason = "the reason was stored by an older version of the indexer and is not shown: its log has it"

// Reason says for everybody why something failed. Of an error that is no Fault
// nothing is told but what kind it is.
func Reason(err error) string {
	var fault *Fault
	switch {
	case errors.As(err, &fault):
		return fault.Reason
	case errors.Is(err, ErrTooSlow), errors.Is(err, context.DeadlineExceeded):
		return "the indexer's database took too long"
	case errors.Is(err, ErrUnavailable): // whoever asks the registry gives a Fault
		return "the indexer's database did not answer"
	}
	return "the indexer could not do it: its log says why"
}

// StoredReason gives a reason as it may be shown, of what the database holds; ""
// for "".
func StoredReason(text string) string {
	if text == "" || strings.HasPrefix(text, reasonStart) {
		return text
	}
	return oldReason
}
