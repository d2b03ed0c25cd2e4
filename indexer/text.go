package indexer

import "strings"

// CleanText makes text from outside fit for the database, which takes neither NUL
// nor invalid UTF-8 (SQLSTATE 22021): each becomes U+FFFD.
func CleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// LowerASCII returns s with the letters A to Z in lower case, as lower() of the
// database does under the collation "C".
func LowerASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}
