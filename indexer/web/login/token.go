package login

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
)

// maxForm is the maximum size of a form with a request for a token: 64 KiB.
const maxForm = 64 << 10

// A tokenAnswer is the answer to a request for a token (distribution's "Token Authentication
// Specification" and "Token Authentication Implementation: OAuth2").
type tokenAnswer struct {
	Token        string    `json:"token"`
	AccessToken  string    `json:"access_token"` // the same
	ExpiresIn    int       `json:"expires_in"`   // seconds
	IssuedAt     time.Time `json:"issued_at"`
	RefreshToken string    `json:"refresh_token,omitempty"`
	Scope        string    `json:"scope,omitempty"`

	// Withheld is ours: what the client may do, but nobody may now. Clients ignore it.
	Withheld []withheld `json:"withheld,omitempty"`
}

// A withheld says why a token does not allow something that its client may do otherwise.
type withheld struct {
	Scope  string `json:"scope"`
	Reason string `json:"reason"`
}

// Token serves GET and POST /auth/token: a token by which the registry lets the client do what
// it asks for, as far as it may. GET has a name and a password or a token as Basic, or
// nothing; POST has them, or a token of an earlier answer, in a form. Only wrong credentials
// are an error: who may do less than it asks for gets a token for less.
func (l *Login) Token(w http.ResponseWriter, r *http.Request) error {
	form := r.URL.Query()
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			return answer.Refuse(http.StatusBadRequest,
				"the form cannot be read: it must be URL-encoded and have at most %d bytes", maxForm)
		}
		form = r.Form
	}
	s, lasting, err := l.who(r, form)
	if err != nil {
		return err
	}
	wanted := access.ParseScopes(form["scope"])
	if s, err = l.about(r, s, wanted); err != nil {
		return err
	}
	s = s.WithName(r.Context())
	now := time.Now()
	granted, kept, err := l.withhold(r, s, s.Grant(wanted))
	if err != nil {
		return err
	}
	token, err := l.Signer.ForRegistry(s.Actor(), granted, now)
	if err != nil {
		return err
	}
	return answer.WriteJSON(w, http.StatusOK, tokenAnswer{
		Token: token, AccessToken: token, RefreshToken: lasting,
		ExpiresIn: int(access.RegistryTokenLife / time.Second), IssuedAt: now.UTC().Truncate(time.Second),
		Scope: scopeOf(granted), Withheld: kept,
	})
}

// withhold returns the part of granted that the protections leave, and what they take. That is
// recorded, since the registry tells the client only that it is denied.
func (l *Login) withhold(r *http.Request, s access.Subject, granted []access.Access) (
	left []access.Access, kept []withheld, err error) {
	all, err := l.Keeper.Now(r.Context())
	if err != nil {
		return nil, nil, err
	}
	left = []access.Access{}
	for _, g := range granted {
		rest, taken, why := all.Leave(g)
		if len(rest.Actions) > 0 {
			left = append(left, rest)
		}
		if len(taken.Actions) == 0 {
			continue
		}
		kept = append(kept, withheld{taken.Scope(), why})
		l.Refusals.Add(access.Record{Event: access.PushRefuse, Actor: access.ActorOf(As(r, s)), Target: taken.Name,
			Repository: taken.Name, Request: indexer.RequestOf(r.Context()), Detail: why})
	}
	return left, kept, nil
}

