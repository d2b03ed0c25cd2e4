package access

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

// An Account is a person or a robot who logs in.
type Account struct {
	Name      string
	Robot     bool // a program, which logs in with tokens only
	Admin     bool // administers accounts and grants, and may do everything with every repository
	Disabled  bool
	Password  string // the result of HashPassword; "": none
	Groups    []string
	ValidFrom time.Time // logins that were made to last before are void
	CreatedAt time.Time

	// ProviderGroups are the groups that it is in besides, as identity providers said when the
	// person signed in last.
	ProviderGroups []string
}

// AllGroups returns the groups that count in grants.
func (a Account) AllGroups() []string { return slices.Concat(a.Groups, a.ProviderGroups) }

// names are those of accounts and groups; the migration has the same rule.
var names = regexp.MustCompile(`^[a-z0-9]+([._-][a-z0-9]+)*$`)

// maxName is the maximum length of a name: 64 bytes.
const maxName = 64

// Ourselves is the name by which the indexer reads the registry.
const Ourselves = "portbook-indexer"

// reserved are names that mean something else: a grantee, and actors without an account.
var reserved = []string{everybody, sharedToken, Ourselves}

// CheckName returns ErrInvalid unless an account or a group may have the name.
func CheckName(name string) error {
	if slices.Contains(reserved, name) {
		return indexer.Invalid("%q cannot be the name of an account or a group, because it means something else", name)
	}
	if len(name) > maxName || !names.MatchString(name) {
		return indexer.Invalid("%.64q is not a name of an account or a group: write lower-case letters and digits,"+
			" and single . _ - between them, at most %d bytes", name, maxName)
	}
	return nil
}

// A PersonalToken is what is known of a token, which is sent instead of a password.
type PersonalToken struct {
	ID        string
	Account   string
	Note      string // what its owner says that it is for
	Narrowed  bool   // whether Rules limit it further than its account
	Rules     Rules
	CreatedAt time.Time
	ExpiresAt time.Time // zero: never
	LastUsed  time.Time // at least then, and at most an hour later as far as a writer has seen; zero: not yet
}

// A Grantee is who gets a grant: an account, a group, or everybody if both are "".
type Grantee struct{ Account, Group string }

const (
	everybody   = "everybody"
	groupPrefix = "group:"
)

// ParseGrantee parses a grantee in the form of String.
func ParseGrantee(text string) (g Grantee, err error) {
	if text == everybody {
		return g, nil
	}
	name, isGroup := strings.CutPrefix(text, groupPrefix)
	if err := CheckName(name); err != nil {
		return g, err
	}
	if isGroup {
		return Grantee{Group: name}, nil
	}
	return Grantee{Account: name}, nil
}

// String returns the name of an account, group:NAME, or everybody.
func (g Grantee) String() string {
	switch {
	case g.Group != "":
		return groupPrefix + g.Group
	case g.Account != "":
		return g.Account
	}
	return everybody
}

// A Grant is a rule for a grantee.
type Grant struct {
	To        Grantee
	Rule      Rule
	CreatedAt time.Time
}
