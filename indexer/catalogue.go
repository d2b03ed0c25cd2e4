package indexer

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// Facets count the repositories that a Query selects by their properties.
type Facets struct {
	Counted int  // repositories that were counted, the best first
	All     bool // whether those are all that the query selects
	Facets  []Facet
}

// A Facet is one property with the number of repositories for each of its values. Name
// is a field of the query language.
type Facet struct {
	Name   FactKind
	Values []FacetValue // largest Count first, then by value; at most 20
}

// A FacetValue is one value of a Facet. Count is the number of repositories that the
// query selects if this value is added to it as a condition, as query.FieldTerm writes.
type FacetValue struct {
	Value   string
	Count   int
	AtLeast bool // Count is a lower bound, since not all repositories were counted
}

// A Suggestion is a completion of a query that is being typed.
type Suggestion struct {
	Text string // the whole completed query
	Name string // the suggested repository or namespace; "" for a term
}

// A Move is one move of a tag.
type Move struct {
	ID              int64 // grows with time
	Repository, Tag string
	From, To        digest.Digest // "" if the tag did not exist before, or not after
	SeenAt          time.Time     // when we saw the move, not when it was pushed
	SeenBy          SeenBy
}

// SeenBy says how a move of a tag was noticed. These two values are all that the database
// allows; moves that Portbook makes itself will need a third one.
type SeenBy string

const (
	SeenByEvent SeenBy = "event" // a notification of the registry announced it
	SeenByScan  SeenBy = "scan"  // a scan found the difference
)

// A Use is a manifest that uses a digest.
type Use struct {
	Repository string
	Digest     digest.Digest // of that manifest
	As         string        // how it uses the digest: manifest (its own digest), entry, config, layer or subject
	Tags       []string      // of that manifest, sorted; at most 20
}

// A Freshness says how up to date an answer is.
type Freshness struct {
	Version   Version
	ScannedAt time.Time // when the last complete scan ended; zero before the first
}

// A TagOf is a tag with its repository.
type TagOf struct {
	Repository string
	Tag
}
