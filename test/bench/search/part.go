package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/portbook/portbook/test/bench/harness"
)

// shares of the repositories that askers see.
var shares = []float64{0.01, 0.1, 0.9}

// parts measures every class for askers who see a part of the book. Their reader is
// test/bench/reader, because the program cannot restrict access.
func (b *bench) parts(ctx context.Context, s *harness.Section, k *book) error {
	s.Table = [][]string{{""}}
	rows := map[string][]string{}
	for _, share := range shares {
		p := k.part(share)
		s.Table[0] = append(s.Table[0], fmt.Sprintf("%.1f %% seen: p50", 100*p.sees), "p99")
		s.Note("%.1f %% are the repositories with the names %s", 100*p.sees, strings.Join(p.names, " "))
		if err := b.partOf(ctx, s, k, p, rows); err != nil {
			return err
		}
	}
	for _, c := range classes {
		if row := rows[c.name]; row != nil {
			s.Table = append(s.Table, append([]string{c.name}, row...))
		}
	}
	return nil
}

// partOf measures every class for one asker, and adds to the rows of the table.
func (b *bench) partOf(ctx context.Context, s *harness.Section, k *book, p part, rows map[string][]string) error {
	var args []string
	if !b.memory {
		args = []string{"-memory", "0"}
	}
	i, err := b.StartPart(ctx, k.database, p.names, args...)
	if err != nil {
		return err
	}
	defer i.Stop()
	if _, err := harness.Settled(ctx, i.Program); err != nil {
		return err
	}
	a := newAsker(k, i)
	for _, c := range classes {
		if strings.HasPrefix(c.name, "repository ") || strings.HasPrefix(c.name, "tag page ") {
			continue // their repositories are not in the part, or in all of it
		}
		b.Tell("  %s, %.1f %% seen (load average %s)", c.name, 100*p.sees, harness.LoadAverage())
		if _, err := a.ClosedLoop(ctx, c.draws(k, "warm", b.requests/8), 1, passTime); err != nil {
			return err
		}
		pass, err := a.ClosedLoop(ctx, c.draws(k, "one", b.requests/2), 1, passTime)
		if err != nil {
			return err
		}
		f := figuresOf(pass, c.name, 1)
		f.Sees, f.Goal = p.sees, goalOne
		b.add(f)
		rows[c.name] = append(rows[c.name], numbers(f.P50, f.P99)...)
		noteFailed(s, fmt.Sprintf("%s, %.1f %% seen", c.name, 100*p.sees), pass)
	}
	return nil
}

// A part is a part of the repositories.
type part struct {
	names []string // patterns
	sees  float64  // its share of all
}

// part returns about a share of all repositories: namespaces that begin alike, the
// largest first, as teams have them.
func (g *generator) part(share float64) part {
	var patterns []string
	beginnings := map[string]int{}
	for _, name := range g.names {
		for n := 1; n <= min(len(name), 4); n++ {
			beginnings[name[:n]]++
		}
	}
	var all []string
	for b := range beginnings {
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b string) int {
		if n := beginnings[b] - beginnings[a]; n != 0 {
			return n
		}
		return strings.Compare(a, b)
	})
	most, seen := int(share*float64(len(g.names))), 0
	for _, b := range all {
		within := func(p string) bool { return strings.HasPrefix(b, strings.TrimSuffix(p, "*")) }
		if n := beginnings[b]; n <= most-seen && n >= most/100 && !slices.ContainsFunc(patterns, within) {
			patterns, seen = append(patterns, b+"*"), seen+n
		}
	}
	slices.Sort(patterns)
	return part{patterns, float64(seen) / float64(len(g.names))}
}
