package web

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// errNothingHere is the answer of an address that is none of ours.
var errNothingHere = refuse(http.StatusNotFound, "there is no such page")

// invalid is an error that tells the client which part of its request cannot
// be understood, and why.
func invalid(part, format string, a ...any) error {
	return indexer.Invalid("%s %s", part, fmt.Sprintf(format, a...))
}

// told returns the text of an error for people: the kind that fmt.Errorf left at
// its end is said by the status code, and in words.
func told(err error) string {
	text := strings.TrimSuffix(err.Error(), ": "+indexer.ErrInvalid.Error())
	if what, absent := strings.CutSuffix(text, ": "+indexer.ErrNotFound.Error()); absent {
		return what + " is not in the book"
	}
	return text
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
