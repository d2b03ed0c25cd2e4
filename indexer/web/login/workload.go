package login

import (
	"errors"
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// workloadsFrom limits wrong tokens of workloads from one address. They are no guesses, because
// nobody can guess a signature, but each costs some 0.2 ms to refuse, mostly for the signature.
// So many are allowed, since the jobs of a company may share an address.
var workloadsFrom = access.Rate{AtOnce: 1000, Pause: 100 * time.Millisecond}

// verifyJWT returns the subject of credentials with the token of a workload. Wrong ones are not
// counted as wrong passwords.
func (l *Login) verifyJWT(r *http.Request, c access.Credentials) (access.Subject, error) {
	counter := l.guesses.of("workloads from " + answer.ClientOf(r).String())
	if wait := counter.wait(workloadsFrom, time.Now()); wait > 0 {
		return access.Subject{}, tooMany("tokens", wait)
	}
	s, err := l.Verifier.Verify(r.Context(), c)
	if errors.Is(err, access.ErrDenied) {
		counter.add(workloadsFrom)
	}
	return s, refusal(err)
}
