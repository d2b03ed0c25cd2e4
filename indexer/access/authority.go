package access

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

// Oversees reports whether s may see, give, change and remove the grants for a pattern:
// within the patterns on which it has the action admin. An administrator has it on all.
//
// A grant for another pattern is out of reach even if it selects some of the same
// repositories: whoever administers team/* does not see grants for *.
func (s Subject) Oversees(p Pattern) bool {
	return slices.ContainsFunc(s.Overseen(), func(own Pattern) bool { return own.Includes(p) })
}

// Overseen returns the patterns within which s manages grants. A client without a name, or
// with a limited token, manages none.
func (s Subject) Overseen() (patterns []Pattern) {
	if s.Name == "" || s.Narrowed {
		return nil
	}
	for _, r := range s.rules() {
		if r.Actions.Has(Admin) {
			patterns = append(patterns, r.Pattern)
		}
	}
	return patterns
}

// PullsAll reports whether s may pull from all repositories that a pattern selects.
func (s Subject) PullsAll(p Pattern) bool {
	return slices.ContainsFunc(s.rules(), func(r Rule) bool { return r.Actions.Has(Pull) && r.Pattern.Includes(p) })
}

// OverseesRepository reports whether s administers a repository.
func (s Subject) OverseesRepository(name string) bool { return s.Oversees(Pattern{name}) }

// PatternsOf returns all patterns that select a repository, the widest first.
func PatternsOf(repository string) (patterns []Pattern) {
	patterns = append(patterns, Every)
	for i, c := range repository {
		if c == '/' {
			patterns = append(patterns, Pattern{repository[:i+1] + "*"})
		}
	}
	return append(patterns, Pattern{repository})
}

// PatternsIncluding returns the texts of all patterns that include p, the widest first.
func PatternsIncluding(p Pattern) (texts []string) {
	path, below := strings.CutSuffix(p.text, "/*")
	if p == Every {
		return []string{p.text}
	}
	for _, q := range PatternsOf(path) {
		if !below || q.text != path {
			texts = append(texts, q.text)
		}
	}
	if below {
		texts = append(texts, p.text)
	}
	return texts
}

// A Permit decides whether a subject may do something: it returns nil, or an ErrForbidden
// with the reason.
type Permit func(Subject) error

// limited returns an ErrForbidden if s has a limited token, which changes nothing.
func (s Subject) limited() error {
	if s.Narrowed {
		return indexer.Forbidden("a token that is limited manages nothing: log in with a password, or a token without rules")
	}
	return nil
}

// Administrators permits administrators.
func Administrators(s Subject) error {
	if err := s.limited(); err != nil {
		return err
	}
	if !s.Administers() {
		return indexer.Forbidden("only an administrator may do this")
	}
	return nil
}

// Overseers permits who manages grants for some repositories.
func Overseers(s Subject) error {
	if err := s.limited(); err != nil {
		return err
	}
	if len(s.Overseen()) == 0 {
		return indexer.Forbidden("you administer no repositories: that takes a grant of the action admin")
	}
	return nil
}

// OverseersOf permits who manages the grants for a pattern.
func OverseersOf(p Pattern) Permit {
	return func(s Subject) error {
		if err := s.limited(); err != nil {
			return err
		}
		if !s.Oversees(p) {
			return indexer.Forbidden("you do not administer %s: that takes a grant of the action admin on it, or on a wider"+
				" pattern", p)
		}
		return nil
	}
}

// OwnerOf permits an account to manage what is its own, and administrators.
func OwnerOf(account string) Permit {
	return func(s Subject) error {
		if err := s.limited(); err != nil {
			return err
		}
		if s.Name != account || account == "" {
			return Administrators(s)
		}
		return nil
	}
}

// maxOwnLife is the most time for which a token that somebody makes for itself is valid: a
// year and a day, so that a year fits from any time zone. Tokens that are forgotten end.
const maxOwnLife = 366 * 24 * time.Hour

// MakersOf permits who may make a token: its account, and for robots administrators. A token
// that is made with a token is valid no longer than that.
func MakersOf(t PersonalToken, robot bool) Permit {
	return func(s Subject) error {
		if err := OwnerOf(t.Account)(s); err != nil {
			return err
		}
		switch {
		case s.Name != t.Account && !robot:
			return indexer.Forbidden("%q is a person, who makes tokens alone: an administrator makes those of robots", t.Account)
		case s.Name == t.Account && (t.ExpiresAt.IsZero() || time.Until(t.ExpiresAt) > maxOwnLife):
			return indexer.Forbidden("a token of your own is valid for at most 366 days: choose an earlier end")
		case earlier(t.ExpiresAt, s.Expires) != t.ExpiresAt:
			return indexer.Forbidden("you are logged in with a token that ends at %s: one that you make with it must not be"+
				" valid for longer", s.Expires.UTC().Format(time.RFC3339))
		}
		return nil
	}
}

type permitKey struct{}

// WithPermit returns a context for a change that the actor makes. The store asks permit about
// the actor, as it is in the transaction of the change: so who has lost a right a moment ago
// cannot use it.
func WithPermit(ctx context.Context, permit Permit) context.Context {
	return context.WithValue(ctx, permitKey{}, permit)
}

// PermitOf returns the Permit of a context; nil: there is none.
func PermitOf(ctx context.Context) Permit {
	permit, _ := ctx.Value(permitKey{}).(Permit)
	return permit
}

// Changers permits who may do something with a repository: Delete or Push.
func Changers(repository string, a Actions) Permit {
	return func(s Subject) error {
		if !s.Allowed(repository).Has(a) {
			return indexer.Forbidden("you may not do this with %s: that takes a grant of the action %s on it", repository,
				nameOf(a))
		}
		return nil
	}
}

// nameOf returns the name of one action.
func nameOf(a Actions) string {
	names := a.Names()
	return names[len(names)-1]
}
