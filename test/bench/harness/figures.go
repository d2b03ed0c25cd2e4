package harness

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"time"
)

// Conditions describe the circumstances of a measurement.
type Conditions struct {
	Repositories int       `json:"repositories,omitempty"` // in the book
	Cores        int       `json:"cores"`
	LoadBefore   string    `json:"load_before"` // average of the last minute
	LoadAfter    string    `json:"load_after"`
	Go           string    `json:"go"`
	PostgreSQL   string    `json:"postgresql"`
	Settings     []string  `json:"settings,omitempty"` // of PostgreSQL
	Began        time.Time `json:"began"`
	Seconds      float64   `json:"seconds"`
}

// Begin returns the conditions of a measurement that starts now.
func Begin() Conditions {
	return Conditions{Cores: runtime.NumCPU(), LoadBefore: LoadAverage(), Go: runtime.Version(), Began: time.Now()}
}

// String returns them in one line.
func (c Conditions) String() string {
	return fmt.Sprintf("%d cores, load average %s before and %s after, %s, PostgreSQL %s, %s, took %.0f s",
		c.Cores, c.LoadBefore, c.LoadAfter, c.Go, c.PostgreSQL, c.Began.Format("2006-01-02 15:04"), c.Seconds)
}

// A Section holds the results of one measurement.
type Section struct {
	Title   string     `json:"title"`
	Figures []Figure   `json:"figures"`
	Table   [][]string `json:"table,omitempty"`
	Notes   []string   `json:"notes,omitempty"`
	Seconds float64    `json:"seconds,omitempty"`
}

// Add adds a figure.
func (s *Section) Add(f Figure) { s.Figures = append(s.Figures, f) }

// AddPushes adds the milliseconds until pushes were searchable, with their goals.
func (s *Section) AddPushes(median Figure, all []float64) {
	s.Add(median.Below(50))
	s.Add(Figure{Name: "  p90", Value: Quantile(all, 0.9), Unit: "ms"})
	s.Add(Figure{Name: "  p99", Value: Quantile(all, 0.99), Unit: "ms"}.Below(300))
	s.Add(Figure{Name: "  slowest", Value: Quantile(all, 1), Unit: "ms"})
}

// Note adds a line of text.
func (s *Section) Note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

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

// Save writes a report as JSON.
func Save(report any, file string) error {
	b, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
