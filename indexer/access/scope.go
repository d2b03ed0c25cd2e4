package access

import (
	"regexp"
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// maxScopes is the maximum number of scopes in one request for a token: 100. A client asks for
// one or two; the registry takes longer to check a token with more.
const maxScopes = 100

// Types and names in scopes. To list the repositories of the registry itself takes the action
// * on the catalogue, which includes names that a client may not see.
const (
	typeRepository = "repository"
	typeRegistry   = "registry"
	catalogue      = "catalog"
)

// class matches the end of a type with a class, as in repository(plugin), which is
// deprecated.
var class = regexp.MustCompile(`\([a-z0-9]*\)$`)

// ParseScopes parses the values of scope in a request for a token: each may have several
// scopes with spaces between them. A scope is TYPE:NAME:ACTIONS; the name may have colons.
// What is not a scope is left out, because a token server grants less rather than refuse.
func ParseScopes(values []string) (wanted []Access) {
	for _, value := range values {
		for text := range strings.FieldsSeq(value) {
			kind, rest, _ := strings.Cut(text, ":")
			i := strings.LastIndex(rest, ":")
			if i < 0 || len(wanted) == maxScopes {
				continue
			}
			actions := slices.Compact(slices.Sorted(strings.SplitSeq(rest[i+1:], ",")))
			wanted = append(wanted, Access{class.ReplaceAllString(kind, ""), rest[:i], actions})
		}
	}
	return wanted
}

// OfCatalogue is the access to the names of all repositories.
var OfCatalogue = Access{typeRegistry, catalogue, []string{"*"}}

func (a Access) isCatalogue() bool { return a.Type == typeRegistry && a.Name == catalogue }

// toSearch is the access to those names that a client may see.
var toSearch = Access{typeRegistry, catalogue, []string{"search"}}

// ToPull returns the access by which a repository is pulled.
func ToPull(repository string) Access { return Access{typeRepository, repository, []string{"pull"}} }

// ToChange returns the access by which manifests and tags of a repository are put and deleted.
func ToChange(repository string) Access {
	return Access{typeRepository, repository, []string{"pull", "push", "delete"}}
}

// Scope returns a in the form of ParseScopes.
func (a Access) Scope() string { return a.Type + ":" + a.Name + ":" + strings.Join(a.Actions, ",") }

// Grant returns the part of what a client wants that s may do. A client that wants nothing in
// particular may search: podman sends such a token to /v1/search. That does not say which
// repositories a Delegate lets its subject see, so a token for the catalogue names their
// projects instead, and there is none to search.
func (s Subject) Grant(wanted []Access) (granted []Access) {
	granted = []Access{}
	if len(wanted) == 0 && s.Asks == nil {
		return append(granted, toSearch)
	}
	for _, w := range wanted {
		var actions []string
		switch {
		case w.isCatalogue() && s.Asks != nil:
			granted = append(granted, s.Rules.toSee()...)
		case w.Type == typeRepository && indexer.IsRepository(w.Name):
			actions = ofRegistry(s.Allowed(w.Name), w.Actions)
		case w.isCatalogue():
			actions = toSearch.Actions
			if s.Asker() == indexer.Everyone && slices.Contains(w.Actions, "*") {
				actions = []string{"*"}
			}
		}
		if len(actions) > 0 {
			granted = append(granted, Access{w.Type, w.Name, actions})
		}
	}
	return granted
}

// toSee returns the access to what rules let a client see, by patterns. The registry knows no
// patterns: for it, no repository has such a name.
func (rules Rules) toSee() (all []Access) {
	for _, r := range rules {
		if r.Actions.Has(Pull) {
			all = append(all, ToPull(r.Pattern.String()))
		}
	}
	return all
}

// ofRegistry returns those of the wanted actions that are allowed. * wants all.
func ofRegistry(allowed Actions, wanted []string) (actions []string) {
	for _, a := range actionNames {
		if a.is != Admin && allowed.Has(a.is) && (slices.Contains(wanted, a.name) || slices.Contains(wanted, "*")) {
			actions = append(actions, a.name)
		}
	}
	return actions
}

// Narrow returns s with no more rights than a token for the registry has. One for the
// catalogue is for looking at everything that s may see.
func (s Subject) Narrow(token []Access) Subject {
	var scope Rules
	for _, a := range token {
		switch {
		case a.isCatalogue():
			scope = append(scope, Rule{Every, Pull})
		case a.Type == typeRepository:
			pattern, err := ParsePattern(a.Name)
			for _, n := range actionNames {
				if err == nil && slices.Contains(a.Actions, n.name) {
					scope = append(scope, Rule{pattern, n.is})
				}
			}
		}
	}
	if s.Narrowed {
		scope = scope.and(s.Scope)
	}
	s.Narrowed, s.Scope = true, scope
	return s
}

// Concern reports whether an access is about a repository.
func Concern(all []Access, repository string) bool {
	return slices.ContainsFunc(all, func(a Access) bool {
		return a.Type == typeRepository && a.Name == repository && len(a.Actions) > 0
	})
}
