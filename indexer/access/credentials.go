package access

import (
	"context"
	"errors"
)

// ErrDenied says that a name and a secret are not those of an account. It never says which
// of them is wrong.
var ErrDenied = errors.New("the name, the password or the token is wrong")

// Credentials are how a client says who it is.
type Credentials struct {
	Name   string // may be empty if the secret is a token
	Secret string // a password or a token
	Field  string // the field Authorization that has them; "": they came in another way
}

// A Verifier finds subjects. It is safe for concurrent use. It returns ErrDenied for wrong
// credentials, and indexer.ErrUnavailable if it cannot tell now.
type Verifier interface {
	// Verify returns the subject of credentials.
	Verify(context.Context, Credentials) (Subject, error)
	// Anonymous returns the subject of a client without credentials, or ErrDenied.
	Anonymous(context.Context) (Subject, error)
	// Named returns the subject whose Actor is a name, for a token that we have signed.
	Named(ctx context.Context, actor string) (Subject, error)
}
