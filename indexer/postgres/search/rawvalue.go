package search

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/portbook/portbook/indexer"
)

// A copy of a million repositories reads tens of millions of values of arrays and words.
// They are read from the binary format of PostgreSQL here, because pgx allocates memory for
// each and takes several times as long.

// rawValues returns the values of the present row from a column on. They must be in binary
// format.
func rawValues(rows pgx.Rows, from int) ([][]byte, error) {
	for _, f := range rows.FieldDescriptions()[from:] {
		if f.Format != pgtype.BinaryFormatCode {
			return nil, fmt.Errorf("PostgreSQL sends %s as text: remove default_query_exec_mode from the address of the database", f.Name)
		}
	}
	return rows.RawValues()[from:], nil
}

// elements returns the elements of an array in binary format, without nulls.
//
// The format is that of array_send in PostgreSQL's arrayfuncs.c: the numbers of dimensions
// and flags and the type, 4 bytes each; for each dimension its length and lower bound; for
// each element its length and value.
func elements(array []byte) iter.Seq[[]byte] {
	const header, dimension, length = 12, 8, 4
	return func(yield func([]byte) bool) {
		if len(array) < header+dimension { // an empty array has no dimension
			return
		}
		for rest := array[header+dimension:]; len(rest) >= length; {
			end := length + int(binary.BigEndian.Uint32(rest))
			if end > len(rest) || !yield(rest[length:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

// appendInt64s appends the elements of a bigint[].
func appendInt64s(to []int64, array []byte) []int64 {
	for value := range elements(array) {
		to = append(to, int64(binary.BigEndian.Uint64(value)))
	}
	return to
}

// A factReader reads arrays of facts. The same fact and the same array are in memory once:
// most images have the facts of many others.
type factReader struct {
	arrays map[string][]indexer.Fact // by their bytes
	facts  map[string]indexer.Fact
}

func newFactReader() *factReader {
	return &factReader{map[string][]indexer.Fact{}, map[string]indexer.Fact{}}
}

// read returns the facts in a text[].
func (r *factReader) read(array []byte) []indexer.Fact {
	facts, known := r.arrays[string(array)]
	if known {
		return facts
	}
	for text := range elements(array) {
		fact, known := r.facts[string(text)]
		if !known {
			fact = indexer.Fact(text)
			r.facts[string(fact)] = fact
		}
		facts = append(facts, fact)
	}
	r.arrays[string(array)] = facts
	return facts
}

// A wordReader reads tsvectors. Each word is in memory once.
type wordReader struct {
	known map[string]string
	at    []string // words by their place, while one tsvector is read
}

func newWordReader() *wordReader { return &wordReader{map[string]string{}, []string{""}} }

// read returns the words of a tsvector in binary format as memory.Row has them.
//
// The format is that of tsvectorsend in PostgreSQL's tsvector.c: the number of words, 4
// bytes; for each word its text, which ends with a 0, the number of its places, 2 bytes, and
// these, with a weight in the first 2 of 16 bits.
func (r *wordReader) read(vector []byte) []string {
	if len(vector) < 4 {
		return nil
	}
	last := 0
	var late []string // behind maxPlace; they are not part of a phrase
	for rest := vector[4:]; ; {
		text, places, ok := bytes.Cut(rest, []byte{0})
		if !ok || len(places) < 2 {
			break
		}
		word, known := r.known[string(text)]
		if !known {
			word = string(text)
			r.known[word] = word
		}
		n := int(binary.BigEndian.Uint16(places))
		rest = places[2:]
		for ; n > 0 && len(rest) >= 2; n, rest = n-1, rest[2:] {
			place := int(binary.BigEndian.Uint16(rest) & maxPlace)
			if place == maxPlace {
				late = append(late, "", word)
				continue
			}
			if place >= len(r.at) {
				r.at = append(r.at, make([]string, place+1-len(r.at))...)
			}
			r.at[place] = word
			last = max(last, place)
		}
	}
	words := slices.Clone(r.at[1 : last+1]) // places count from 1
	clear(r.at[:last+1])
	words = slices.CompactFunc(words, func(a, b string) bool { return a == "" && b == "" })
	return append(words, late...)
}
