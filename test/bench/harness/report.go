package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// A Report holds the results of a benchmark and the conditions of the measurement.
type Report struct {
	Conditions Conditions `json:"conditions"`
	Sections   []*Section `json:"sections"`
}

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

// begin returns the conditions of a measurement that starts now.
func begin() Conditions {
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

// AddPeakMemory adds the peak memory of an indexer.
func (s *Section) AddPeakMemory(pid int) {
	s.Add(Figure{Name: "peak memory of the indexer", Value: float64(PeakMemory(pid)) / 1e6, Unit: "MB"})
}

// Note adds a line of text.
func (s *Section) Note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// wrong returns an error if a count missed its goal.
func (r *Report) wrong() error {
	var names []string
	for _, s := range r.Sections {
		for _, f := range s.Figures {
			if f.Must && !*f.Met {
				names = append(names, s.Title+": "+f.Name)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	return errors.New("wrong counts: " + strings.Join(names, "; "))
}

// write prints the report for people.
func (r *Report) write(w io.Writer) error {
	fmt.Fprintf(w, "\n%s\n", r.Conditions)
	if len(r.Conditions.Settings) > 0 {
		fmt.Fprintln(w, strings.Join(r.Conditions.Settings, ", "))
	}
	for _, s := range r.Sections {
		if err := s.write(w); err != nil {
			return err
		}
	}
	return nil
}

func (s *Section) write(w io.Writer) error {
	fmt.Fprintf(w, "\n%s%s\n", s.Title, s.took())
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range s.Figures {
		fmt.Fprintf(table, "  %s\t%s %s\t%s\t%s\n", f.Name, Number(f.Value), f.Unit, f.Judged(), f.each())
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
	return nil
}

func (s *Section) took() string {
	if s.Seconds == 0 {
		return ""
	}
	return fmt.Sprintf(" (%.0f s)", s.Seconds)
}

// save writes a report as JSON.
func save(report any, file string) error {
	b, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
