package login

import (
	"context"
	"errors"
	"net/http"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// Requests that read or change accounts use connections that the writer needs for events, of
// which it has some ten: 4 of them at once, 2 for one client; others wait for their turn.
const (
	maxManaging     = 4
	maxManagingEach = 2
)

// ErrOnlyReads is the answer of a reader to a request that only a writer can answer.
var ErrOnlyReads = answer.Refuse(http.StatusServiceUnavailable,
	"this indexer only reads: the front must send requests that manage something to the writer")

// Known returns the subject of a request that must say who sends it.
func (l *Login) Known(r *http.Request) (access.Subject, error) {
	s, err := l.Subject(r)
	if err == nil && s.Name == "" {
		err = denied
	}
	return s, err
}

// Managing runs f, which reads or changes accounts, when its turn comes, for at most answer.Budget.
// A reader refuses.
func (l *Login) Managing(r *http.Request, f func(context.Context) error) error {
	if l.Changer == nil {
		return ErrOnlyReads
	}
	ctx, cancel := context.WithTimeout(r.Context(), answer.Budget)
	defer cancel()
	done, err := l.turns.Take(ctx, "accounts", answer.ClientOf(r))
	if err != nil {
		return err
	}
	defer done()
	return f(ctx)
}

// Changing returns the context for a change that a subject makes by a request, if permit
// lets it. The store asks permit again in the transaction of the change.
func (l *Login) Changing(r *http.Request, s access.Subject, permit access.Permit) (context.Context, error) {
	if err := permit(s); err != nil {
		return nil, err
	}
	return access.WithPermit(As(r, s), permit), nil
}

// CheckPassword returns a refusal unless a password is that of the account of a subject.
// Guesses are limited as those of a login.
func (l *Login) CheckPassword(r *http.Request, s access.Subject, password string) error {
	_, err := l.verify(r, access.Credentials{Name: s.Name, Secret: password})
	if errors.Is(err, denied) || access.LooksLikeToken(password) {
		return answer.Refuse(http.StatusForbidden, "the current password is wrong")
	}
	return err
}

// Renew begins a new session for the person in a session, who has changed the password: that
// ended all sessions of before.
func (l *Login) Renew(w http.ResponseWriter, r *http.Request, s access.Subject) error {
	account, _, err := l.Changer.Account(r.Context(), s.Name)
	if err != nil {
		return err
	}
	cookie, expires, err := l.Sessions.Begin(r.Context(), account.Name, account.ValidFrom)
	if err == nil {
		l.setCookie(w, r, cookie, expires)
	}
	return err
}
