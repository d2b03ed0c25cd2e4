package pesde

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Version is a version as of semver.org 2.0.0. Other than there, versions that differ only in
// their build metadata are two versions, as for pesde.
type Version struct {
	Major, Minor, Patch uint64
	Pre, Build          string // without - and +
}

// maxVersion is the maximum length of a version, in bytes: 100. With its target it must fit into a
// tag, which has at most 128.
const maxVersion = 100

// ParseVersion returns the version that a text such as 1.0.0-rc.1+build names.
func ParseVersion(s string) (v Version, err error) {
	if s == "" {
		return v, errors.New("empty string, expected a semver version")
	}
	if len(s) > maxVersion {
		return v, fmt.Errorf("the version has %d characters: it may have at most %d", len(s), maxVersion)
	}
	rest := s
	for _, part := range []struct {
		name   string
		number *uint64
		end    byte // after it; 0: the last number
	}{{"major", &v.Major, '.'}, {"minor", &v.Minor, '.'}, {"patch", &v.Patch, 0}} {
		if *part.number, rest, err = parseNumber(rest, part.name, part.end); err != nil {
			return Version{}, err
		}
	}
	rest, build, hasBuild := strings.Cut(rest, "+")
	if hasBuild {
		v.Build = build
		err = checkIdentifiers(build, "build metadata", false)
	}
	if err == nil && rest != "" {
		v.Pre = rest[1:]
		if err = checkIdentifiers(v.Pre, "pre-release identifier", true); rest[0] != '-' {
			err = fmt.Errorf("unexpected character %s after patch version number", quoted(rest))
		}
	}
	return v, err
}

// parseNumber parses the number at the begin of s and what must follow it.
func parseNumber(s, name string, end byte) (n uint64, rest string, err error) {
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	if digits > 1 && s[0] == '0' {
		return 0, "", fmt.Errorf("invalid leading zero in %s version number", name)
	}
	rest = s[digits:]
	switch {
	case digits == 0 && s == "":
		return 0, "", fmt.Errorf("unexpected end of input while parsing %s version number", name)
	case digits == 0:
		return 0, "", fmt.Errorf("unexpected character %s while parsing %s version number", quoted(s), name)
	case end != 0 && rest == "":
		return 0, "", fmt.Errorf("unexpected end of input while parsing %s version number", name)
	case end != 0 && rest[0] != end:
		return 0, "", fmt.Errorf("unexpected character %s after %s version number", quoted(rest), name)
	case end != 0:
		rest = rest[1:]
	}
	if n, err = strconv.ParseUint(s[:digits], 10, 64); err != nil {
		err = fmt.Errorf("value of %s version number exceeds u64::MAX", name)
	}
	return n, rest, err
}

// quoted returns the first character of s in quotes.
func quoted(s string) string {
	for _, r := range s {
		return strconv.QuoteRune(r)
	}
	return "''"
}

func checkIdentifiers(s, what string, leadingZero bool) error {
	for id := range strings.SplitSeq(s, ".") {
		switch {
		case id == "":
			return fmt.Errorf("empty identifier segment in %s", what)
		case strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "":
			return fmt.Errorf("unexpected character in %s", what)
		case leadingZero && len(id) > 1 && id[0] == '0' && isNumber(id):
			return fmt.Errorf("invalid leading zero in %s", what)
		}
	}
	return nil
}

func isNumber(s string) bool { return strings.Trim(s, "0123456789") == "" }

// String returns the version as it is written.
func (v Version) String() string {
	s := fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch)
	if v.Pre != "" {
		s += "-" + v.Pre
	}
	if v.Build != "" {
		s += "+" + v.Build
	}
	return s
}

// Compare returns -1, 0 or 1 if v comes before w, is w, or comes after it. Build metadata decide
// last.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor), cmp.Compare(v.Patch, w.Patch),
		comparePre(v.Pre, w.Pre), compareBuild(v.Build, w.Build))
}

func comparePre(a, b string) int {
	if a == "" || b == "" {
		return -cmp.Compare(a, b) // a release comes after its pre-releases
	}
	return slices.CompareFunc(strings.Split(a, "."), strings.Split(b, "."), compareIdentifiers)
}

func compareBuild(a, b string) int {
	if a == "" || b == "" {
		return cmp.Compare(a, b) // none comes before any
	}
	return slices.CompareFunc(strings.Split(a, "."), strings.Split(b, "."), compareIdentifiers)
}

// compareIdentifiers compares parts of a pre-release or of build metadata: numbers as numbers, and
// before words; of equal numbers, such as 0 and 00 in build metadata, the shorter comes first.
func compareIdentifiers(a, b string) int {
	x, y := isNumber(a), isNumber(b)
	switch {
	case x && y:
		p, q := strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		return cmp.Or(cmp.Compare(len(p), len(q)), cmp.Compare(p, q), cmp.Compare(len(a), len(b)))
	case x:
		return -1
	case y:
		return 1
	}
	return cmp.Compare(a, b)
}

// comparator is one part of a requirement as Rust's semver reads it: an operator, and a version of
// which the end may be missing, or a wildcard.
var comparator = regexp.MustCompile(`^ *(?:[<>]=?|[=~^])? *(?:0|[1-9][0-9]{0,19})` +
	`(?:\.(?:[*xX](?:\.[*xX])?|(?:0|[1-9][0-9]{0,19})(?:\.(?:[*xX]|(?:0|[1-9][0-9]{0,19})` +
	`(?:-` + preID + `(?:\.` + preID + `)*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?))?))? *$`)

// preID is a part of a pre-release: a number without a zero before it, or a word.
const preID = `(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)`

// maxComparators is the maximum number of comparators in a requirement: 32, as in Rust's semver.
const maxComparators = 32

// checkRequirement returns an error unless s is a requirement of versions, such as ^1.2.0 or
// >=1, <3.
func checkRequirement(s string) error {
	if t := strings.Trim(s, " "); t == "*" || t == "x" || t == "X" {
		return nil
	}
	all := strings.Split(s, ",")
	for i, c := range all {
		if i >= maxComparators || len(c) > 2*maxVersion || !comparator.MatchString(c) || hasHuge(c) {
			return fmt.Errorf("`%s` is not a version requirement, such as ^1.2.0", shorten(s))
		}
	}
	return nil
}

var numbers = regexp.MustCompile(`[0-9]{20,}`)

// hasHuge reports whether s has a number above the largest uint64.
func hasHuge(s string) bool {
	s, _, _ = strings.Cut(s, "-")
	for _, n := range numbers.FindAllString(s, -1) {
		if _, err := strconv.ParseUint(n, 10, 64); err != nil {
			return true
		}
	}
	return false
}
