package memory

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/portbook/portbook/indexer/query"
)

// The words of a document in order are a text of numbers: for each word 1 + its place in the
// dictionary of the segment, and 0 where a word does not follow the one before, as between
// the name and the title. Numbers have the format of encoding/binary's Uvarint, whose bytes
// are 0x80 or more except for the last one. So a phrase can be found as a substring.

// textOf returns words in order as a text, without those that already follow each other so
// in an earlier place: the description of many images is also in a label. Numbers of words
// are 1 + a key of place, and 0 is where a word does not follow the one before.
func textOf(numbers, place []uint32) string {
	var text, part []byte // part is what follows the last 0
	add := func() {
		if indexNumbers(string(text), string(part), 0) >= 0 {
			return
		}
		if len(text) > 0 {
			text = append(text, 0)
		}
		text = append(text, part...)
	}
	for _, n := range numbers {
		if n > 0 {
			part = binary.AppendUvarint(part, uint64(place[n-1]+1))
			continue
		}
		add()
		part = part[:0]
	}
	add()
	return string(text)
}

// indexNumbers returns where some numbers, one after the other, are in a text for the first
// time from a place on, or -1.
func indexNumbers(text, numbers string, from int) int {
	for {
		i := strings.Index(text[from:], numbers)
		if i < 0 {
			return -1
		}
		if at := from + i; at == 0 || text[at-1] < 0x80 { // else it begins within a number
			return at
		}
		from += i + 1
	}
}

// firstNumber returns the first number of a text and its length in bytes, 0 if the text is
// empty.
func firstNumber(text string) (number uint32, length int) {
	for i := range len(text) {
		number |= uint32(text[i]&0x7f) << (7 * i)
		if text[i] < 0x80 {
			return number, i + 1
		}
	}
	return 0, 0
}

// wordsOf returns the words of a document in order, as Row.Words has them.
func (s *segment) wordsOf(d uint16) (words []string) {
	for text := s.inOrder.at(int(d)); text != ""; {
		number, length := firstNumber(text)
		text = text[length:]
		word := ""
		if number > 0 {
			word = s.words.at(int(number - 1))
		}
		words = append(words, word)
	}
	return words
}

// isFrequent reports whether a word is in so many documents that it takes too long to look
// into the text of each: more than 1/64, at least 64.
func (s *segment) isFrequent(word int) bool { return s.inAll.count(word) > max(s.len()/64, 64) }

// A pair is two numbers of frequent words, the second of which follows the first.
type pair struct{ first, second uint32 }

func comparePairs(a, b pair) int {
	return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.second, b.second))
}

// addPairs fills the pairs of frequent words.
func (s *segment) addPairs() {
	frequent := make([]bool, 1+s.words.len()) // by number
	for word := range s.words.len() {
		frequent[1+word] = s.isFrequent(word)
	}
	numbers := newNumbering[pair]()
	of := make([][]uint32, s.len())
	for d := range of {
		before := uint32(0)
		for text := s.inOrder.at(d); text != ""; {
			number, length := firstNumber(text)
			if frequent[before] && frequent[number] {
				of[d] = append(of[d], numbers.number(pair{before, number}))
			}
			before, text = number, text[length:]
		}
		of[d] = sortedUnique(of[d])
	}
	pairs, place := numbers.sorted(comparePairs)
	s.pairs, s.withPair = pairs, listsOf(of, place)
}

// A phrase is several words that must follow each other.
type phrase struct {
	words     []uint32 // the numbers of all but the last
	head      string   // the same as a text
	low, high uint32   // the numbers of words that may be the last: low <= number < high
}

// phraseOf returns the phrase of a term. It reports false if no document has all its words.
func (s *segment) phraseOf(t query.Term) (p phrase, ok bool) {
	last := len(t.Words) - 1
	var head []byte
	for _, w := range t.Words[:last] {
		word, found := s.words.search(cutWord(w))
		if !found {
			return phrase{}, false
		}
		p.words = append(p.words, uint32(word)+1)
		head = binary.AppendUvarint(head, uint64(word)+1)
	}
	low, high := s.wordRange(t, last)
	p.head, p.low, p.high = string(head), uint32(low)+1, uint32(high)+1
	return p, low < high
}

// in reports whether the phrase is somewhere in a text.
func (p phrase) in(text string) bool {
	for at := indexNumbers(text, p.head, 0); at >= 0; at = indexNumbers(text, p.head, at+1) {
		if number, _ := firstNumber(text[at+len(p.head):]); number >= p.low && number < p.high {
			return true
		}
	}
	return false
}

// pairs returns the pairs of words of the phrase, without that of the last word if it may be
// one of several.
func (p phrase) pairs() (pairs []pair) {
	words := p.words
	if p.high == p.low+1 {
		words = append(slices.Clip(words), p.low)
	}
	for i := range words[1:] {
		pairs = append(pairs, pair{words[i], words[i+1]})
	}
	return pairs
}

// keepPhrase removes from a set the documents without the phrase of a term. If inName is
// true, it must be in the name, which is the first text.
func (e *evaluation) keepPhrase(docs set, t query.Term, inName bool) {
	p, ok := e.phraseOf(t)
	if !ok {
		clear(docs)
		return
	}
	listed := 0 // pairs
	pairs := p.pairs()
	for _, pair := range pairs {
		if !e.isFrequent(int(pair.first-1)) || !e.isFrequent(int(pair.second-1)) {
			continue
		}
		with := e.empty()
		if place, found := slices.BinarySearchFunc(e.segment.pairs, pair, comparePairs); found {
			e.withPair.addTo(with, place)
		}
		docs.and(with)
		e.scratch.release(with)
		listed++
	}
	if listed == 1 && len(t.Words) == 2 && !inName {
		return // a pair is the whole phrase
	}
	for d := range docs.all() {
		text := e.inOrder.at(int(d))
		if inName {
			text, _, _ = strings.Cut(text, "\x00")
		}
		if !p.in(text) {
			docs.remove(d)
		}
	}
}
