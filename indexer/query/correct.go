package query

import "strings"

const (
	// minCorrected is the minimum length of a word that is corrected: 3 letters. Any two
	// words of two letters are similar.
	minCorrected = 3
	// maxCorrected is the maximum length of a word that is corrected: 40. A longer one is
	// a digest or the like.
	maxCorrected = 40
	// Two mistakes are corrected in words of at least minCorrectedTwice letters: 8. In a
	// shorter word they make a different word.
	minCorrectedTwice = 8
	// maxCorrectedWords is the maximum number of words of a query that are corrected: 8,
	// of at most 32. Each is compared with all words of names.
	maxCorrectedWords = 8
)

// Correctable returns the free words of q that may be misspelt, each as a term: it is
// misspelt if no repository has the word or, if Prefix is set, a longer one.
func (q Query) Correctable() (terms []Term) {
	words, prefix := q.FreeWords()
	for _, w := range words[:min(len(words), maxCorrectedWords)] {
		terms = append(terms, Term{Words: []string{w}, Prefix: w == prefix})
	}
	return terms
}

// Corrected returns the text of q in which the nearest word of names replaces each of
// the misspelt words, with at most the given number of mistakes in each, 1 or 2. It
// returns "" if there are no misspelt words, or if one of them is near no word of names.
//
// near returns the words in the names of repositories whose indexer.EditDistance from a
// word is at most edits, each with the number of names that have it.
func (q Query) Corrected(misspelt []string, mistakes int, near func(word string, edits int) map[string]int) string {
	corrected := q
	for _, w := range misspelt {
		nearest := nearestWord(w, mistakes, near)
		if nearest == "" {
			return ""
		}
		corrected = corrected.WithWord(w, nearest)
	}
	if corrected.Text == q.Text {
		return ""
	}
	return corrected.Text
}

// nearestWord returns the word of names with the fewest mistakes; of those the most
// frequent one; of those the first by name. It returns "" if all have too many mistakes.
func nearestWord(word string, mistakes int, near func(word string, edits int) map[string]int) (nearest string) {
	if len(word) < minCorrectedTwice {
		mistakes = 1
	}
	for edits := 1; edits <= mistakes && nearest == "" && mayBeCorrected(word); edits++ {
		most := 0
		for w, n := range near(word, edits) {
			if mayBeCorrected(w) && (n > most || n == most && w < nearest) {
				nearest, most = w, n
			}
		}
	}
	return nearest
}

// mayBeCorrected reports whether a word may be misspelt, or be the correction of one
// that is: numbers are never.
func mayBeCorrected(word string) bool {
	return len(word) >= minCorrected && len(word) <= maxCorrected && strings.Trim(word, "0123456789") != ""
}
