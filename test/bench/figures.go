package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A report is what was measured, and under which conditions.
type report struct {
	Conditions conditions `json:"conditions"`
	Sections   []*section `json:"sections"`
}

type conditions struct {
	Cores      int       `json:"cores"`
	LoadBefore string    `json:"load_before"` // average of the last minute
	LoadAfter  string    `json:"load_after"`
	Go         string    `json:"go"`
	PostgreSQL string    `json:"postgresql"`
	Began      time.Time `json:"began"`
	Seconds    float64   `json:"seconds"`
}

// A section is one thing measured.
type section struct {
	Title   string   `json:"title"`
	Figures []figure `json:"figures"`
	Notes   []string `json:"notes,omitempty"`
	Seconds float64  `json:"seconds"`
}

// A figure is one number, with the numbers that it is the median of.
type figure struct {
	Name  string    `json:"name"`
	Value float64   `json:"value"`
	Unit  string    `json:"unit"`
	Each  []float64 `json:"each,omitempty"`

	Goal string `json:"goal,omitempty"`
	Met  *bool  `json:"met,omitempty"`
	Must bool   `json:"must,omitempty"` // whether missing the goal is an error, and not only slow
}

func (s *section) add(f figure) { s.Figures = append(s.Figures, f) }

func (s *section) note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// atLeast and below give a figure its goal.
func (f figure) atLeast(goal float64) figure {
	met := f.Value >= goal
	f.Goal, f.Met = fmt.Sprintf(">= %s", number(goal)), &met
	return f
}

func (f figure) below(goal float64) figure {
	met := f.Value < goal
	f.Goal, f.Met = fmt.Sprintf("< %s", number(goal)), &met
	return f
}

// mustBe is the goal of a count, which no busy machine excuses.
func (f figure) mustBe(goal float64) figure {
	met := f.Value == goal
	f.Goal, f.Met, f.Must = number(goal), &met, true
	return f
}

// medianOf is a figure of the median.
func medianOf(name, unit string, values []float64) figure {
	return figure{Name: name, Value: quantile(values, 0.5), Unit: unit, Each: values}
}

// quantile is the smallest value that at least a share q of all are not above
// ("nearest rank"); 0 of none. The median of an even number is the lower one.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(q * float64(len(sorted)))
	if float64(rank) < q*float64(len(sorted)) {
		rank++
	}
	return sorted[max(rank-1, 0)]
}

// failed names the counts that are not what they must be.
func (r *report) failed() (names []string) {
	for _, s := range r.Sections {
		for _, f := range s.Figures {
			if f.Must && !*f.Met {
				names = append(names, s.Title+": "+f.Name)
			}
		}
	}
	return names
}

// write prints the report for people.
func (r *report) write(w io.Writer) error {
	c := r.Conditions
	fmt.Fprintf(w, "\n%d cores, load average %s before and %s after, %s, PostgreSQL %s, %s, took %.0f s\n",
		c.Cores, c.LoadBefore, c.LoadAfter, c.Go, c.PostgreSQL, c.Began.Format("2006-01-02 15:04"), c.Seconds)
	for _, s := range r.Sections {
		fmt.Fprintf(w, "\n%s (%.0f s)\n", s.Title, s.Seconds)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, f := range s.Figures {
			fmt.Fprintf(table, "  %s\t%s %s\t%s\t%s\n", f.Name, number(f.Value), f.Unit, f.judged(), f.each())
		}
		if err := table.Flush(); err != nil {
			return err
		}
		for _, note := range s.Notes {
			fmt.Fprintln(w, "  "+note)
		}
	}
	return nil
}

// judged gives the goal, and whether it was met.
func (f figure) judged() string {
	switch {
	case f.Met == nil:
		return ""
	case *f.Met:
		return "goal " + f.Goal + ": met"
	}
	return "goal " + f.Goal + ": MISSED"
}

// each gives the numbers behind a median, unless they are too many to read.
func (f figure) each() string {
	if len(f.Each) < 2 || len(f.Each) > 9 {
		return ""
	}
	var all []string
	for _, v := range f.Each {
		all = append(all, number(v))
	}
	return "of " + strings.Join(all, " ")
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

// save writes the report as JSON.
func (r *report) save(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
