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
	Classes    []classFigures     `json:"classes"`
	Conditions harness.Conditions `json:"conditions"`
	Sections   []*harness.Section `json:"sections"`
}

// classFigures are the results of one class with a number of clients.
type classFigures struct {
	Name     string  `json:"name"`
	Clients  int     `json:"clients"`
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	Goal     float64 `json:"goal_ms"`
	RPS      float64 `json:"rps"`
	Baseline float64 `json:"baseline_p50_ms"` // 0: not measured
}

// write prints the report for people.
func (r *report) write(w io.Writer) error {
	fmt.Fprintf(w, "\n%s\n%s\n", r.Conditions, strings.Join(r.Conditions.Settings, ", "))
	for _, s := range r.Sections {
		fmt.Fprintf(w, "\n%s\n", s.Title)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, f := range s.Figures {
			fmt.Fprintf(table, "  %s\t%s %s\t%s\n", f.Name, harness.Number(f.Value), f.Unit, f.Judged())
		}
		for _, row := range s.Table {
			fmt.Fprintf(table, "  %s\t\n", strings.Join(row, "\t"))
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
