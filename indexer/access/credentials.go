package access

import "errors"

// ErrDenied says that a name and a secret are not those of an account. It never says which
// of them is wrong.
var ErrDenied = errors.New("the name, the password or the token is wrong")

// Credentials are how a client says who it is.
type Credentials struct {
	Name   string // may be empty if the secret is a token
	Secret string // a password or a token
}
