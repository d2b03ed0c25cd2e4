package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"strings"
)

// Tokens verifies tokens of the configuration: who has one may do something with every
// repository. It is safe for concurrent use.
type Tokens struct {
	// Both, Read and Write are tokens to do everything, to pull, and to push and delete; "":
	// there is none.
	Both, Read, Write string
	// Open says that clients without a token may pull.
	Open bool
}

// sharedToken is the name of who has a token of the configuration.
const sharedToken = "token"

// everything is what the holder of a token for everything may do.
var everything = Rules{{Every, Push | Delete}}

// Verify returns the subject of a token, which is the secret; the name may be anything.
func (t Tokens) Verify(_ context.Context, c Credentials) (Subject, error) {
	isBoth, isRead, isWrite := same(t.Both, c.Secret), same(t.Read, c.Secret), same(t.Write, c.Secret)
	switch {
	case isBoth, isRead && isWrite:
		return Subject{Name: sharedToken, Rules: everything}, nil
	case isRead:
		return Subject{Name: sharedToken, Rules: Rules{{Every, Pull}}}, nil
	case isWrite:
		return Subject{Name: sharedToken, Rules: everything, OnlyWrites: true}, nil
	}
	return Subject{}, ErrDenied
}

// same reports whether a token is the wanted one, in a time that does not depend on it.
func same(want, got string) bool {
	w, g := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(got))
	return subtle.ConstantTimeCompare(w[:], g[:]) == 1 && want != ""
}

// Anonymous returns the subject of a client without a token, or ErrDenied.
func (t Tokens) Anonymous(context.Context) (Subject, error) { return anonymous(t.Open) }

func anonymous(open bool) (Subject, error) {
	if !open {
		return Subject{}, ErrDenied
	}
	return Subject{Rules: Rules{{Every, Pull}}}, nil
}

// Named returns the subject whose Actor is a name. A token for the registry limits it to what
// the client was allowed when it was signed.
func (t Tokens) Named(_ context.Context, actor string) (Subject, error) {
	if actor == "" {
		return anonymous(t.Open)
	}
	return Subject{Name: actor, Rules: everything}, nil
}

// BareToken returns the token in an Authorization field that has no other scheme than Bearer,
// in any letter case, or none at all.
func BareToken(field string) (token string, ok bool) {
	scheme, token, found := strings.Cut(field, " ")
	if !found {
		return field, field != ""
	}
	return token, strings.EqualFold(scheme, "Bearer")
}
