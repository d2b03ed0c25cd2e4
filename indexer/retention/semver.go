package retention

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// versionTag matches the tags that are versions as of semver.org, with or without a v before
// them: three numbers, each of which fits an int64, and a pre-release after a hyphen.
var versionTag = regexp.MustCompile(
	`^[vV]?(0|[1-9][0-9]{0,17})\.(0|[1-9][0-9]{0,17})\.(0|[1-9][0-9]{0,17})(?:-([0-9A-Za-z.-]+))?$`)

// A version is a semantic version.
type version struct {
	numbers [3]int64
	pre     string // the pre-release; "" for a release
}

// parseVersion returns the version that a tag names; false if it names none.
func parseVersion(tag string) (v version, ok bool) {
	match := versionTag.FindStringSubmatch(tag)
	if match == nil {
		return v, false
	}
	for i := range v.numbers {
		v.numbers[i], _ = strconv.ParseInt(match[i+1], 10, 64) // at most 18 digits
	}
	v.pre = match[4]
	return v, true
}

// compare orders versions as section 11 of semver.org says: a release comes after its
// pre-releases.
func (v version) compare(other version) int {
	if c := slices.Compare(v.numbers[:], other.numbers[:]); c != 0 {
		return c
	}
	switch {
	case v.pre == other.pre:
		return 0
	case v.pre == "":
		return 1
	case other.pre == "":
		return -1
	}
	return slices.CompareFunc(strings.Split(v.pre, "."), strings.Split(other.pre, "."), compareIdentifiers)
}

// compareIdentifiers compares parts of pre-releases: numbers as numbers, and before words.
func compareIdentifiers(a, b string) int {
	x, y := isNumber(a), isNumber(b)
	switch {
	case x && y:
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	case x:
		return -1
	case y:
		return 1
	}
	return cmp.Compare(a, b)
}

func isNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
