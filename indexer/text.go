package indexer

import "strings"

// CleanText makes text from outside fit for the database, which takes neither NUL
// nor invalid UTF-8 (SQLSTATE 22021): each becomes U+FFFD.
func CleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
