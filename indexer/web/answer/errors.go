package answer

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// ErrNothingHere is the answer for an unknown address.
var ErrNothingHere = Refuse(http.StatusNotFound, "there is no such page")

// Invalid returns an error that tells the client which part of its request is
// invalid, and why.
func Invalid(part, format string, a ...any) error {
	return indexer.Invalid("%s %s", part, fmt.Sprintf(format, a...))
}

// ErrorText returns the text of err for people. It removes the kind of error that
// fmt.Errorf added at the end, because the status code already says it.
func ErrorText(err error) string {
	text := strings.TrimSuffix(err.Error(), ": "+indexer.ErrInvalid.Error())
	if what, absent := strings.CutSuffix(text, ": "+indexer.ErrNotFound.Error()); absent {
		return what + " is not in the book"
	}
	return text
}

// A Refusal is an error with its own status code. Its text is sent to the client.
type Refusal struct {
	code   int
	text   string
	header map[string]string // fields of the answer
}

func (r *Refusal) Error() string { return r.text }

// RefusedWith returns the status code of an error that the client can act on: of a Refusal, or
// of an ErrInvalid, ErrForbidden or ErrConflict.
func RefusedWith(err error) (code int, refused bool) {
	var r *Refusal
	switch {
	case errors.As(err, &r):
		return r.code, true
	case errors.Is(err, indexer.ErrInvalid):
		return http.StatusBadRequest, true
	case errors.Is(err, indexer.ErrForbidden):
		return http.StatusForbidden, true
	case errors.Is(err, indexer.ErrConflict):
		return http.StatusConflict, true
	}
	return 0, false
}

// Refuse returns a Refusal.
func Refuse(code int, format string, a ...any) error {
	return &Refusal{code: code, text: fmt.Sprintf(format, a...)}
}

// RefuseWith returns a Refusal with fields for the header of the answer.
func RefuseWith(code int, header map[string]string, format string, a ...any) error {
	return &Refusal{code, fmt.Sprintf(format, a...), header}
}
