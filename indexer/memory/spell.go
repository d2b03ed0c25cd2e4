package memory

import (
	"slices"

	"github.com/portbook/portbook/indexer"
)

// Knows reports whether any repository that the asker may see has a word or, if prefix is
// true, a word that begins with it.
func (st *State) Knows(v indexer.Visibility, word string, prefix bool) (known bool) {
	word = cutWord(word)
	st.eachPart(v, func(p part, seen set) {
		low, found := p.words.search(word)
		high := low
		if found {
			high++
		}
		if prefix {
			_, high = p.words.from(word)
		}
		for i := low; i < high && !known; i++ {
			known = p.inAll.countIn(seen, i) > 0
		}
	})
	return known
}

// Near returns the words in names that differ from a word by at most a number of edits,
// with the number of repositories that have each in their name and that the asker may see.
// An edit adds, leaves out or changes a letter, or swaps two neighbours.
func (st *State) Near(v indexer.Visibility, word string, edits int) map[string]int {
	near := map[string]int{}
	st.eachPart(v, func(p part, seen set) {
		p.words.near(word, edits, func(i int) {
			if n := p.inName.countIn(seen, i); n > 0 {
				near[p.words.at(i)] += n
			}
		})
	})
	return near
}

// near calls f for each of the sorted texts whose indexer.EditDistance from a word is at
// most edits.
//
// It fills the usual table of distances between beginnings, a row for each letter of a
// text, and keeps the rows that a text shares with the one before. As soon as a row has no
// distance within the limit, all texts with that beginning are skipped. So of 50,000 words
// it looks at some hundred letters for one edit and some thousand for two.
func (t *texts) near(word string, edits int, f func(i int)) {
	rows := [][]int{make([]int, len(word)+1)} // rows[n] has the distances of the first n letters
	for j := range rows[0] {
		rows[0][j] = j
	}
	before := ""
	for i := 0; i < t.len(); {
		text := t.at(i)
		n := commonPrefix(before, text)
		n = min(n, len(rows)-1)
		rows = rows[:n+1]
		for n < len(text) && slices.Min(rows[n]) <= edits {
			n++
			rows = nextRow(rows, text[:n], word)
		}
		before = text[:n]
		if slices.Min(rows[n]) > edits {
			i, _ = t.search(before + afterAll)
			continue
		}
		if rows[n][len(word)] <= edits {
			f(i)
		}
		i++
	}
}

func commonPrefix(a, b string) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// nextRow appends the row of the last letter to rows, reusing its memory.
func nextRow(rows [][]int, letters, word string) [][]int {
	n := len(rows)
	if n < cap(rows) {
		rows = rows[:n+1]
	} else {
		rows = append(rows, nil)
	}
	if rows[n] == nil {
		rows[n] = make([]int, len(word)+1)
	}
	row, before, last := rows[n], rows[n-1], letters[n-1]
	row[0] = n
	for j := range len(word) {
		cost := 1
		if word[j] == last {
			cost = 0
		}
		row[j+1] = min(before[j]+cost, before[j+1]+1, row[j]+1)
		if n > 1 && j > 0 && last == word[j-1] && letters[n-2] == word[j] {
			row[j+1] = min(row[j+1], rows[n-2][j-1]+1)
		}
	}
	return rows
}
