// Package query is the language of searches: it reads a query from text, completes
// one that is being typed, and adds and removes terms. doc/search.md describes the
// language for its users.
//
// A Query is a value; what it selects is up to the store.
package query

import "time"

const (
	// MaxLength is the most bytes of a search query: 1,024, room for a
	// dozen conditions and a digest or two. It protects the parser and the logs.
	MaxLength = 1024
	// MaxTerms is the most terms of a query: 32. More only cost the database
	// time.
	MaxTerms = 32
	// MinDigits is the least of a digest that it can be found by: 6, of which
	// there are 16 million; docker shows 12.
	MinDigits = 6
	// MaxStars is how many stars a pattern may have: 8, twice what anybody has a use
	// for. Each makes the comparison with a text longer.
	MaxStars = 8
	// MaxNumber is the largest number in a query: 2^53, up to where a JSON
	// number is exact everywhere.
	MaxNumber = 1 << 53
	// MaxPage is the most results in one answer: 100, what the docker client
	// may ask for (moby daemon/pkg/registry/search.go).
	MaxPage = 100
	// MaxOffset is how deep ranked results can be paged: 1,000. Each page costs
	// as much as all pages before it.
	MaxOffset = 1000
)

// MaxTotal is up to where results are counted exactly: 10,000. Beyond, the
// number says "at least", and nobody pages there.
const MaxTotal = 10_000

// A Query asks for repositories: every clause must hold. Parse reads it
// from text.
type Query struct {
	Text    string   // as typed, trimmed
	Clauses []Clause // none: everything
	Name    string   // what it would be as a name: lower case, words that stand alone joined by "-"; "" if it is none
	Sort    Sort
	Limit   int    // 1 to MaxPage
	Offset  int    // 0 to MaxOffset
	After   string // of SortName: only names behind this one, and they are not counted
}

// Page gives q for one page of results, limit and offset brought into their
// bounds.
func (q Query) Page(limit, offset int) Query {
	q.Limit, q.Offset = min(max(limit, 1), MaxPage), min(max(offset, 0), MaxOffset)
	return q
}

// AgeFrom is the moment that the first age in q ("created:<30d") reaches back to,
// zero if there is none. Of one text it tells apart the minutes in which it was
// read, and so what it asks for.
func (q Query) AgeFrom() time.Time {
	for _, c := range q.Clauses {
		for _, t := range c {
			if t.Age {
				return t.From
			}
		}
	}
	return time.Time{}
}

// A Sort is an order of results. The zero one is by relevance, and by the latest
// change where a query has no words.
type Sort string

const (
	SortRelevance Sort = ""
	SortName      Sort = "name"
	SortUpdated   Sort = "updated" // latest first
	SortSize      Sort = "size"    // largest first
	SortPulls     Sort = "pulls"   // most first
)

// A Clause holds if any of its terms does.
type Clause []Term

// A Term is one condition. The clauses of which every term is about images (tag
// to pushed) and none is negated must hold for one and the same image: a tagged
// one of the repository, or one in a tagged image index of it.
type Term struct {
	Not   bool // the repository must have nothing for which the rest holds
	Field Field

	// Of FieldText: lower-case words, all of which must be there.
	Words  []string
	Phrase bool   // one behind the other
	Prefix bool   // the last may be the beginning of a longer word
	Tag    string // and this tag, for a pasted "name:tag"; else ""

	Name   string // of the label or annotation; * stands for any characters
	Value  string // the same; of a digest "sha256:" and its first digits
	Valued bool   // a label or annotation must have Value, not only be there

	Compare  Comparison // of size, layers, created and pushed
	Number   int64      // bytes or layers
	From, To time.Time  // the span that a date names, To not in it; both the same for a moment
	Age      bool       // whether From is counted from the present
}

// A Comparison is an operator between a field and a number or time.
type Comparison string

const (
	Equal   Comparison = "="
	Above   Comparison = ">"
	AtLeast Comparison = ">="
	Below   Comparison = "<"
	AtMost  Comparison = "<="
)
