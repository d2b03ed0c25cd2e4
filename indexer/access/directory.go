package access

import (
	"context"
	"slices"
	"time"

	"github.com/portbook/portbook/indexer"
)

// The most of what one account or grantee has. Each is read at every login or for every
// answer, so a list without an end would cost everybody. By 100 groups, and 200 for each identity
// at a provider, an account has at most some 300,000 rules if it has one identity.
const (
	MaxTokens = 100  // of an account, with those that expired within a day
	MaxGroups = 100  // of an account
	MaxRules  = 100  // of a token
	MaxNote   = 100  // characters of a token's note
	MaxGrants = 1000 // of a grantee
)

// A Directory has the accounts, groups, tokens and grants for those who manage them. A change
// is recorded with the actor of its context, and made only if the context's Permit allows it.
//
// Methods return indexer.ErrNotFound for what does not exist, indexer.ErrConflict for what is
// there already, for what would be more than the most, and for what would leave no
// administrator, and indexer.ErrForbidden if the permit is refused.
type Directory interface {
	Account(ctx context.Context, name string) (Account, Rules, error)
	AccountPage(context.Context, AccountQuery) ([]Account, error)
	AddAccount(context.Context, Account) error
	ChangeAccount(ctx context.Context, name string, e AccountEdit) error
	SetPassword(ctx context.Context, name, hash string) error
	DeleteAccount(ctx context.Context, name string) error

	GroupPage(ctx context.Context, after string, limit int) ([]Group, error)

	Token(ctx context.Context, id string) (PersonalToken, error)
	RotateToken(ctx context.Context, r Rotation) error

	GrantPage(context.Context, GrantQuery) ([]Grant, error)
	Grant(ctx context.Context, to Grantee, r Rule) error
	Revoke(ctx context.Context, to Grantee, p Pattern) error
}

// An AccountQuery selects accounts, in order of name.
type AccountQuery struct {
	Contains string // a part of the name; "": any
	Group    string // a group that it is in; "": any
	After    string // only names after this one
	Limit    int
}

// An AccountEdit is what to change of an account; nil: nothing.
type AccountEdit struct {
	Admin, Disabled *bool
	Groups          *[]string
}

// Of returns the account that a becomes. It returns ErrInvalid if that cannot be.
func (e AccountEdit) Of(a Account) (Account, error) {
	if e.Admin != nil {
		a.Admin = *e.Admin
	}
	if e.Disabled != nil {
		a.Disabled = *e.Disabled
	}
	if e.Groups != nil {
		a.Groups = *e.Groups
	}
	return a, a.Check()
}

// Check returns ErrInvalid unless an account may be as a is.
func (a Account) Check() error {
	if err := CheckName(a.Name); err != nil {
		return err
	}
	for _, g := range a.Groups {
		if err := CheckName(g); err != nil {
			return err
		}
	}
	switch {
	case a.Robot && a.Admin:
		return indexer.Invalid("%q is a robot: only a person can be an administrator", a.Name)
	case len(a.Groups) > MaxGroups:
		return indexer.Invalid("%q would be in %d groups: an account is in at most %d", a.Name, len(a.Groups), MaxGroups)
	}
	return nil
}

// WithPassword returns a with the hash of a password. It returns ErrInvalid unless a person has
// a password, and a robot has none.
func (a Account) WithPassword(ctx context.Context, password string) (Account, error) {
	if err := a.Check(); err != nil {
		return a, err
	}
	var err error
	switch {
	case a.Robot && password != "":
		err = indexer.Invalid("%q is a robot, which has no password: make a token for it", a.Name)
	case !a.Robot:
		a.Password, err = HashPassword(ctx, password)
	}
	return a, err
}

// A Group is a name that accounts share. It exists as long as it has a member or a grant.
type Group struct {
	Name            string
	Members, Grants int
}

// A Rotation replaces a token by another one of the same account.
type Rotation struct {
	Old, Next PersonalToken
	Hash      []byte    // of Next
	Until     time.Time // when the old one ends, unless it does earlier
}

// Rotate returns a rotation of t, made by a subject: the next token is like t and lives as
// long, unless MakersOf requires an earlier end.
func (t PersonalToken) Rotate(s Subject, token Token, overlap time.Duration) Rotation {
	now := time.Now()
	next := t
	next.ID = token.ID()
	if !t.ExpiresAt.IsZero() {
		next.ExpiresAt = now.Add(t.ExpiresAt.Sub(t.CreatedAt))
	}
	if s.Name == t.Account {
		next.ExpiresAt = earlier(next.ExpiresAt, now.Add(maxOwnLife))
	}
	next.ExpiresAt = earlier(next.ExpiresAt, s.Expires)
	return Rotation{Old: t, Next: next, Hash: token.Hash(), Until: now.Add(overlap)}
}

// earlier returns the earlier of two ends, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// A GrantQuery selects grants: those to everybody first, then those to groups, then those to
// accounts, each in order of name, and of a grantee in order of pattern.
type GrantQuery struct {
	Within   []Pattern // only for patterns within these
	Patterns []Pattern // only for these; nil: any
	To       *Grantee  // nil: any
	Account  *Account  // only those that the account has, by itself, by a group or as everybody; nil: any
	After    *Grant    // only grants after this one; its actions do not matter
	Limit    int
}

// Unseen returns the query for one grant that q would select if s managed all patterns, and
// that it does not see. If it has no Patterns, there is none.
func (q GrantQuery) Unseen(s Subject) GrantQuery {
	q.Within, q.After, q.Limit = []Pattern{Every}, nil, 1
	q.Patterns = slices.DeleteFunc(slices.Clone(q.Patterns), s.Oversees)
	return q
}

// A Reason is why somebody may do something: a grant that allows it.
type Reason struct {
	Grant Grant
	Seen  bool // whether the one who asks may see the grant
}

// Reasons returns why an account may do something: for each of its grants that includes the
// actions, whether s may see it.
func Reasons(s Subject, granted []Grant, wanted Actions) (all []Reason) {
	for _, g := range granted {
		if g.Rule.Actions.Has(wanted) {
			all = append(all, Reason{g, s.Oversees(g.Rule.Pattern)})
		}
	}
	slices.SortStableFunc(all, func(a, b Reason) int { // those that one sees first
		switch {
		case a.Seen == b.Seen:
			return 0
		case a.Seen:
			return -1
		}
		return 1
	})
	return all
}
