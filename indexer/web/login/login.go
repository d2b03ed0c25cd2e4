// Package login finds out who sends a request, and gives clients the tokens by which the
// registry knows what they may do. It signs people in, in the browser, limits guesses and
// changes, and serves the audit log.
package login

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// A Config configures the logins.
type Config struct {
	// Verifier finds who clients are; nil: Accounts.
	Verifier access.Verifier
	// Accounts are those that people sign in to in the browser; nil: they cannot.
	Accounts *access.Accounts
	// Sessions are those of the people who are signed in; nil: Accounts.SignedSessions.
	Sessions access.Sessions
	// Signer signs tokens for the registry; nil: the registry decides itself who may use it.
	Signer *access.Signer
	// PublicURL is where clients reach the registry: an absolute URL, or "/" for the host
	// of the request.
	PublicURL string
	// ToRead says that clients have to log in to read the book, even what everybody may see.
	ToRead bool
	// Changer changes accounts; nil on a reader, which cannot.
	Changer Changer
	// Audit has what was recorded; nil without Accounts.
	Audit Records
	// Refusals records refused logins; nil on a reader, which cannot.
	Refusals *Refusals
	// Uses remembers when tokens were used; nil on a reader, which cannot store it.
	Uses *access.Uses
	// Version is that of the program, for exports of records.
	Version string
	// Providers are the identity providers at which people can sign in.
	Providers []Provider
	// UseRate counts what a rate limits for a key, for all processes; nil on a reader, where
	// nothing can be changed.
	UseRate func(ctx context.Context, key string, r access.Rate) (full time.Duration, allowed bool, err error)
	// Keeper has the protections: nobody gets the right to push to a frozen repository. nil:
	// there are none.
	Keeper *access.Keeper
	// Plans has rules of retention and plans; nil on a reader, which cannot change them.
	Plans Plans
	// Operations changes what the registry stores; nil on a reader, which cannot.
	Operations Operations
	// Log receives messages for the operator; nil: none.
	Log *slog.Logger
}

// A Login finds out who sends requests. It is safe for concurrent use.
type Login struct {
	Config
	guesses *guesses
	exports *answer.Places // limits how many exports of records are written
	asking  *answer.Places // limits how many requests ask an identity provider at once
	turns   *answer.Turns  // of those who manage accounts

	planTurns      *answer.Turns // of those who manage rules of retention and plans
	operatingTurns *answer.Turns // of those who change what the registry stores
}

