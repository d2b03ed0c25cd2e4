package login

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// about returns a subject with its rules for what it wants.
func (l *Login) about(r *http.Request, s access.Subject, wanted []access.Access) (access.Subject, error) {
	return l.asked(r, s, func(ctx context.Context) (access.Subject, error) { return s.About(ctx, wanted) })
}

// asked returns what ask says of a subject, which may take calls of another service. That may
// refuse the credentials only now, so this is recorded here.
func (l *Login) asked(
	r *http.Request, s access.Subject, ask func(context.Context) (access.Subject, error),
) (access.Subject, error) {
	if s.Asks == nil {
		return s, nil
	}
	s, err := l.askService(r, ask)
	if err != nil {
		l.refused(r, access.Login, typedName(r), err)
	}
	return s, err
}

// typedName returns the name that a client sends, by Basic or in a form that was read.
func typedName(r *http.Request) string {
	c, _ := basicOf(r)
	return cmp.Or(c.Name, r.PostForm.Get("username"))
}

// askService returns what ask, which calls another service, says of a client. From one address
// it is called only so often with wrong credentials, so that they do not flood that service.
func (l *Login) askService(
	r *http.Request, ask func(context.Context) (access.Subject, error),
) (access.Subject, error) {
	counter := l.guesses.from(answer.ClientOf(r))
	if wait := counter.wait(guessesFrom, time.Now()); wait > 0 {
		return access.Subject{}, tooMany("logins", wait)
	}
	s, err := ask(r.Context())
	if errors.Is(err, access.ErrDenied) {
		counter.add(guessesFrom)
	}
	return s, refusal(err)
}

// unsure is the answer if the API does not say whether the credentials are right: 401 too, as
// clients of the registry of Deploys.app expect.
var unsure = answer.RefuseWith(http.StatusUnauthorized,
	map[string]string{"WWW-Authenticate": `Basic realm="Portbook", charset="UTF-8"`}, "%s", access.ErrUnsure)
