package indexer

import (
	"strings"
	"unicode/utf8"
)

// MatchGlob reports whether a text matches a glob, as the function that Glob returns, but
// without preparation: for globs that are used once. Its time is at most proportional to the
// product of their lengths.
func MatchGlob(glob, text string) bool {
	star, from := -1, 0 // the last * and where its match ends
	i, j := 0, 0
	for j < len(text) {
		switch {
		case i < len(glob) && glob[i] == '*':
			star, from = i, j
			i++
		case i < len(glob) && glob[i] == '?':
			i++
			j += first(text[j:])
		case i < len(glob) && glob[i] == text[j]:
			i++
			j++
		case star >= 0:
			from += first(text[from:])
			i, j = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(glob[i:], "*") == ""
}

// first returns the length of the first character, in bytes.
func first(text string) int {
	_, size := utf8.DecodeRuneInString(text)
	return size
}
