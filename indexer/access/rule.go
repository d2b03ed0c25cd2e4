package access

import (
	"strings"

	"github.com/portbook/portbook/indexer"
)

// A Pattern selects repositories by name: all of them, those below a path, or one. Of two
// patterns that select a common repository, one always selects all that the other does.
type Pattern struct{ text string } // "*", "team/*" or "team/app"

// Every is the pattern of all repositories.
var Every = Pattern{"*"}

// ParsePattern parses a pattern: * for all repositories, team/* for all below team, or the
// name of one.
func ParsePattern(text string) (Pattern, error) {
	path, below := strings.CutSuffix(text, "/*")
	if text != "*" && !indexer.IsRepository(path) {
		if below || !strings.Contains(text, "*") {
			return Pattern{}, indexer.InvalidRepository(path)
		}
		return Pattern{}, indexer.Invalid("%.64q is not a pattern of repositories: write * for all, team/* for those below"+
			" team, or one name", text)
	}
	return Pattern{text}, nil
}

func (p Pattern) String() string { return p.text }

// Selects reports whether p selects a repository.
func (p Pattern) Selects(repository string) bool {
	path, many := strings.CutSuffix(p.text, "*")
	if many {
		return strings.HasPrefix(repository, path)
	}
	return repository == p.text
}

// and returns the pattern of what both p and other select; false if that is nothing.
func (p Pattern) and(other Pattern) (Pattern, bool) {
	switch {
	case p.Includes(other):
		return other, true
	case other.Includes(p):
		return p, true
	}
	return Pattern{}, false
}

// Includes reports whether p selects all that other selects.
func (p Pattern) Includes(other Pattern) bool {
	path, many := strings.CutSuffix(p.text, "*")
	if many {
		return strings.HasPrefix(other.text, path)
	}
	return p == other
}

// A Rule allows actions in the repositories of a pattern.
type Rule struct {
	Pattern Pattern
	Actions Actions
}

// ParseRule parses a rule in the form of String: a pattern, a colon and actions, as in
// team/*:pull,push.
func ParseRule(text string) (r Rule, err error) {
	pattern, actions, found := strings.Cut(text, ":")
	if !found {
		return r, indexer.Invalid("%.64q is not a rule: write a pattern of repositories, a colon and actions, as in"+
			" team/*:pull,push", text)
	}
	if r.Pattern, err = ParsePattern(pattern); err != nil {
		return r, err
	}
	r.Actions, err = ParseActions(actions)
	return r, err
}

func (r Rule) String() string { return r.Pattern.String() + ":" + r.Actions.String() }

// Rules allow what any of them allows.
type Rules []Rule

// allowed returns what rules allow in a repository.
func (rules Rules) allowed(repository string) (all Actions) {
	for _, r := range rules {
		if r.Pattern.Selects(repository) {
			all |= r.Actions
		}
	}
	return all
}

// and returns rules that allow what both lists allow.
func (rules Rules) and(others Rules) (both Rules) {
	for _, r := range rules {
		for _, o := range others {
			if p, some := r.Pattern.and(o.Pattern); some {
				both = append(both, Rule{p, r.Actions & o.Actions})
			}
		}
	}
	return both
}

// pulls returns the names in which rules allow Pull.
func (rules Rules) pulls() indexer.Visibility {
	var patterns []string
	for _, r := range rules {
		if r.Actions.Has(Pull) {
			patterns = append(patterns, r.Pattern.String())
		}
	}
	return indexer.VisibleNames(patterns...)
}
