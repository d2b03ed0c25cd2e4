package harness

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A Figure is one number, with the numbers whose median it is.
type Figure struct {
	Name  string    `json:"name"`
	Value float64   `json:"value"`
	Unit  string    `json:"unit"`
	Each  []float64 `json:"each,omitempty"`

	Goal string `json:"goal,omitempty"`
	Met  *bool  `json:"met,omitempty"`
	Must bool   `json:"must,omitempty"` // whether a missed goal is an error, and not only slow
}

// Median returns the median of values as a figure.
func Median(name, unit string, values []float64) Figure {
	return Figure{Name: name, Value: Quantile(values, 0.5), Unit: unit, Each: values}
}

// AtLeast sets the lowest value that meets the goal.
func (f Figure) AtLeast(goal float64) Figure {
	met := f.Value >= goal
	f.Goal, f.Met = ">= "+Number(goal), &met
	return f
}

// Below sets the goal: the value must be lower.
func (f Figure) Below(goal float64) Figure {
	met := f.Value < goal
	f.Goal, f.Met = "< "+Number(goal), &met
	return f
}

// MustBe sets the goal of a count, which does not depend on the load of the machine.
func (f Figure) MustBe(goal float64) Figure {
	met := f.Value == goal
	f.Goal, f.Met, f.Must = Number(goal), &met, true
	return f
}

// Judged returns the goal and whether it was met.
func (f Figure) Judged() string {
	switch {
	case f.Met == nil:
		return ""
	case *f.Met:
		return "goal " + f.Goal + ": met"
	}
	return "goal " + f.Goal + ": MISSED"
}

// each returns the values behind a median, unless there are too many to read.
func (f Figure) each() string {
	if len(f.Each) < 2 || len(f.Each) > 9 {
		return ""
	}
	var all []string
	for _, v := range f.Each {
		all = append(all, Number(v))
	}
	return "of " + strings.Join(all, " ")
}

// Quantile returns the smallest value such that at least a share q of all values are at
// most as large ("nearest rank"); 0 if there are none. The median of an even number is
// the lower one.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(int(math.Ceil(q*float64(len(sorted))))-1, 0)]
}

// Milliseconds converts a duration to a value for a Figure.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Number formats v with three digits or more: 0.123, 1.23, 12.3, 123, 1,234.
func Number(v float64) string {
	switch {
	case v == math.Trunc(v) && v < 1000:
		return fmt.Sprintf("%.0f", v)
	case v < 1:
		return fmt.Sprintf("%.3f", v)
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
