package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// A report is what was measured, and under which conditions.
type report struct {
	Classes    []classFigures `json:"classes"`
	Conditions conditions     `json:"conditions"`
	Sections   []*section     `json:"sections"`
}

type conditions struct {
	Repositories int       `json:"repositories"`
	Cores        int       `json:"cores"`
	LoadBefore   string    `json:"load_before"` // average of the last minute
	LoadAfter    string    `json:"load_after"`
	Go           string    `json:"go"`
	PostgreSQL   string    `json:"postgresql"`
	Settings     []string  `json:"settings"` // of PostgreSQL
	Began        time.Time `json:"began"`
	Seconds      float64   `json:"seconds"`
}

// classFigures are those of one kind of question with so many clients.
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
	c := r.Conditions
	fmt.Fprintf(w, "\n%d cores, load average %s before and %s after, %s, PostgreSQL %s, %s, took %.0f s\n",
		c.Cores, c.LoadBefore, c.LoadAfter, c.Go, c.PostgreSQL, c.Began.Format("2006-01-02 15:04"), c.Seconds)
	fmt.Fprintf(w, "%s\n", strings.Join(c.Settings, ", "))
	for _, s := range r.Sections {
		fmt.Fprintf(w, "\n%s\n", s.Title)
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, f := range s.Figures {
			fmt.Fprintf(table, "  %s\t%s %s\t%s\n", f.Name, number(f.Value), f.Unit, f.judged())
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

// save writes the report as JSON.
func (r *report) save(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
