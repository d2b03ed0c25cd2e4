package answer

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// ErrNothingHere is the answer of an address that is none of ours.
var ErrNothingHere = Refuse(http.StatusNotFound, "there is no such page")

// Invalid is an error that tells the client which part of its request cannot
// be understood, and why.
func Invalid(part, format string, a ...any) error {
	return indexer.Invalid("%s %s", part, fmt.Sprintf(format, a...))
}

// Told returns the text of an error for people: the kind that fmt.Errorf left at
// its end is said by the status code, and in words.
func Told(err error) string {
	text := strings.TrimSuffix(err.Error(), ": "+indexer.ErrInvalid.Error())
	if what, absent := strings.CutSuffix(text, ": "+indexer.ErrNotFound.Error()); absent {
		return what + " is not in the book"
	}
	return text
}

// A Refusal is an error with a status code of its own. Its text is written for
// the client.
type Refusal struct {
	code int
	text string
}

func (r *Refusal) Error() string { return r.text }

// Refuse returns a Refusal.
func Refuse(code int, format string, a ...any) error {
	return &Refusal{code, fmt.Sprintf(format, a...)}
}