// New returns the Login configured by c.
func New(c Config) *Login {
	if c.Verifier == nil {
		c.Verifier = c.Accounts
	}
	if c.Sessions == nil && c.Accounts != nil {
		c.Sessions = c.Accounts.SignedSessions(c.Changer)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Login{
		Config: c, guesses: &guesses{seed: maphash.MakeSeed(), useRate: c.UseRate},
		exports: answer.NewPlaces(maxExports, maxExportsEach),
		asking:  answer.NewPlaces(maxAsking, maxAskingEach), turns: answer.TurnsOf(maxManaging, maxManagingEach),
		planTurns:      answer.TurnsOf(maxPlanning, maxPlanningEach),
		operatingTurns: answer.TurnsOf(maxOperating, maxOperatingEach),
	}
}

// Asker returns the asker of a request, who reads the book.
func (l *Login) Asker(r *http.Request) (indexer.Asker, error) {
	s, err := l.Subject(r)
	if err == nil && (s.OnlyWrites || s.Name == "" && l.ToRead) {
		err = denied
	}
	if err == nil {
		s, err = l.asked(r, s, s.AboutAll)
	}
	return s.Asker(), err
}

// Subject returns who sends a request: nobody in particular if it has no credentials. Wrong
// credentials are refused, even if everybody may do what is asked for: a client that is not
// let in should hear of it.
//
// A request has a name and a password, or a token instead of the password (Basic); a token, or
// one that we signed for the registry (Bearer, or no scheme); or a session (in a cookie). With a
// token for the registry a client is limited to what that token is for. A session that has
// ended is no reason to refuse: the browser sends it with every request.
func (l *Login) Subject(r *http.Request) (access.Subject, error) {
	if c, basic := basicOf(r); basic {
		return l.verify(r, c)
	}
	if !hasCredentials(r) {
		return l.fromBrowser(r)
	}
	token, ok := access.BareToken(r.Header.Get("Authorization"))
	if !ok {
		return access.Subject{}, denied
	}
	if l.Signer != nil {
		if actor, allowed, err := l.Signer.Registry(token, time.Now()); refusal(err) != denied {
			return l.named(r, actor, allowed, err)
		}
	}
	if l.Accounts != nil && !access.LooksLikeToken(token) {
		return access.Subject{}, denied
	}
	return l.verify(r, access.Credentials{Secret: token, Field: r.Header.Get("Authorization")})
}

// named returns the subject of a token for the registry, limited to what that allows.
func (l *Login) named(r *http.Request, actor string, allowed []access.Access, err error) (access.Subject, error) {
	if err != nil {
		return access.Subject{}, err
	}
	s, err := l.Verifier.Named(r.Context(), actor)
	l.used(s)
	return s.Narrow(allowed), refusal(err)
}

// fromBrowser returns the subject of a request without credentials: that of its session, or
// nobody in particular.
func (l *Login) fromBrowser(r *http.Request) (access.Subject, error) {
	s, err := l.Person(r)
	if err != nil || s.Name != "" {
		return s, err
	}
	s, err = l.Verifier.Anonymous(r.Context())
	return s, refusal(err)
}

// noCredentials is what docker 20.10 to 28.5 sends to /v1/search over TLS if it is not logged
// in: an empty name and an empty password.
const noCredentials = "Basic Og=="

// hasCredentials reports whether a request says who sends it.
func hasCredentials(r *http.Request) bool {
	field := r.Header.Get("Authorization")
	return field != "" && field != noCredentials
}

// basicOf returns the name and the password, or token, of a request.
func basicOf(r *http.Request) (c access.Credentials, basic bool) {
	if !hasCredentials(r) {
		return c, false
	}
	c.Name, c.Secret, basic = r.BasicAuth()
	c.Field = r.Header.Get("Authorization")
	return c, basic
}

// verify returns the subject of credentials, and records it if they are refused.
func (l *Login) verify(r *http.Request, c access.Credentials) (access.Subject, error) {
	s, err := l.check(r, c)
	if err != nil {
		l.refused(r, access.Login, c.Name, err)
	}
	l.used(s)
	return s, err
}

// used remembers that the token of a subject was used.
func (l *Login) used(s access.Subject) { l.Uses.Note(s.Token, time.Now()) }

// check returns the subject of credentials, unless there were too many wrong passwords
// before.
func (l *Login) check(r *http.Request, c access.Credentials) (access.Subject, error) {
	verify := func(ctx context.Context) (access.Subject, error) { return l.Verifier.Verify(ctx, c) }
	if _, asks := l.Verifier.(*access.GitHub); asks {
		return l.askService(r, verify)
	}
	// Nobody can guess a personal token. For tokens of the configuration there is no limit: those
	// who share one, or an address, would lock each other out.
	if l.Accounts == nil || access.LooksLikeToken(c.Secret) {
		s, err := verify(r.Context())
		return s, refusal(err)
	}
	if access.LooksLikeJWT(c.Secret) {
		return l.verifyJWT(r, c)
	}
	client := answer.ClientOf(r)
	if wait := l.guesses.wait(client, c.Name); wait > 0 {
		return access.Subject{}, tooMany("passwords", wait)
	}
	s, err := verify(r.Context())
	if errors.Is(err, access.ErrDenied) {
		l.guesses.wrong(r.Context(), client, c.Name)
	}
	return s, refusal(err)
}

// denied is the answer to wrong credentials.
var denied = answer.RefuseWith(http.StatusUnauthorized,
	map[string]string{"WWW-Authenticate": `Basic realm="Portbook", charset="UTF-8"`}, "%s", access.ErrDenied)

// refusal returns the answer for an error of package access.
func refusal(err error) error {
	switch {
	case errors.Is(err, access.ErrDenied):
		return denied
	case errors.Is(err, access.ErrUnsure):
		return unsure
	case errors.Is(err, access.ErrTooManyNamespaces):
		return answer.Refuse(http.StatusForbidden, "%s", access.ErrTooManyNamespaces)
	case errors.Is(err, access.ErrTooManySeen):
		return answer.Refuse(http.StatusForbidden, "%s", access.ErrTooManySeen)
	}
	return err
}
