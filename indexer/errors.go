package indexer

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kinds of error. They are wrapped, never returned bare; test with errors.Is.
var (
	// ErrNotFound: the named thing does not exist.
	ErrNotFound = errors.New("not found")
	// ErrInvalid: the input is malformed, and repeating the call does not help. The
	// text of such an error is written for the sender of the input.
	ErrInvalid = errors.New("invalid")
	// ErrConflict: the input is well-formed, but what is there does not allow it.
	ErrConflict = errors.New("conflict")
	// ErrForbidden: the one who asks may not do that.
	ErrForbidden = errors.New("forbidden")
	// ErrUnavailable: the registry or the database does not answer. The same call may
	// succeed later.
	ErrUnavailable = errors.New("unavailable")
	// ErrTooSlow: the call was cancelled because it took too long. It is ErrUnavailable
	// too, but a smaller request helps more than a retry.
	ErrTooSlow = fmt.Errorf("took too long: %w", ErrUnavailable)
)

// A Fault is an error with two texts. Reason is public: pages and the API show it, and the
// database stores it. It begins with "the " and quotes nothing from outside: no host, no
// address, no header and no body of an answer. Err is for the log.
type Fault struct {
	Reason string
	Err    error
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

// reasonStart begins every reason. Texts stored by versions without reasons begin
// differently: with a method, an address, a name or "not stored".
const reasonStart = "the "

// oldReason is shown instead of such a text, which may quote the address of a presigned
// request or the beginning of a body.
const oldReason = "the reason was stored by an older version of the indexer and is not shown: its log has it"

// Reason returns the public text of an error. For an error that is not a Fault, the
// text says only the kind.
func Reason(err error) string {
	var fault *Fault
	switch {
	case errors.As(err, &fault):
		return fault.Reason
	case errors.Is(err, ErrTooSlow), errors.Is(err, context.DeadlineExceeded):
		return "the indexer's database took too long"
	case errors.Is(err, ErrUnavailable): // errors of the registry are Faults
		return "the indexer's database did not answer"
	}
	return "the indexer had an internal error: see its log"
}

// StoredReason returns the text to show for a reason in the database; "" for "".
func StoredReason(text string) string {
	if text == "" || strings.HasPrefix(text, reasonStart) {
		return text
	}
	return oldReason
}
