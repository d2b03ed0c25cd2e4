package indexer

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// LeadingTag returns the tag that represents a repository: latest, else the highest
// version, those without a suffix ("-rc1", "-alpine") before others, else the tag that
// moved last. Tags of referrers and tags without a manifest are left out; LeadingTag
// returns "" if there are no others.
//
// The store decides it in SQL, when a tag moves: leadingOrder in postgres/search is the
// same rule, and a test compares the two.
func LeadingTag(tags []Tag) string {
	tags = slices.DeleteFunc(slices.Clone(tags), func(t Tag) bool { return t.Digest == "" || IsReferrerTag(t.Name) })
	if len(tags) == 0 {
		return ""
	}
	return slices.MaxFunc(tags, compareLeading).Name
}

// compareLeading returns a positive number if a leads before b.
func compareLeading(a, b Tag) int {
	x, y := versionOf(a.Name), versionOf(b.Name)
	return cmp.Or(cmp.Compare(x.class, y.class), slices.Compare(x.numbers, y.numbers), cmp.Compare(x.suffix, y.suffix),
		a.MovedAt.Compare(b.MovedAt), cmp.Compare(a.Name, b.Name))
}

// VersionPattern matches the tags that are versions, for LeadingTag: the numbers of the
// version, each of which fits an int64, and its suffix. It is a regular expression for
// Go and for PostgreSQL.
const VersionPattern = `^[vV]?([0-9]{1,18}(?:\.[0-9]{1,18})*)(?:[._-](.*))?$`

var versionNumbers = regexp.MustCompile(VersionPattern)

// A tagVersion is the version that a tag names.
type tagVersion struct {
	class   int // 3 for latest, 2 for a version, 1 for a version with a suffix, 0 for other names
	numbers []int64
	suffix  string
}

func versionOf(tag string) (v tagVersion) {
	if tag == "latest" {
		return tagVersion{class: 3}
	}
	match := versionNumbers.FindStringSubmatchIndex(tag)
	if match == nil {
		return tagVersion{}
	}
	if v.class = 2; match[4] >= 0 {
		v.class, v.suffix = 1, tag[match[4]:match[5]]
	}
	for _, digits := range strings.Split(tag[match[2]:match[3]], ".") {
		n, _ := strconv.ParseInt(digits, 10, 64) // at most 18 digits
		v.numbers = append(v.numbers, n)
	}
	return v
}

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
// oldest, then other names. Unlike LeadingTag, it lists 2.0-rc1 before 1.9.
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
