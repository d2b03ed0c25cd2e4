package login

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// A Changer changes what a person may change of its own account, and what those who manage
// accounts and grants may change.
type Changer interface {
	access.Directory
	access.SessionStore
	access.Guardian
	Yank(context.Context, indexer.Yank) error
	Unyank(context.Context, indexer.Yank) error
	Tokens(ctx context.Context, account string) ([]access.PersonalToken, error)
	AddToken(ctx context.Context, t access.PersonalToken, hash []byte) error
	DeleteToken(ctx context.Context, id string) error
	Record(context.Context, access.Record) error
	SignIn(context.Context, access.Identity) (access.Account, error)
	Collections
}

// Collections is the garbage collection of blobs. Changes are recorded with the actor of their
// context, and made only if its Permit allows it.
type Collections interface {
	Collection(context.Context) (indexer.Collection, error)
	// Candidates returns the blobs of a state, "" for any, in order of digest, after one.
	Candidates(
		ctx context.Context, state indexer.CandidateState, after digest.Digest, limit int,
	) ([]indexer.Candidate, error)
	// FailedCandidates returns those whose last order failed, those that are stuck first.
	FailedCandidates(ctx context.Context, limit int) ([]indexer.Candidate, error)
	PauseCollection(ctx context.Context, pause bool) error
	RetryCollection(context.Context) (int64, error)
}

// sessionIn returns the text of the cookie of the session in a request, or "".
func sessionIn(r *http.Request) string {
	if c, err := r.Cookie(answer.SessionCookie); err == nil {
		return c.Value
	}
	return ""
}

// SignIn checks a name and a password, and begins a session, which it sets as a cookie. A
// personal token is not enough: a session may make tokens.
func (l *Login) SignIn(w http.ResponseWriter, r *http.Request, name, password string) error {
	if access.LooksLikeToken(password) || access.LooksLikeJWT(password) {
		return answer.Refuse(http.StatusUnauthorized, "that is a token, which is for programs: type your password")
	}
	s, err := l.check(r, access.Credentials{Name: name, Secret: password})
	if err != nil {
		l.refused(r, access.SessionBegin, name, err)
		return err
	}
	// Recorded is only what has been done; a session whose cookie nobody gets is nobody's.
	cookie, expires, err := l.Sessions.Begin(r.Context(), s.Name, s.ValidFrom)
	if err != nil {
		return err
	}
	if err := l.recordSignIn(r, s.Name, ""); err != nil {
		return err
	}
	l.setCookie(w, r, cookie, expires)
	return nil
}

// recordSignIn records that the owner of an account has signed in. Only a writer can.
func (l *Login) recordSignIn(r *http.Request, account, detail string) error {
	if l.Changer == nil {
		return nil
	}
	ctx := As(r, access.Subject{Name: account})
	return l.Changer.Record(ctx, access.Record{Event: access.SessionBegin, Target: account, Detail: detail})
}

// maxTyped is the maximum length of a name that somebody typed: 64 characters.
const maxTyped = 64

// SignOut ends the session of a request, in all browsers that have it.
func (l *Login) SignOut(w http.ResponseWriter, r *http.Request) error {
	session, err := l.Sessions.Find(r.Context(), sessionIn(r))
	if err == nil {
		err = l.Sessions.End(As(r, access.Subject{Name: session.Actor}), session)
	}
	if err != nil && refusal(err) != denied {
		return err
	}
	l.setCookie(w, r, "", time.Unix(1, 0))
	return nil
}

// setCookie sets the cookie of a session. The browser sends it to us only, not to a script,
// and not with a request that another site makes it send, except to follow a link.
func (l *Login) setCookie(w http.ResponseWriter, r *http.Request, token string, expires time.Time) {
	http.SetCookie(w, &http.Cookie{
		Name: answer.SessionCookie, Value: token, Path: "/", Expires: expires, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: l.secure(r),
	})
}

// secure reports whether browsers reach us by https.
func (l *Login) secure(r *http.Request) bool { return strings.HasPrefix(l.origin(r), "https:") }

// Person returns the subject of the session of a request; the zero Subject if it has none.
func (l *Login) Person(r *http.Request) (access.Subject, error) {
	cookie := sessionIn(r)
	if cookie == "" || l.Accounts == nil {
		return access.Subject{}, nil
	}
	session, err := l.Sessions.Find(r.Context(), cookie)
	var s access.Subject
	if err == nil {
		s, err = l.Accounts.InSession(r.Context(), session)
	}
	if refusal(err) == denied {
		return access.Subject{}, nil
	}
	return s, err
}
