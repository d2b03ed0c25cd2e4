package access

import (
	"regexp"
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// An Identity is a person as an identity provider knows it.
type Identity struct {
	// Provider is the title of the provider, for records.
	Provider string
	// Issuer and Subject name the person for ever: nobody else will have them.
	Issuer, Subject string
	// Name is what the provider calls the person now. It can change, and go to another.
	Name string
	// Groups are those of the person at the provider, as names of groups here.
	Groups []string
}

// The maximum lengths of the parts of an identity: 1,024 bytes, and 255 as OpenID Connect
// Core says (section 2). The migration has the same.
const (
	maxIssuer  = 1024
	maxSubject = 255
)

// CheckIdentity returns ErrInvalid unless an identity can have these parts.
func CheckIdentity(issuer, subject string) error {
	for _, part := range []struct {
		what, text string
		most       int
	}{{"issuer", issuer, maxIssuer}, {"subject", subject, maxSubject}} {
		if part.text == "" || len(part.text) > part.most || strings.ContainsFunc(part.text, notASCII) {
			return indexer.Invalid("%.64q is not the %s of an identity: write 1 to %d printable characters of ASCII",
				part.text, part.what, part.most)
		}
	}
	return nil
}

func notASCII(r rune) bool { return r < ' ' || r > '~' }

// notInNames is what a name cannot have, and what separates its parts.
var notInNames = regexp.MustCompile(`[^a-z0-9._-]+`)

// separators are several separators, of which a name has one.
var separators = regexp.MustCompile(`[._-]{2,}`)

// AccountName returns the name of an account for what a provider calls a person: in lower
// case, with a hyphen for what a name cannot have. Several people may get the same. It returns
// ErrInvalid if nothing is left.
func AccountName(called string) (string, error) {
	name := notInNames.ReplaceAllString(indexer.LowerASCII(called), "-")
	name = separators.ReplaceAllStringFunc(name, func(s string) string { return s[:1] })
	name = strings.Trim(name, "._-")
	return name, CheckName(name)
}

// maxProviderGroups is how many groups of a provider an account may be in: 200, as many as
// Entra ID puts into a token.
const maxProviderGroups = 200

// GroupNames returns the groups that groups of a provider are here, in order, and how many of
// those cannot be one: team/dev is team.dev. Upper and lower case, and team/dev and team.dev, are
// the same.
func GroupNames(groups []string) (names []string, left int) {
	seen := map[string]bool{}
	for _, g := range groups {
		name := strings.ReplaceAll(strings.TrimPrefix(indexer.LowerASCII(g), "/"), "/", ".")
		switch {
		case seen[name]:
		case CheckName(name) != nil, len(names) == maxProviderGroups:
			left++
		default:
			seen[name] = true
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, left
}
