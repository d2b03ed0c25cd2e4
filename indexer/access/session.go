package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

// A Session is a login in a browser, which keeps a text for it in a cookie.
type Session struct {
	ID, Actor       string
	ValidFrom       time.Time // Subject.ValidFrom of who has signed in
	Signed, Expires time.Time
}

// SessionLife is how long a session lasts: 12 h, a working day.
const SessionLife = 12 * time.Hour

// MaxSessions is how many sessions an account can have at once where they are stored: 100, more
// than a person has browsers. Then each new one ends the oldest one.
const MaxSessions = 100

// Sessions are where sessions are. They are safe for concurrent use, and return
// indexer.ErrUnavailable if they cannot tell now.
type Sessions interface {
	// Begin begins a session of an account, whose ValidFrom was that when its credentials were
	// checked. It returns the text of its cookie, and when it ends by itself.
	Begin(ctx context.Context, account string, validFrom time.Time) (cookie string, expires time.Time, err error)
	// Find returns the session of a cookie, or ErrDenied if there is none or it has ended.
	Find(ctx context.Context, cookie string) (Session, error)
	// End ends a session.
	End(context.Context, Session) error
}

// cookiePrefix begins the text of the cookie of a session that is stored.
const cookiePrefix = "pbs_"

// NewCookie returns the text of the cookie of a new session, 256 random bits, and the hash that
// is stored of it.
func NewCookie() (text string, hash []byte) {
	raw := make([]byte, sha256.Size)
	_, _ = rand.Read(raw) // never fails
	text = cookiePrefix + base64.RawURLEncoding.EncodeToString(raw)
	hash, _ = CookieHash(text)
	return text, hash
}

// CookieHash returns what is stored of the text of a cookie, or ErrDenied if it cannot be that
// of a session.
func CookieHash(text string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(text, cookiePrefix)
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if !ok || err != nil || len(raw) != sha256.Size {
		return nil, ErrDenied
	}
	sum := sha256.Sum256(raw)
	return sum[:], nil
}

// NewSession returns a session of an account from now on, whose cookie has a hash.
func NewSession(account string, validFrom time.Time, hash []byte) Session {
	now := time.Now()
	return Session{
		ID: hex.EncodeToString(hash), Actor: account, ValidFrom: validFrom, Signed: now, Expires: now.Add(SessionLife),
	}
}

// A SessionStore stores sessions, and the ends of signed ones. Its methods record the end.
type SessionStore interface {
	// AddSession adds a session.
	AddSession(context.Context, Session) error
	// RemoveSession ends a session that was added.
	RemoveSession(context.Context, Session) error
	// EndSession ends a signed session before its time.
	EndSession(context.Context, Session) error
}

// SignedSessions returns sessions that are signed tokens. The store has those that have ended
// before their time; nil: none can be ended here.
func (a *Accounts) SignedSessions(s SessionStore) Sessions { return signedSessions{a, s} }

type signedSessions struct {
	accounts *Accounts
	store    SessionStore
}

func (s signedSessions) Begin(_ context.Context, account string, validFrom time.Time) (string, time.Time, error) {
	return s.accounts.signer.ForSession(account, validFrom, time.Now())
}

func (s signedSessions) Find(ctx context.Context, cookie string) (Session, error) {
	session, err := s.accounts.signer.Session(cookie, time.Now())
	if err != nil {
		return Session{}, err
	}
	k, err := s.accounts.get(ctx, "session "+session.ID, func() (k known, err error) {
		k.ended, err = s.accounts.store.SessionEnded(ctx, session.ID)
		return k, err
	})
	if err == nil && k.ended {
		err = ErrDenied
	}
	return session, err
}

func (s signedSessions) End(ctx context.Context, session Session) error {
	return s.store.EndSession(ctx, session)
}

// StoredSessions returns sessions that are in the store, which has hashes of their cookies. A
// store of nil can only find them.
func (a *Accounts) StoredSessions(s SessionStore) Sessions { return storedSessions{a, s} }

type storedSessions struct {
	accounts *Accounts
	store    SessionStore
}

func (s storedSessions) Begin(ctx context.Context, account string, validFrom time.Time) (string, time.Time, error) {
	if s.store == nil {
		return "", time.Time{}, fmt.Errorf("this indexer only reads, so it begins no session: %w", indexer.ErrUnavailable)
	}
	text, hash := NewCookie()
	session := NewSession(account, validFrom, hash)
	return text, session.Expires, s.store.AddSession(ctx, session)
}

func (s storedSessions) Find(ctx context.Context, cookie string) (Session, error) {
	hash, err := CookieHash(cookie)
	if err != nil {
		return Session{}, err
	}
	k, err := s.accounts.get(ctx, "stored session "+string(hash), func() (k known, err error) {
		k.session, err = s.accounts.store.StoredSession(ctx, hex.EncodeToString(hash))
		return k, err
	})
	if errors.Is(err, indexer.ErrNotFound) || err == nil && !time.Now().Before(k.session.Expires) {
		err = ErrDenied
	}
	return k.session, err
}

func (s storedSessions) End(ctx context.Context, session Session) error {
	err := s.store.RemoveSession(ctx, session)
	if errors.Is(err, indexer.ErrNotFound) {
		return nil // it has ended already
	}
	return err
}

// RecordedSessions record the end of a session, which sessions outside of the database do not.
type RecordedSessions struct {
	Sessions
	Record func(context.Context, Record) error
}

// End ends a session.
func (r RecordedSessions) End(ctx context.Context, s Session) error {
	if err := r.Sessions.End(ctx, s); err != nil {
		return err
	}
	return r.Record(ctx, Record{Event: SessionEnd, Target: s.Actor})
}