// who returns the subject of a request for a token. If it asks to stay logged in, it also
// returns a token for that.
func (l *Login) who(r *http.Request, form url.Values) (s access.Subject, lasting string, err error) {
	c, basic := basicOf(r)
	switch {
	case basic:
	case hasCredentials(r):
		return s, "", denied
	case form.Get("grant_type") == "refresh_token":
		if l.Accounts == nil {
			return s, "", denied
		}
		s, err = l.Accounts.Refreshed(r.Context(), form.Get("refresh_token"))
		if err = refusal(err); err != nil {
			l.refused(r, access.Login, "", err)
		}
		l.used(s)
		return s, form.Get("refresh_token"), err
	case form.Get("grant_type") == "password":
		c = access.Credentials{Name: form.Get("username"), Secret: form.Get("password")}
	case r.Method == http.MethodPost:
		return s, "", answer.Refuse(http.StatusBadRequest, "grant_type is neither password nor refresh_token")
	default:
		if s, err = l.Verifier.Anonymous(r.Context()); errors.Is(err, access.ErrDenied) {
			return access.Subject{}, "", nil // a token that allows nothing: the client may log in
		}
		return s, "", err
	}
	if s, err = l.verify(r, c); err != nil {
		return s, "", err
	}
	if l.Accounts == nil {
		return s, "", nil
	}
	if form.Get("offline_token") == "true" || form.Get("access_type") == "offline" {
		lasting, err = l.Accounts.Lasting(s, c)
	}
	return s, lasting, err
}

// scopeOf returns granted rights in the form of scopes.
func scopeOf(granted []access.Access) string {
	return strings.Join(answer.Map(granted, access.Access.Scope), " ")
}

// Challenge returns the WWW-Authenticate field that sends a client here for a token, as the
// registry does.
func (l *Login) Challenge(r *http.Request, scope access.Access) string {
	return fmt.Sprintf("Bearer realm=%q,service=%q,scope=%q", l.origin(r)+"/auth/token", l.Signer.Service(), scope.Scope())
}

// origin returns the scheme and host under which clients reach us.
func (l *Login) origin(r *http.Request) string {
	if u, err := url.Parse(l.PublicURL); err == nil && u.Host != "" {
		return u.Scheme + "://" + u.Host
	}
	scheme := "http"
	if r.TLS != nil || answer.FromFront(r) && r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// podman is the beginning of the User-Agent of podman and its kin.
const podman = "containers/"

// Searches wraps f, which answers docker search. podman never logs in there (containers/image
// 5.23 to 5.42); refused, it lists the catalogue of the registry with its login, and looks for
// names that contain the word. So it finds what it may pull, and not only what is public.
func (l *Login) Searches(f answer.HandlerFunc) answer.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !hasCredentials(r) && strings.HasPrefix(r.UserAgent(), podman) {
			challenge := map[string]string{"WWW-Authenticate": l.Challenge(r, access.OfCatalogue)}
			return answer.RefuseWith(http.StatusUnauthorized, challenge, "log in: podman does so in the catalogue")
		}
		return f(w, r)
	}
}

// Catalogue returns what a request for the catalogue of a registry needs.
func Catalogue(*http.Request) access.Access { return access.OfCatalogue }

// Pull returns what a request about the repository {name} needs.
func Pull(r *http.Request) access.Access { return access.ToPull(r.PathValue("name")) }

// Requires wraps f for clients of the registry's API. They send a token for what needs
// returns, as to the registry, and are sent here for one if they have none: so they learn
// nothing of a repository that they may not pull, not even whether it exists.
func (l *Login) Requires(needs func(*http.Request) access.Access, f answer.HandlerFunc) answer.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		wanted := needs(r)
		challenge := map[string]string{"WWW-Authenticate": l.Challenge(r, wanted)}
		if !hasCredentials(r) {
			return answer.RefuseWith(http.StatusUnauthorized, challenge, "authentication required")
		}
		s, err := l.Subject(r)
		if err == nil {
			s, err = l.about(r, s, []access.Access{wanted})
		}
		switch {
		case refusal(err) == denied:
			challenge["WWW-Authenticate"] += `,error="invalid_token"`
			return answer.RefuseWith(http.StatusUnauthorized, challenge, "%s", access.ErrDenied)
		case err != nil:
			return err
		case len(s.Grant([]access.Access{wanted})) == 0:
			challenge["WWW-Authenticate"] += `,error="insufficient_scope"`
			return answer.RefuseWith(http.StatusUnauthorized, challenge, "requested access to the resource is denied")
		}
		return f(w, r)
	}
}
