package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/portbook/portbook/test/bench/harness"
)

// A report holds the results and the conditions of the measurement.
type report struct {
	Conditions harness.Conditions `json:"conditions"`
	Sections   []*harness.Section `json:"sections"`
}

// medianOf returns the median of values as a figure.
func medianOf(name, unit string, values []float64) harness.Figure {
	return harness.Figure{Name: name, Value: harness.Quantile(values, 0.5), Unit: unit, Each: values}
}

// failed returns the names of counts that missed their goals.
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
	fmt.Fprintf(w, "\n%s\n", r.Conditions)
	for _, s := range r.Sections {
		fmt.Fprintf(w, "\n%s (%.0f s)\n", s.Title, s.Seconds)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, f := range s.Figures {
			fmt.Fprintf(table, "  %s\t%s %s\t%s\t%s\n", f.Name, harness.Number(f.Value), f.Unit, f.Judged(), behind(f))
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

// behind returns the values behind a median, unless there are too many to read.
func behind(f harness.Figure) string {
	if len(f.Each) < 2 || len(f.Each) > 9 {
		return ""
	}
	var all []string
	for _, v := range f.Each {
		all = append(all, harness.Number(v))
	}
	return "of " + strings.Join(all, " ")
}
