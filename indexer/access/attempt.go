package access

import (
	"crypto/rand"
	"crypto/subtle"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
)

// An Attempt is a sign-in at an identity provider that has begun in one browser, which keeps
// it while the person is at the provider.
type Attempt struct {
	Provider string `json:"provider"` // the id of the provider
	State    string `json:"state"`    // the provider repeats it to the browser
	Nonce    string `json:"nonce"`    // the provider repeats it in the token about the person
	Verifier string `json:"verifier"` // proves that who has the code has begun the attempt (RFC 7636)
	Next     string `json:"next"`     // where to go afterwards
}

// AttemptLife is how long an attempt may take: 10 min, for a person who has to find a second
// factor.
const AttemptLife = 10 * time.Minute

const attemptAudience = "portbook attempt"

// NewAttempt returns an attempt with random secrets of 256 bits and more.
func NewAttempt(provider, next string) Attempt {
	random := func() string { return rand.Text() + rand.Text() } // 260 bits in 52 characters, as RFC 7636 wants 43
	return Attempt{Provider: provider, State: random(), Nonce: random(), Verifier: random(), Next: next}
}

// Matches reports whether a provider has sent the browser back with the state of a.
func (a Attempt) Matches(provider, state string) bool {
	return a.State != "" && a.Provider == provider && subtle.ConstantTimeCompare([]byte(a.State), []byte(state)) == 1
}

type attemptClaims struct {
	jwt.Claims
	Attempt
}

// ForAttempt returns a token that is an attempt, for AttemptLife from now.
func (s *Signer) ForAttempt(a Attempt, now time.Time) (string, error) {
	return s.sign(attemptClaims{s.claims("", attemptAudience, now, AttemptLife), a}, now)
}

// Attempt returns the attempt of a token of ForAttempt, or ErrDenied.
func (s *Signer) Attempt(token string, now time.Time) (Attempt, error) {
	var c attemptClaims
	if err := s.verify(token, attemptAudience, now, &c.Claims, &c); err != nil {
		return Attempt{}, err
	}
	return c.Attempt, nil
}
