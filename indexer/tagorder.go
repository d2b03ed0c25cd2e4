package indexer

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// VersionTagPattern matches the tags that look like versions, such as "1.25-alpine" and
// "v2". It is a regular expression for Go and for PostgreSQL.
const VersionTagPattern = "^[vV]?[0-9]+([._-]|$)"

var versionTag = regexp.MustCompile(VersionTagPattern)

// tagClass returns the rank of a tag: 0 for "latest", 1 for versions, 2 for other
// names, 3 for the tags on which older tools keep signatures.
func tagClass(tag string) int {
	switch {
	case tag == "latest":
		return 0
	case IsReferrerTag(tag):
		return 3
	case versionTag.MatchString(tag):
		return 1
	}
	return 2
}

// CompareTags orders tags for people: latest, then versions from the newest to the
// oldest, then other names.
func CompareTags(a, b string) int {
	class := tagClass(a)
	if c := cmp.Compare(class, tagClass(b)); c != 0 {
		return c
	}
	if class == 1 {
		return cmp.Or(compareNatural(strings.TrimLeft(b, "vV"), strings.TrimLeft(a, "vV")), cmp.Compare(a, b))
	}
	return cmp.Or(compareNatural(a, b), cmp.Compare(a, b))
}

// SortTags sorts tags by CompareTags.
func SortTags(tags []Tag) {
	slices.SortFunc(tags, func(a, b Tag) int { return CompareTags(a.Name, b.Name) })
}

// compareNatural compares texts in runs of digits and runs of other characters.
// Digits are compared as numbers, other characters bytewise.
func compareNatural(a, b string) int {
	for a != "" && b != "" {
		x, y := firstRun(a), firstRun(b)
		a, b = a[len(x):], b[len(y):]
		if x == y {
			continue
		}
		if isDigit(x[0]) && isDigit(y[0]) {
			if c := compareDigits(x, y); c != 0 {
				return c
			}
			continue
		}
		return cmp.Compare(x, y)
	}
	return cmp.Compare(rankRest(a), rankRest(b))
}

// firstRun returns the digits at the start of s, or everything before the first digit.
func firstRun(s string) string {
	digits := isDigit(s[0])
	end := strings.IndexFunc(s, func(r rune) bool { return (r < 0x80 && isDigit(byte(r))) != digits })
	if end < 0 {
		return s
	}
	return s[:end]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// compareDigits compares numbers of any length.
func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// rankRest ranks the remainder of a tag after the end of the other one: 1.0.1 is later
// than 1.0, but 1.0-rc1 and 1.0-alpine are earlier.
func rankRest(s string) int {
	switch {
	case s == "":
		return 1
	case s[0] == '.', s[0] == '_':
		return 2
	}
	return 0
}
