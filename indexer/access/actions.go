package access

import (
	"strings"

	"github.com/portbook/portbook/indexer"
)

// Actions are what may be done with a repository.
type Actions uint8

// Each of these but Pull includes Pull: a client that pushes or deletes looks first at what
// is there. Admin includes all.
const (
	Pull   Actions = 1
	Push           = 2 | Pull
	Delete         = 4 | Pull
	Admin          = 8 | Push | Delete
)

// actionNames are the names of actions, in the order in which they are written.
var actionNames = []struct {
	name string
	is   Actions
}{{"pull", Pull}, {"push", Push}, {"delete", Delete}, {"admin", Admin}}

// ParseActions parses names of actions, separated by commas.
func ParseActions(text string) (all Actions, err error) {
	for name := range strings.SplitSeq(text, ",") {
		found := false
		for _, a := range actionNames {
			if a.name == strings.TrimSpace(name) {
				all |= a.is
				found = true
			}
		}
		if !found {
			return 0, indexer.Invalid("%.32q is not an action: write pull, push, delete or admin, or several with commas"+
				" between them", name)
		}
	}
	return all, nil
}

// Has reports whether a includes all of b.
func (a Actions) Has(b Actions) bool { return a&b == b }

// Names returns the names of the actions that a includes.
func (a Actions) Names() (names []string) {
	for _, n := range actionNames {
		if a.Has(n.is) {
			names = append(names, n.name)
		}
	}
	return names
}

// String returns a in the form of ParseActions.
func (a Actions) String() string { return strings.Join(a.Names(), ",") }
