package indexer

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Facets count the repositories that a Query selects, by what they are.
type Facets struct {
	Counted int  // repositories that were looked at: at most MaxFaceted
	All     bool // whether those are all that the query selects
	Facets  []Facet
}

// MaxFaceted is how many repositories facets are counted over: 500, the best
// of the query, which takes some 10 ms. Counting a million takes seconds.
const MaxFaceted = 500

// A Facet is one property, and how many repositories have each value of it. Name
// is a field of the query language.
type Facet struct {
	Name   string
	Values []FacetValue // most first, then by value; at most 20
}

// A FacetValue is one value of a Facet. Count is how many repositories the query
// selects with this condition beside its own, as FieldTerm writes it.
type FacetValue struct {
	Value   string
	Count   int
	AtLeast bool // there may be more than Count: not all was looked at
}

// A Suggestion is what somebody who is typing may mean.
type Suggestion struct {
	Text string // the whole query that it would make
	Name string // the repository or namespace that it names; "" for a term
}

// A Move is one move of a tag.
type Move struct {
	ID              int64 // grows with time
	Repository, Tag string
	From, To        digest.Digest // "" where the tag was not there
	SeenAt          time.Time     // when we saw it, not when it was pushed
	SeenBy          SeenBy
}

// SeenBy says how a move of a tag was noticed. These two values are all that the database
// allows; moves that Portbook makes itself will need a third one.
type SeenBy string

const (
	SeenByEvent SeenBy = "event" // a notification of the registry announced it
	SeenByScan  SeenBy = "scan"  // a scan found the difference
)

// A Use is a place where a digest stands.
type Use struct {
	Repository string
	Digest     digest.Digest // of the manifest that uses it
	As         string        // manifest, entry, config, layer or subject
	Tags       []string      // on that manifest, sorted; at most 20
}

// A Freshness says how well an answer follows the registry.
type Freshness struct {
	Version   Version
	ScannedAt time.Time // when the last whole scan ended; zero before the first
}

// A TagOf is a tag and the repository that it is in.
type TagOf struct {
	Repository string
	Tag
}
