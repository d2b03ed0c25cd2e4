package indexer

import (
	"slices"
	"strings"
)

// A Visibility is the set of repositories that an asker may see. The zero Visibility is
// empty.
type Visibility struct {
	all      bool
	patterns []string
}

// AllVisible is the visibility of an asker who sees every repository.
var AllVisible = Visibility{all: true}

// VisibleNames returns the visibility of an asker who sees the repositories whose names
// match one of the patterns: * stands for any characters, ? for one. Names have no line
// feed, and a pattern with one matches none.
func VisibleNames(patterns ...string) Visibility {
	if slices.Contains(patterns, "*") {
		return AllVisible
	}
	patterns = slices.DeleteFunc(slices.Clone(patterns), func(p string) bool { return strings.Contains(p, "\n") })
	slices.Sort(patterns)
	return Visibility{patterns: slices.Compact(patterns)}
}

// All reports whether every repository is visible, also those that come later.
func (v Visibility) All() bool { return v.all }

// Patterns returns the patterns of the names that are visible, sorted. If All, there are
// none.
func (v Visibility) Patterns() []string { return slices.Clone(v.patterns) }

// Sees reports whether the repository of a name is visible.
func (v Visibility) Sees(name string) bool {
	return v.all || slices.ContainsFunc(v.patterns, func(p string) bool { return MatchGlob(p, name) })
}

// SeesAll reports whether every repository below a path is visible, also those that come later.
func (v Visibility) SeesAll(path string) bool {
	return v.all || slices.ContainsFunc(v.patterns, func(p string) bool {
		below, many := strings.CutSuffix(p, "/*")
		return many && !strings.ContainsAny(below, "*?") && strings.HasPrefix(path+"/", below+"/")
	})
}
