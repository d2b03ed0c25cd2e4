package query

import (
	"cmp"
	"time"
)

// A Clause holds if any of its terms holds.
type Clause []Term

// A Term is one condition. If no term of a clause is negated and all are about
// images (FieldTag to FieldPushed), the clause is about images. All clauses about
// images must hold for the same image, which has a tag or is in an image index that
// has one.
type Term struct {
	Not   bool // nothing in the repository may match the rest of the term
	Field Field

	// For FieldText. Words are in lower case, and all of them must be there.
	Words  []string
	Phrase bool   // the words must follow each other
	Prefix bool   // the last word also matches longer words that begin with it
	Tag    string // an image must also have this tag ("name:tag" was typed); "" for any

	Name   string // of a label or annotation; * and ? are wildcards
	Value  string // may have wildcards too; for FieldDigest "sha256:" and the first digits
	Valued bool   // whether a label or annotation must have Value, not only exist

	// For FieldSize (bytes), FieldLayers, FieldCreated, FieldPushed, FieldPulls, and
	// FieldPulled unless Value is Never.
	Compare  Comparison
	Number   int64
	From, To time.Time // a span of time, without To; equal for a point in time
	Age      bool      // whether From was typed as an age
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

// reversed returns the comparison of times that corresponds to c of ages: what is
// younger than 30 days was made after that time.
func (c Comparison) reversed() Comparison {
	switch c {
	case Below:
		return Above
	case AtMost:
		return AtLeast
	case Above:
		return Below
	case AtLeast:
		return AtMost
	}
	return c
}

// Holds reports whether a number fulfils a term with a Number.
func (t Term) Holds(n int64) bool { return t.Compare.holds(cmp.Compare(n, t.Number)) }

// HoldsAt reports whether a time fulfils a term with a span of time.
func (t Term) HoldsAt(at time.Time) bool {
	switch {
	case at.Before(t.From):
		return t.Compare.holds(-1)
	case at.Before(t.To), at.Equal(t.From):
		return t.Compare.holds(0)
	}
	return t.Compare.holds(1)
}

// holds reports whether a comparison is true of something that is less than, equal to or
// greater than what it is compared with.
func (c Comparison) holds(order int) bool {
	switch c {
	case Above:
		return order > 0
	case AtLeast:
		return order >= 0
	case Below:
		return order < 0
	case AtMost:
		return order <= 0
	}
	return order == 0
}
