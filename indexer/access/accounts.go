package access

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/cache"
)

const (
	// versionAge is how long accounts and grants are used without asking whether they have
	// changed: 1 s. So a change is effective after this time and the lag of a standby.
	versionAge = time.Second
	// mostAge is how long they are used while another request asks, which may have to wait for
	// the database, or if it does not answer: 10 s.
	mostAge = 10 * time.Second
	// maxLookups is how many lookups in the store run at once: 4, of a reader's 25 connections,
	// so that a flood of wrong tokens leaves the others to readers. One takes 0.3 ms.
	maxLookups = 4
	// cacheBytes limits the memory of what is remembered of accounts: 16 MB, some 20,000
	// accounts with ten rules each.
	cacheBytes = 16 << 20
	// maxCached is the largest account that is remembered: 256 KiB.
	maxCached = 256 << 10
)

// A Store has accounts, tokens and grants. Methods return indexer.ErrNotFound for what does
// not exist.
type Store interface {
	// AccessVersion returns a version that changes with anything that the other methods
	// return.
	AccessVersion(context.Context) (indexer.Version, error)
	// Account returns an account and the rules that are granted to it, its groups and
	// everybody.
	Account(ctx context.Context, name string) (Account, Rules, error)
	// TokenByHash returns what is known of a token.
	TokenByHash(ctx context.Context, hash []byte) (PersonalToken, error)
	// Token returns the token with an id.
	Token(ctx context.Context, id string) (PersonalToken, error)
	// SessionEnded reports whether a signed session was ended.
	SessionEnded(ctx context.Context, id string) (bool, error)
	// Workloads returns the workloads of a robot, the oldest first; none if there is no robot of
	// the name.
	Workloads(ctx context.Context, robot string) ([]Workload, error)
	// StoredSession returns a session that was added to a SessionStore.
	StoredSession(ctx context.Context, id string) (Session, error)
	// RulesOfEverybody returns the rules that are granted to everybody.
	RulesOfEverybody(context.Context) (Rules, error)
}

// Accounts finds the subjects of clients by the passwords and tokens of accounts in a store.
// It is safe for concurrent use. Its methods return ErrDenied for wrong credentials, and
// indexer.ErrUnavailable if they cannot tell now.
type Accounts struct {
	store  Store
	signer *Signer
	known  *cache.Versioned[known]

	latest atomic.Pointer[dated] // the version that was asked for last; nil: none yet
	asking chan struct{}         // a lock: one caller at a time asks

	lookups chan struct{} // limits how many connections to the database are used at once
	issuers *issuers      // of workloads
}

// A dated version is one that was asked for at a time.
type dated struct {
	version indexer.Version
	asked   time.Time
}

// known is what is remembered: an account with its rules, a token, a session or whether it was
// ended, the workloads of a robot, or that a password is right.
type known struct {
	account   Account
	rules     Rules
	token     PersonalToken
	session   Session
	ended     bool
	workloads []Workload
}

func (k known) bytes() int {
	n := 640 + len(k.account.Password)
	for _, r := range k.rules {
		n += 32 + len(r.Pattern.text)
	}
	for _, r := range k.token.Rules {
		n += 32 + len(r.Pattern.text)
	}
	for _, w := range k.workloads {
		n += 256 + len(w.Issuer) + len(w.Audience)
		for _, c := range w.Claims {
			n += 32 + len(c.Name) + len(c.Value)
		}
	}
	return n
}

// NewAccounts returns the accounts in a store. Logins that last are signed by signer.
func NewAccounts(store Store, signer *Signer) *Accounts {
	return &Accounts{
		store: store, signer: signer, known: cache.New(cacheBytes, maxCached, known.bytes),
		asking: make(chan struct{}, 1), lookups: make(chan struct{}, maxLookups),
		issuers: newIssuers(),
	}
}

