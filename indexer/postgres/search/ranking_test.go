package search_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The ranking equals testdata/ranking/golden.txt, so that a change of it shows as
// other numbers and other names for a query.
func TestRanking(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	for _, line := range lines(t, "testdata/ranking/catalogue.txt") {
		parts := strings.Split(line+"||", "|")
		labels := []string{"org.opencontainers.image.description", parts[1]}
		if key, value, ok := strings.Cut(parts[2], "="); ok {
			labels = append(labels, key, value)
		}
		s.Find(parts[0], "latest", made(parts[0], "linux/amd64", 1, 1, "2026-01-01", labels...))
	}
	var out strings.Builder
	var reciprocal, recall float64
	queries := lines(t, "testdata/ranking/queries.txt")
	for _, line := range queries {
		text, names, _ := strings.Cut(line, " => ")
		want := strings.Fields(names)
		got, total := s.Names(func(v *postgres.View) (indexer.Results, error) { return v.Search(t.Context(), parsed(t, text)) })
		place := slices.IndexFunc(got, func(name string) bool { return slices.Contains(want, name) })
		if place >= 0 {
			reciprocal += 1 / float64(place+1)
		}
		found := 0
		for _, name := range got[:min(5, len(got))] {
			if slices.Contains(want, name) {
				found++
			}
		}
		recall += float64(found) / float64(min(5, len(want)))
		fmt.Fprintf(&out, "%-40s %3d found, the first right one at %d: %s\n", text, total, place+1, strings.Join(got[:min(5, len(got))], " "))
	}
	n := float64(len(queries))
	head := fmt.Sprintf("%d queries, mean reciprocal rank %.3f, recall at 5 %.3f\n\n", len(queries), reciprocal/n, recall/n)
	t.Log(head)
	golden := "testdata/ranking/golden.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(head+out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), head+out.String()); diff != "" {
		t.Errorf("ranking has changed; look at the difference and rewrite it with -update (-golden +got)\n%s", diff)
	}
}

// lines returns the lines of a file without comments and empty lines.
func lines(t *testing.T, name string) (kept []string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			kept = append(kept, line)
		}
	}
	return kept
}
