package access

import (
	"crypto/rand"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/portbook/portbook/indexer"
)

const (
	// RegistryTokenLife is how long a token for the registry is valid: 5 min. Clients ask for
	// a new one by themselves; the registry cannot be told that one is void.
	RegistryTokenLife = 5 * time.Minute
	// refreshTokenLife is how long a client may ask for tokens without a password: 90 days.
	refreshTokenLife = 90 * 24 * time.Hour
	// leeway is how much clocks of two servers may differ: 1 min, as in the registry.
	leeway = time.Minute
)

// A Signer signs tokens, with keys in a file that may change while the program runs. It is
// safe for concurrent use.
type Signer struct {
	path            string
	issuer, service string

	mu      sync.Mutex
	looked  time.Time // when the file was last looked at
	read    os.FileInfo
	keys    Keys
	signing jose.Signer
}

// NewSigner returns a signer with the keys in the file of a path. Tokens are from issuer, and
// for a registry that calls itself service.
func NewSigner(path, issuer, service string) (*Signer, error) {
	s := &Signer{path: path, issuer: issuer, service: service}
	_, _, err := s.current(time.Now())
	return s, err
}

// Service returns the name that the registry has for itself.
func (s *Signer) Service() string { return s.service }

// current returns the keys in the file, which it reads again if it has changed, at most once
// a second. If a later reading fails, the keys of before stay.
func (s *Signer) current(now time.Time) (Keys, jose.Signer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.looked) >= time.Second {
		s.looked = now
		if err := s.load(); err != nil && s.signing == nil {
			return Keys{}, nil, err
		}
	}
	return s.keys, s.signing, nil
}

// load reads the file if it has changed.
func (s *Signer) load() error {
	info, err := os.Stat(s.path)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	if s.read != nil && info.ModTime().Equal(s.read.ModTime()) && info.Size() == s.read.Size() {
		return nil
	}
	raw, err := os.ReadFile(s.path)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	keys, err := ParseKeys(raw)
	if err != nil {
		return fmt.Errorf("keys: %s: %w", s.path, err)
	}
	signing, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: keys.signing()},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	s.read, s.keys, s.signing = info, keys, signing
	return nil
}

// An Access is what a token allows, in the form of the registry (distribution's "Token
// Authentication Specification").
type Access struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

type registryClaims struct {
	jwt.Claims
	Access []Access `json:"access"`
}

// ForRegistry returns a token by which the registry lets an actor do what access says, for
// RegistryTokenLife from now.
func (s *Signer) ForRegistry(actor string, access []Access, now time.Time) (string, error) {
	return s.sign(registryClaims{s.claims(actor, s.service, now, RegistryTokenLife), access}, now)
}

// refreshAudience is the audience of refresh tokens. No registry has such a name, so it
// takes none for one of its own.
const refreshAudience = "portbook refresh"

// lastingClaims are those of a login that lasts.
type lastingClaims struct {
	jwt.Claims
	// AccountFrom is Subject.ValidFrom, in microseconds since 1970, as exact as PostgreSQL's.
	AccountFrom int64 `json:"account_from"`
}

// validFrom returns Subject.ValidFrom. Tokens that earlier versions have signed do not have it,
// but when they were signed, to the second.
func (c lastingClaims) validFrom() time.Time {
	if c.AccountFrom == 0 {
		return c.IssuedAt.Time().Add(time.Second - time.Microsecond)
	}
	return time.UnixMicro(c.AccountFrom)
}

// ForRefresh returns a token by which a client that has logged in gets tokens for the registry
// later, for life. validFrom is that of its subject.
func (s *Signer) ForRefresh(actor string, validFrom, now time.Time, life time.Duration) (string, error) {
	return s.sign(lastingClaims{s.claims(actor, refreshAudience, now, life), validFrom.UnixMicro()}, now)
}

func (s *Signer) claims(actor, audience string, now time.Time, life time.Duration) jwt.Claims {
	return jwt.Claims{
		Issuer: s.issuer, Subject: actor, Audience: jwt.Audience{audience},
		IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(life)),
	}
}

func (s *Signer) sign(claims any, now time.Time) (string, error) {
	_, signing, err := s.current(now)
	if err != nil {
		return "", err
	}
	return jwt.Signed(signing).Claims(claims).Serialize()
}

const sessionAudience = "portbook session"

// ForSession returns a token that is a new session of an actor. validFrom is that of its
// subject.
func (s *Signer) ForSession(actor string, validFrom, now time.Time) (token string, expires time.Time, err error) {
	c := lastingClaims{s.claims(actor, sessionAudience, now, SessionLife), validFrom.UnixMicro()}
	c.ID = rand.Text()
	token, err = s.sign(c, now)
	return token, c.Expiry.Time(), err
}

// Session returns the session of a token of ForSession, or ErrDenied.
func (s *Signer) Session(token string, now time.Time) (Session, error) {
	var c lastingClaims
	if err := s.verify(token, sessionAudience, now, &c.Claims, &c); err != nil || c.IssuedAt == nil || c.ID == "" {
		return Session{}, orDenied(err)
	}
	return Session{
		ID: c.ID, Actor: c.Subject, ValidFrom: c.validFrom(), Signed: c.IssuedAt.Time(), Expires: c.Expiry.Time(),
	}, nil
}

// Registry returns the actor of a token of ForRegistry and what it allows, or ErrDenied.
func (s *Signer) Registry(token string, now time.Time) (actor string, allowed []Access, err error) {
	var c registryClaims
	err = s.verify(token, s.service, now, &c.Claims, &c)
	if err != nil {
		return "", nil, err
	}
	return c.Subject, c.Access, nil
}

// Refresh returns the actor of a token of ForRefresh and its validFrom, or ErrDenied.
func (s *Signer) Refresh(token string, now time.Time) (actor string, validFrom time.Time, err error) {
	var c lastingClaims
	if err := s.verify(token, refreshAudience, now, &c.Claims, &c); err != nil || c.IssuedAt == nil {
		return "", time.Time{}, orDenied(err)
	}
	return c.Subject, c.validFrom(), nil
}

func orDenied(err error) error {
	if err == nil {
		return ErrDenied
	}
	return err
}

// verify reads the claims of a token that we have signed for an audience. It returns
// ErrDenied for any other token. c are the standard ones among claims.
func (s *Signer) verify(token, audience string, now time.Time, c *jwt.Claims, claims any) error {
	keys, _, err := s.current(now)
	if err != nil {
		return fmt.Errorf("%w: %w", err, indexer.ErrUnavailable)
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil || len(parsed.Headers) != 1 {
		return ErrDenied
	}
	for _, key := range keys.Keys {
		if key.KeyID != parsed.Headers[0].KeyID {
			continue
		}
		if err := parsed.Claims(key.Public().Key, claims); err != nil {
			return ErrDenied
		}
		expected := jwt.Expected{Issuer: s.issuer, AnyAudience: jwt.Audience{audience}, Time: now}
		if c.Expiry == nil || c.ValidateWithLeeway(expected, leeway) != nil {
			return ErrDenied
		}
		return nil
	}
	return ErrDenied
}
