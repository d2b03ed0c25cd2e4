package pesde

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Target is the environment that a package is for.
type Target string

// The targets, in their order.
const (
	Roblox       Target = "roblox"
	RobloxServer Target = "roblox_server"
	Lune         Target = "lune"
	Luau         Target = "luau"
)

// Targets are all targets, in their order.
var Targets = []Target{Roblox, RobloxServer, Lune, Luau}

// ParseTarget returns the target of that name.
func ParseTarget(s string) (Target, error) {
	if !slices.Contains(Targets, Target(s)) {
		return "", fmt.Errorf("unknown target kind %s", shorten(s))
	}
	return Target(s), nil
}

// Compare returns -1, 0 or 1 if t comes before u, is u, or comes after it. Texts that are not
// targets come last, in the order of their letters.
func (t Target) Compare(u Target) int {
	i, j := slices.Index(Targets, t), slices.Index(Targets, u)
	if i < 0 || j < 0 {
		return cmp.Or(-cmp.Compare(min(i, 0), min(j, 0)), cmp.Compare(t, u))
	}
	return cmp.Compare(i, j)
}

func (t Target) isRoblox() bool { return t == Roblox || t == RobloxServer }

// An ID is one version of a package for one target.
type ID struct {
	Version Version
	Target  Target
}

// ParseID returns the ID that a text such as "1.0.0 luau" is, as it stands in a package file.
func ParseID(s string) (id ID, err error) {
	version, target, ok := strings.Cut(s, " ")
	if !ok {
		return id, errors.New("no target after the version")
	}
	if id.Version, err = ParseVersion(version); err == nil {
		id.Target, err = ParseTarget(target)
	}
	return id, err
}

// String returns the ID as it stands in a package file and in messages.
func (id ID) String() string { return id.Version.String() + " " + string(id.Target) }

// Compare orders by version, then by target.
func (id ID) Compare(other ID) int {
	return cmp.Or(id.Version.Compare(other.Version), id.Target.Compare(other.Target))
}

// Tag returns the tag of the artifact in the registry: the version, in which + is written as _,
// two more _ and the target. A version has no _, so no two IDs have one tag.
func (id ID) Tag() string {
	return strings.ReplaceAll(id.Version.String(), "+", "_") + "__" + string(id.Target)
}

// ParseTag returns the ID of which s is the tag; false if it is the tag of none.
func ParseTag(tag string) (ID, bool) {
	version, target, ok := strings.Cut(tag, "__")
	if !ok {
		return ID{}, false
	}
	v, err := ParseVersion(strings.ReplaceAll(version, "_", "+"))
	if err != nil {
		return ID{}, false
	}
	t, err := ParseTarget(target)
	id := ID{v, t}
	return id, err == nil && id.Tag() == tag
}
