// Package query is the language of searches: it parses queries, completes a query
// that is being typed, and adds and removes terms. doc/search.md describes the
// language for its users.
//
// A Query is a value. What it finds is up to the store.
package query

import "time"

// Limits of one answer.
const (
	// MaxPage is the most results in one answer: 100, the most that the docker
	// client asks for (moby daemon/pkg/registry/search.go).
	MaxPage = 100
	// MaxOffset is the largest offset of a page of ranked results: 1,000. A page
	// costs as much as all pages before it.
	MaxOffset = 1000
	// MaxTotal is the most results that are counted in the database: 10,000, since
	// nobody pages that far. In memory all are counted.
	MaxTotal = 10_000
)

// A Query asks for the repositories for which every clause holds.
type Query struct {
	Text    string   // as typed, trimmed
	Clauses []Clause // none: all repositories
	Name    string   // the free words as a repository name, lower case, joined by "-"; "" if there are none
	Sort    Sort
	Limit   int    // 1 to MaxPage
	Offset  int    // 0 to MaxOffset
	After   string // with SortName: only names after this one, and no total

	// Unlisted finds repositories too that are unlisted, whatever the clauses are: see
	// Query.Effective.
	Unlisted bool
}

// Page returns q with limit and offset moved into their bounds.
func (q Query) Page(limit, offset int) Query {
	q.Limit, q.Offset = min(max(limit, 1), MaxPage), min(max(offset, 0), MaxOffset)
	return q
}

// AgeFrom returns the time that the first age in q ("created:<30d") stands for, or
// the zero time if q has no age. Two queries with the same Text and the same
// AgeFrom ask for the same.
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

// A Sort is an order of results. The zero value sorts by relevance, or by the
// latest change if the query has no words.
type Sort string

const (
	SortRelevance Sort = ""
	SortName      Sort = "name"
	SortUpdated   Sort = "updated" // latest first
	SortSize      Sort = "size"    // largest first
	SortPulls     Sort = "pulls"   // most first
)