// current returns the version of the store, which may be versionAge old, or mostAge while it
// is asked for again.
func (a *Accounts) current(ctx context.Context) (indexer.Version, error) {
	at := a.latest.Load()
	if at != nil && time.Since(at.asked) < versionAge {
		return at.version, nil
	}
	select {
	case a.asking <- struct{}{}:
		defer func() { <-a.asking }()
	default:
		if at != nil && time.Since(at.asked) < mostAge {
			return at.version, nil
		}
		select {
		case a.asking <- struct{}{}:
			defer func() { <-a.asking }()
		case <-ctx.Done():
			return indexer.Version{}, fmt.Errorf("version of accounts: %w", indexer.ErrUnavailable)
		}
	}
	if at = a.latest.Load(); at != nil && time.Since(at.asked) < versionAge { // another caller has asked
		return at.version, nil
	}
	begin := time.Now()
	v, err := a.store.AccessVersion(ctx)
	switch {
	case err == nil:
		a.latest.Store(&dated{v, begin})
	case at != nil && time.Since(at.asked) < mostAge:
		return at.version, nil
	}
	return v, err
}

// get returns what question is the key of, computed once for each version of the store.
func (a *Accounts) get(ctx context.Context, question string, compute func() (known, error)) (known, error) {
	v, err := a.current(ctx)
	if err != nil {
		return known{}, err
	}
	return a.known.Get(ctx, cache.Key{Version: v, Question: question}, func() (known, error) {
		select {
		case a.lookups <- struct{}{}:
			defer func() { <-a.lookups }()
			return compute()
		case <-ctx.Done():
			return known{}, fmt.Errorf("too many logins wait for the database: %w", indexer.ErrUnavailable)
		}
	})
}

// account returns an account that may log in, with its rules. It returns ErrDenied if there
// is none.
func (a *Accounts) account(ctx context.Context, name string) (known, error) {
	if CheckName(name) != nil {
		return known{}, ErrDenied
	}
	k, err := a.get(ctx, "account "+name, func() (k known, err error) {
		k.account, k.rules, err = a.store.Account(ctx, name)
		return k, err
	})
	if errors.Is(err, indexer.ErrNotFound) || err == nil && k.account.Disabled {
		return known{}, ErrDenied
	}
	return k, err
}

// SubjectOf returns the subject of an account with its rules, and of the token by which it has
// logged in; nil: there is none.
func SubjectOf(a Account, rules Rules, t *PersonalToken) Subject {
	s := Subject{Name: a.Name, ValidFrom: a.ValidFrom, Rules: rules, Admin: a.Admin}
	if t != nil {
		s = s.by(*t)
	}
	return s
}

// subject returns the subject of an account without a token.
func (k known) subject() Subject {
	return SubjectOf(k.account, k.rules, nil)
}

// Anonymous returns the subject of a client without credentials.
func (a *Accounts) Anonymous(ctx context.Context) (Subject, error) {
	k, err := a.get(ctx, "everybody", func() (k known, err error) {
		k.rules, err = a.store.RulesOfEverybody(ctx)
		return k, err
	})
	return Subject{Rules: k.rules}, err
}

// Verify returns the subject of credentials. A token of another account than the name is
// denied; without a name, the token says whose it is. The token of a workload needs the name of
// the robot.
func (a *Accounts) Verify(ctx context.Context, c Credentials) (Subject, error) {
	if LooksLikeJWT(c.Secret) {
		return a.byJWT(ctx, c)
	}
	if LooksLikeToken(c.Secret) {
		t, err := ParseToken(c.Secret)
		if err != nil {
			return Subject{}, err
		}
		return a.byToken(ctx, c.Name, t)
	}
	return a.byPassword(ctx, c)
}

func (a *Accounts) byToken(ctx context.Context, name string, t Token) (Subject, error) {
	hash := t.Hash()
	k, err := a.get(ctx, "token "+string(hash), func() (k known, err error) {
		k.token, err = a.store.TokenByHash(ctx, hash)
		return k, err
	})
	if errors.Is(err, indexer.ErrNotFound) || err == nil && name != "" && name != k.token.Account {
		return Subject{}, ErrDenied
	}
	if err != nil {
		return Subject{}, err
	}
	return a.withToken(ctx, k.token)
}

// withToken returns the subject of an account that has logged in with a token.
func (a *Accounts) withToken(ctx context.Context, t PersonalToken) (Subject, error) {
	if !t.ExpiresAt.IsZero() && !time.Now().Before(t.ExpiresAt) {
		return Subject{}, ErrDenied
	}
	k, err := a.account(ctx, t.Account)
	if err != nil {
		return Subject{}, err
	}
	s := k.subject()
	return s.by(t), nil
}

