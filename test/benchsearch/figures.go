package main

import (
	"fmt"
	"math"
	"slices"
)

// A section is one thing measured.
type section struct {
	Title   string     `json:"title"`
	Figures []figure   `json:"figures"`
	Table   [][]string `json:"table,omitempty"`
	Notes   []string   `json:"notes,omitempty"`
}

// A figure is one number.
type figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Goal  string  `json:"goal,omitempty"`
	Met   *bool   `json:"met,omitempty"`
}

func (s *section) add(f figure) { s.Figures = append(s.Figures, f) }

func (s *section) note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// atLeast and below give a figure its goal.
func (f figure) atLeast(goal float64) figure {
	met := f.Value >= goal
	f.Goal, f.Met = ">= "+number(goal), &met
	return f
}

func (f figure) below(goal float64) figure {
	met := f.Value < goal
	f.Goal, f.Met = "< "+number(goal), &met
	return f
}

func (f figure) judged() string {
	switch {
	case f.Met == nil:
		return ""
	case *f.Met:
		return "goal " + f.Goal + ": met"
	}
	return "goal " + f.Goal + ": MISSED"
}

// quantile is the smallest value that at least a share q of all are not above
// ("nearest rank"); 0 of none. The median of an even number is the lower one.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(int(math.Ceil(q*float64(len(sorted))))-1, 0)]
}

// number writes three digits or more: 0.123, 1.23, 12.3, 123, 1,234.
func number(v float64) string {
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
