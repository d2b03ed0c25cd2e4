package attack

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/portbook/portbook/test/bench/harness"
)

// A line compares an attack with the quiet phase before it.
type line struct{ quiet, attacked *felt }

// A report holds the results of all attacks.
type report []line

func (r report) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, "\nResponse times of victims in ms: median/95th percentile, without and with the attack. Load average", harness.LoadAverage())
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "attack\tpush\t\tratio\tsearch\t\tratio\tflatpak\t\tratio\tbytes\tfaults\tindexer MB\tPostgreSQL MB\tanswers\tlargest\tslowest s\tsettled s")
	for _, l := range r {
		f := l.attacked
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d>%d\t%d>%d\t%s\t%d\t%.1f\t%.1f\n", f.name,
			compare(l.quiet.pushes, f.pushes), compare(l.quiet.searches, f.searches), compare(l.quiet.indexes, f.indexes), f.index, f.faults(),
			l.quiet.indexer>>20, f.indexer>>20, l.quiet.postgres>>20, f.postgres>>20, f.statuses(), f.largest, f.slowest/1000, f.settled.Seconds())
	}
	w.Flush()
	for _, l := range r {
		for _, n := range l.attacked.notes {
			fmt.Fprintf(&b, "%s: %s\n", l.attacked.name, n)
		}
	}
	fmt.Fprintln(&b, "more than doubled:", r.over())
	return b.String()
}

// compare writes two columns of times and their ratio.
func compare(quiet, attacked []float64) string {
	return fmt.Sprintf("%s\t%s\t%.1f", times(quiet), times(attacked), ratio(quiet, attacked))
}

func times(all []float64) string {
	return harness.Number(harness.Quantile(all, 0.5)) + "/" + harness.Number(harness.Quantile(all, 0.95))
}

// ratio returns the ratio of the medians; 0 if there is none.
func ratio(quiet, attacked []float64) float64 {
	if without := harness.Quantile(quiet, 0.5); without > 0 {
		return harness.Quantile(attacked, 0.5) / without
	}
	return 0
}

// over names the medians that more than doubled.
func (r report) over() string {
	var all []string
	for _, l := range r {
		for _, m := range []struct {
			what            string
			quiet, attacked []float64
		}{
			{"push", l.quiet.pushes, l.attacked.pushes},
			{"search", l.quiet.searches, l.attacked.searches},
			{"flatpak", l.quiet.indexes, l.attacked.indexes},
		} {
			if x := ratio(m.quiet, m.attacked); x > 2 {
				all = append(all, fmt.Sprintf("%s %.1f during %s", m.what, x, l.attacked.name))
			}
		}
	}
	if len(all) == 0 {
		return "nothing"
	}
	return strings.Join(all, "; ")
}

// statuses returns how often attackers got each status.
func (f *felt) statuses() string {
	var all []string
	for _, status := range slices.Sorted(maps.Keys(f.answers)) {
		all = append(all, fmt.Sprintf("%dx%d", f.answers[status], status))
	}
	if len(all) == 0 {
		return "-"
	}
	return strings.Join(all, " ")
}

// faults returns how many failures were recorded.
func (f *felt) faults() (n int) {
	for _, times := range f.wrong {
		n += times
	}
	return n
}