// by returns s as it is with a token.
func (s Subject) by(t PersonalToken) Subject {
	s.Token, s.Expires, s.Narrowed, s.Scope = t.ID, t.ExpiresAt, t.Narrowed, t.Rules
	return s
}

// byPassword compares a password with that of an account. It takes as long for an account
// that does not exist.
func (a *Accounts) byPassword(ctx context.Context, c Credentials) (Subject, error) {
	k, err := a.account(ctx, c.Name)
	denied := errors.Is(err, ErrDenied)
	if err != nil && !denied {
		return Subject{}, err
	}
	if denied || k.account.Password == "" {
		return Subject{}, orDenied(checkPassword(ctx, "", c.Secret))
	}
	// A client such as containerd sends the password for each token, so a right one is
	// remembered: its hash, together with the stored one.
	sum := sha256.Sum256([]byte(k.account.Password + "\x00" + c.Secret))
	v, err := a.current(ctx)
	if err != nil {
		return Subject{}, err
	}
	key := cache.Key{Version: v, Question: "password " + string(sum[:])}
	_, err = a.known.Get(ctx, key, func() (known, error) {
		return known{}, checkPassword(ctx, k.account.Password, c.Secret)
	})
	if err != nil {
		return Subject{}, err
	}
	return k.subject(), nil
}

// Named returns the subject whose Actor is a name.
func (a *Accounts) Named(ctx context.Context, actor string) (Subject, error) {
	name, id, hasToken := strings.Cut(actor, "+")
	if name == "" {
		return a.Anonymous(ctx)
	}
	if !hasToken {
		k, err := a.account(ctx, name)
		return k.subject(), err
	}
	if IsWorkload(id) {
		t, err := a.workload(ctx, name, id)
		if err != nil {
			return Subject{}, err
		}
		return a.withToken(ctx, t)
	}
	k, err := a.get(ctx, "token id "+id, func() (k known, err error) {
		k.token, err = a.store.Token(ctx, id)
		return k, err
	})
	if errors.Is(err, indexer.ErrNotFound) || err == nil && k.token.Account != name {
		return Subject{}, ErrDenied
	}
	if err != nil {
		return Subject{}, err
	}
	return a.withToken(ctx, k.token)
}

// Refreshed returns the subject of a login that was made to last. It returns ErrDenied if it
// is void.
func (a *Accounts) Refreshed(ctx context.Context, token string) (Subject, error) {
	if LooksLikeToken(token) {
		return a.Verify(ctx, Credentials{Secret: token})
	}
	actor, validFrom, err := a.signer.Refresh(token, time.Now())
	if err != nil {
		return Subject{}, err
	}
	if strings.Contains(actor, "+") { // a workload, whose removal ends this
		return a.Named(ctx, actor)
	}
	return a.lasting(ctx, actor, validFrom)
}

// lasting returns the subject of an account whose login was made to last when the account had a
// ValidFrom; ErrDenied if it has a later one now. So no clocks are compared, and a login with a
// password that was replaced a moment ago does not last.
func (a *Accounts) lasting(ctx context.Context, name string, validFrom time.Time) (Subject, error) {
	k, err := a.account(ctx, name)
	if err != nil {
		return Subject{}, err
	}
	if validFrom.Before(k.account.ValidFrom) {
		return Subject{}, ErrDenied
	}
	return k.subject(), nil
}

// InSession returns the subject of a session.
func (a *Accounts) InSession(ctx context.Context, s Session) (Subject, error) {
	return a.lasting(ctx, s.Actor, s.ValidFrom)
}

// Lasting returns a token for Refreshed, for a subject with credentials: of a personal token
// the token itself, since that can be revoked. That of a workload lasts for workloadLife.
func (a *Accounts) Lasting(s Subject, c Credentials) (string, error) {
	switch {
	case s.Name == "":
		return "", fmt.Errorf("a client without a name cannot stay logged in: %w", indexer.ErrInvalid)
	case IsWorkload(s.Token):
		return a.signer.ForRefresh(s.Actor(), s.ValidFrom, time.Now(), workloadLife)
	case s.Token != "":
		return c.Secret, nil
	}
	return a.signer.ForRefresh(s.Name, s.ValidFrom, time.Now(), refreshTokenLife)
}
