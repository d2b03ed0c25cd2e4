package query

// Images selects tagged images; every condition must hold for the image itself. It
// is what flatpak's index protocol asks.
type Images []Condition

// A Condition is one condition of Images.
type Condition struct {
	Field  Field
	Name   string // of the label or annotation
	Op     Op
	Values []string // any of them will do
}

// An Op is how a Condition compares.
type Op string

const (
	OpEquals  Op = "equals"  // exact and case-sensitive
	OpExists  Op = "exists"  // the label or annotation is there, whatever its value
	OpMatches Op = "matches" // a glob: * is any run of characters, ? any one
)
