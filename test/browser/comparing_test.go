package main

import (
	"fmt"
	"slices"
	"strings"
)

// differences finds the cells of the rows with differences.
const differences = `[...document.querySelectorAll("table.diff tbody tr:not(.same)")].map(row =>
	row.className + ": " + [...row.cells].map(cell => cell.innerText.trim()).join(" | "))`

// comparing compares the two tags that a repository's page offers. The result must have
// the differences and nothing else.
func (c *checker) comparing(t *tab) error {
	if _, err := t.open(c.url + "/r/samples/harbour"); err != nil {
		return err
	}
	const to = "/compare?a=samples%2Fharbour%3A1.0&b=samples%2Fharbour%3Alatest" // latest is 1.1
	if err := t.follow("button", "Compare", to); err != nil {
		return err
	}
	rows, err := evaluate[[]string](t, differences)
	if err != nil {
		return err
	}
	for _, want := range []string{
		"changed: org.opencontainers.image.version ≠ | 1.0 | 1.1",
		"changed: org.opencontainers.image.created ≠ | 2026-01-15T09:30:00Z | 2026-02-15T09:30:00Z",
	} {
		if !slices.Contains(rows, want) {
			return fmt.Errorf("%s has no row %q, but %q", to, want, rows)
		}
	}
	// The layers differ, the environment does not.
	for part, want := range map[string]int{"removed: − from | ": 1, "added: + to | ": 1, "HARBOUR_PIERS": 0} {
		if got := strings.Count(strings.Join(rows, "\n"), part); got != want {
			return fmt.Errorf("%s: got %d rows with %q, want %d: %q", to, got, part, want, rows)
		}
	}
	return nil
}
