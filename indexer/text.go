package indexer

import (
	"strings"
	"unicode"
)

// CleanText replaces each NUL and each run of invalid UTF-8 by U+FFFD. PostgreSQL
// accepts neither (SQLSTATE 22021).
func CleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// LowerASCII returns s with the letters A to Z in lower case, like PostgreSQL's lower()
// with the collation "C".
func LowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// TextBefore returns a text after which, in bytewise order, the names and tags that begin
// with prefix come first: '~' is greater than every character of a name and of a tag.
func TextBefore(prefix string) string {
	if prefix == "" {
		return ""
	}
	last := len(prefix) - 1
	return prefix[:last] + string(rune(prefix[last]-1)) + "~"
}

// IsLine reports whether s is one line of text, which a page, a log and the database show as it
// is.
func IsLine(s string) bool {
	return s == CleanText(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
