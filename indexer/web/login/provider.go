package login

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// A Provider is an identity provider, which proves who a person is. Errors have a reason for
// the person; they are indexer.ErrInvalid if the person is refused.
type Provider interface {
	// ID returns the name of the provider in addresses, and Title what people call it.
	ID() string
	Title() string
	// Issuer returns the name that it may have in its answers; "": any.
	Issuer() string
	// Address returns where the browser goes for an attempt to sign in.
	Address(context.Context, access.Attempt) (string, error)
	// Identity returns who has come back with a code.
	Identity(ctx context.Context, code string, a access.Attempt) (access.Identity, error)
}

const (
	// maxAsking is how many requests ask a provider at once: 16, of which each has two or three
	// answers of at most 1 MiB in memory; and maxAskingEach how many of one client: 4.
	maxAsking     = 16
	maxAskingEach = 4
	// completeTime limits a sign-in after the person has come back: 15 s, of which the provider
	// has 10.
	completeTime = 15 * time.Second
	// maxAttempt is the longest text of an attempt: 3.5 KiB, because browsers keep cookies of up
	// to 4 KiB (RFC 6265, section 6.1). Of that, 1 KiB is not the path to go to.
	maxAttempt = 3584
)

// errBusy is the error if too many requests ask a provider.
var errBusy = answer.RefuseWith(http.StatusServiceUnavailable, map[string]string{"Retry-After": "1"},
	"too many people sign in at once: try again")

// provider returns the provider that a request is about.
func (l *Login) provider(r *http.Request) (Provider, error) {
	i := slices.IndexFunc(l.Providers, func(p Provider) bool { return p.ID() == r.PathValue("provider") })
	if i < 0 {
		return nil, answer.ErrNothingHere
	}
	return l.Providers[i], nil
}

// Begin begins a sign-in at a provider, and returns the address to which the browser goes for
// it. A cookie binds the attempt to this browser: without that, somebody could let another
// person complete it, who would then work in the account of the first.
func (l *Login) Begin(w http.ResponseWriter, r *http.Request, next string) (string, error) {
	p, err := l.provider(r)
	if err != nil {
		return "", err
	}
	leave, ok := l.asking.Take(r)
	if !ok {
		return "", errBusy
	}
	defer leave()
	a := access.NewAttempt(p.ID(), next)
	token, err := l.Signer.ForAttempt(a, time.Now())
	if err == nil && len(token) > maxAttempt {
		a.Next = "/"
		token, err = l.Signer.ForAttempt(a, time.Now())
	}
	if err != nil {
		return "", err
	}
	address, err := p.Address(r.Context(), a)
	if err != nil {
		return "", l.failed(r.Context(), p, err)
	}
	l.setAttempt(w, r, token, int(access.AttemptLife/time.Second))
	return address, nil
}

// attemptCookie returns the name of the cookie with an attempt. Over https its prefix says
// that we have set it, and no other host of our domain (RFC 6265bis, section 4.1.3.2).
func (l *Login) attemptCookie(r *http.Request) string {
	if l.secure(r) {
		return "__Host-portbook_attempt"
	}
	return "portbook_attempt"
}

// setAttempt sets the cookie with an attempt, which a negative age removes. The browser must
// send it when the provider sends the person back, so it cannot be Strict.
func (l *Login) setAttempt(w http.ResponseWriter, r *http.Request, token string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: l.attemptCookie(r), Value: token, Path: "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: l.secure(r),
	})
}

// errNoAttempt is the answer to a browser that comes back without having been sent.
var errNoAttempt = answer.Refuse(http.StatusForbidden,
	"this browser has not begun this sign-in, or it took longer than 10 minutes: sign in again")

// attempt returns the attempt of this browser that a provider has sent back, and ends it.
func (l *Login) attempt(w http.ResponseWriter, r *http.Request, p Provider) (access.Attempt, error) {
	cookie, err := r.Cookie(l.attemptCookie(r))
	if err != nil {
		return access.Attempt{}, errNoAttempt
	}
	a, err := l.Signer.Attempt(cookie.Value, time.Now())
	if errors.Is(err, access.ErrDenied) || err == nil && !a.Matches(p.ID(), r.URL.Query().Get("state")) {
		return access.Attempt{}, errNoAttempt
	}
	if err != nil {
		return access.Attempt{}, err
	}
	l.setAttempt(w, r, "", -1)
	return a, nil
}

