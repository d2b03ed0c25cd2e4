package query

// Images selects images that have a tag or are in an image index that has one.
// Every condition must hold for the image itself. Flatpak's index protocol asks
// such questions.
type Images []Condition

// A Condition is one condition of Images.
type Condition struct {
	Field  Field
	Name   string // of the label or annotation
	Op     Op
	Values []string // it is enough that one of them matches
}

// An Op is the comparison of a Condition.
type Op string

const (
	OpEquals  Op = "equals"  // exact and case-sensitive
	OpExists  Op = "exists"  // the label or annotation exists, with any value
	OpMatches Op = "matches" // a pattern: * is any number of characters, ? is one
)
