package access

import (
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

// A Subject is who asks. The zero Subject is nobody in particular, who may do nothing.
type Subject struct {
	// Name is the name of the account; "" for a client that did not say who it is.
	Name string
	// Number is that of the user at GitHub, if it was GitHub that said who the client is; 0
	// otherwise.
	Number uint64
	// Token is the id of the personal token, or of the workload, by which the client proved
	// that; "" if it did with a password.
	Token string
	// Expires is when that token ends; zero: never, or there is none.
	Expires time.Time
	// ValidFrom is that of the account, as it was when the credentials were checked. What lasts
	// of this login is void when the account has a later one.
	ValidFrom time.Time
	// Rules are what the subject may do.
	Rules Rules
	// Narrowed says that Scope limits the subject further: the rules of its token.
	Narrowed bool
	Scope    Rules
	// Admin says that the subject administers accounts and grants, and may do everything
	// with every repository. A narrowed subject does not.
	Admin bool
	// OnlyWrites says that the subject may push and delete in the registry, and pull as far as
	// that takes, but not read the book.
	OnlyWrites bool

	// Asks is whom About asks for the rules; nil: nobody, because they are all known.
	Asks *Delegation
}

// rules returns all that limits s as one list.
func (s Subject) rules() Rules {
	rules := s.Rules
	if s.Admin {
		rules = Rules{{Every, Admin}}
	}
	if s.Narrowed {
		rules = rules.and(s.Scope)
	}
	return rules
}

// Effective returns the rules by which s may do something, with all that limits it.
func (s Subject) Effective() Rules { return s.rules() }

// Allowed returns what s may do with a repository.
func (s Subject) Allowed(repository string) Actions { return s.rules().allowed(repository) }

// Asker returns the asker who sees the repositories that s may pull.
func (s Subject) Asker() indexer.Asker { return indexer.AskerOf(s.rules().pulls()) }

// Administers reports whether s may change accounts and grants.
func (s Subject) Administers() bool { return s.Admin && !s.Narrowed }

// Actor returns the name of s for the registry, whose events repeat it: "alice", or
// "alice+7f3a12bc" if it has a token. Names of accounts have no plus sign.
func (s Subject) Actor() string {
	if s.Token == "" {
		return s.Name
	}
	return s.Name + "+" + s.Token
}

// ParseActor returns the name and the id of the token in what Actor returns. The subjects of a
// Delegate have no token, and the addresses in their names may have a plus sign.
func ParseActor(actor string) (name, token string) {
	if strings.HasPrefix(actor, delegated+"/") {
		return actor, ""
	}
	name, token, _ = strings.Cut(actor, "+")
	return name, token
}

// KindOf returns the kind of the client with which the registry names an actor: see
// Subject.Actor. It returns the kind of credentials, and nothing about who it is.
func KindOf(actor string) indexer.ClientKind {
	name, token := ParseActor(actor)
	switch {
	case name == "" || name == everybody:
		return indexer.ByAnonymous
	case token == "":
		return indexer.ByPerson
	case strings.HasPrefix(token, workloadPrefix):
		return indexer.ByWorkload
	}
	return indexer.ByToken
}