// Complete completes a sign-in: it begins a session of the person who comes back from a
// provider. It returns the path to go to, also with an error if that is known.
func (l *Login) Complete(w http.ResponseWriter, r *http.Request) (next string, err error) {
	p, err := l.provider(r)
	if err != nil {
		return "", err
	}
	a, err := l.attempt(w, r, p)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(As(r, access.Subject{}), completeTime)
	defer cancel()
	r = r.WithContext(ctx)
	i, err := l.identity(r, p, a)
	if err != nil {
		return a.Next, err
	}
	account, err := l.Changer.SignIn(ctx, i)
	if errors.Is(err, indexer.ErrInvalid) {
		l.refusedBy(r, p, i.Name)
		return a.Next, answer.Refuse(http.StatusForbidden, "%s", answer.ErrorText(err))
	}
	if err != nil {
		return a.Next, err
	}
	cookie, expires, err := l.Sessions.Begin(ctx, account.Name, account.ValidFrom)
	if err != nil {
		return a.Next, err
	}
	if err := l.recordSignIn(r, account.Name, "by "+p.Title()); err != nil {
		return a.Next, err
	}
	l.setCookie(w, r, cookie, expires)
	return a.Next, nil
}

// codeOf returns the code with which a person has come back, unless the provider refused it.
func (l *Login) codeOf(r *http.Request, p Provider) (string, error) {
	q := r.URL.Query()
	if iss := q.Get("iss"); iss != "" && p.Issuer() != "" && iss != p.Issuer() { // RFC 9207
		return "", answer.Refuse(http.StatusForbidden, "another provider than %s has sent this answer: sign in again",
			p.Title())
	}
	if code := q.Get("code"); code != "" && q.Get("error") == "" {
		return code, nil
	}
	said := saidOf(q.Get("error"), q.Get("error_description"))
	l.Log.InfoContext(r.Context(), "sign-in refused by its provider", "provider", p.ID(), "said", said)
	l.refusedBy(r, p, "")
	return "", answer.Refuse(http.StatusForbidden, "%s did not let you in: %s", p.Title(), said)
}

// identity returns who has come back to complete an attempt.
func (l *Login) identity(r *http.Request, p Provider, a access.Attempt) (i access.Identity, err error) {
	if wait := l.guesses.wait(answer.ClientOf(r), guessAt(p)); wait > 0 {
		return i, tooMany("sign-ins", wait)
	}
	code, err := l.codeOf(r, p)
	if err != nil {
		return i, err
	}
	leave, ok := l.asking.Take(r)
	if !ok {
		return i, errBusy
	}
	defer leave()
	if i, err = p.Identity(r.Context(), code, a); err == nil {
		return i, nil
	}
	if errors.Is(err, indexer.ErrInvalid) {
		l.refusedBy(r, p, "")
	}
	return i, l.failed(r.Context(), p, err)
}

// maxSaid is how much of a provider's explanation is shown: 200 characters.
const maxSaid = 200

// saidOf returns what a provider said of an error.
func saidOf(code, description string) string {
	text := answer.Cut(strings.TrimSpace(code), maxTyped)
	if description = strings.TrimSpace(description); description != "" {
		text += ": " + answer.Cut(description, maxSaid)
	}
	if text == "" {
		return "it gave no reason"
	}
	return text
}

// guessAt is what a refusal by a provider counts for, as a wrong password counts for a name:
// each one costs a request to the provider.
func guessAt(p Provider) string { return "sign-in by " + p.ID() }

// refusedBy counts and records that somebody was refused at a provider. The name is what the
// provider calls the person; "" if that is not known.
func (l *Login) refusedBy(r *http.Request, p Provider, name string) {
	l.guesses.wrong(r.Context(), answer.ClientOf(r), guessAt(p))
	record := refusalOf(r, access.SessionBegin, name)
	record.Detail = "by " + p.Title()
	l.Refusals.Add(record)
}

// failed logs an error of a provider, and returns the answer for it.
func (l *Login) failed(ctx context.Context, p Provider, err error) error {
	var fault *indexer.Fault
	if !errors.As(err, &fault) {
		return err
	}
	l.Log.WarnContext(ctx, "sign-in failed at its provider", "provider", p.ID(), "error", err)
	if errors.Is(err, indexer.ErrInvalid) {
		return answer.Refuse(http.StatusForbidden, "%s", fault.Reason)
	}
	return answer.Refuse(http.StatusServiceUnavailable, "%s", fault.Reason)
}
