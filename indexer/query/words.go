package query

import (
	"strings"
	"unicode"
)

// Words returns the words of text that are stored and searched for: in lower case,
// separated by anything that is neither letter nor digit, each once, in order.
func Words(text string) []string {
	var words []string
	seen := map[string]bool{}
	for _, w := range WordsInOrder(text) {
		if !seen[w] {
			seen[w] = true
			words = append(words, w)
		}
	}
	return words
}

// WordsInOrder is like Words but keeps repeated words, which a phrase needs.
func WordsInOrder(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), isSeparator)
}

func isSeparator(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
