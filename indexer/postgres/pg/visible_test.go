package pg_test

import (
	"fmt"
	"slices"
	"testing"

	sq "github.com/Masterminds/squirrel"
	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/schema/schematest"
)

// Every way to restrict a statement selects the names that the asker sees, each once.
func TestVisible(t *testing.T) {
	t.Parallel()
	db := schematest.New(t)
	names := []string{"a", "a-b", "a/b", "a/b/c", "a0", "ab", "ab/c", "abc/d", "b", "team", "team-x/y", "team/app", "team/app2", "team/a_p", "team.x", "z/z"}
	if _, err := db.Exec(t.Context(), "INSERT INTO repository (name) SELECT unnest($1::text[])", names); err != nil {
		t.Fatal(err)
	}
	column := func(text string, args ...any) []string {
		t.Helper()
		sql, args, err := pg.Statement(text, args...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := pg.Column[string](t.Context(), db, sql, args...)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return got
	}
	for _, patterns := range [][]string{
		{}, {""}, {"*"}, {"a"}, {"a*"}, {"a", "a*"}, {"a*", "ab*", "a/b"}, {"a/b", "a/b/*", "a/b*"}, {"team/*", "a/*"}, {"team/app"}, {"team/a?p"}, {"team/a_p"}, {"?"}, {"*/?"},
		{"z/*", "*b"}, {"none"}, {"%"}, {`a\*`}, {"team", "team", "team/app2", "team/app"}, {"é*"}, {"a\x00*"},
	} {
		visibility := indexer.VisibleNames(patterns...)
		visible := pg.VisibleOf(visibility)
		want := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !visibility.Sees(name) })
		slices.Sort(want)
		for what, got := range map[string][]string{
			"Name":     column("SELECT name FROM repository WHERE ? ORDER BY name", visible.Name("name")),
			"EachSpan": column("SELECT name FROM (?) AS page ORDER BY name", visible.EachSpan(sq.Expr("SELECT name FROM repository WHERE ?", visible.InSpan("name")))),
			"NextSpan": column(`WITH RECURSIVE known (name) AS (
					SELECT '' COLLATE "C" UNION ALL
					SELECT next.name FROM known CROSS JOIN LATERAL (
						SELECT r.name FROM repository r WHERE r.name > known.name AND r.name >= ? ORDER BY r.name LIMIT 1) AS next
				) SELECT name FROM known WHERE name <> '' AND ? ORDER BY name`, visible.NextSpan("known.name"), visible.Name("name")),
		} {
			if diff := cmp.Diff(want, got, cmp.Transformer("nil", func(s []string) string { return fmt.Sprint(s) })); diff != "" {
				t.Errorf("%q by %s (-want +got)\n%s", patterns, what, diff)
			}
		}
	}
	all := pg.VisibleOf(indexer.AllVisible)
	if got := column("SELECT name FROM (?) AS page ORDER BY name", all.EachSpan(sq.Expr("SELECT name FROM repository WHERE ? AND ?", all.InSpan("name"), all.Name("name")))); len(got) != len(names) {
		t.Errorf("who sees all got %q", got)
	}
}

// Names between the spans are not read.
func TestNextSpanSkips(t *testing.T) {
	t.Parallel()
	db := schematest.New(t)
	visible := pg.VisibleOf(indexer.VisibleNames("b/*", "d/*", "d/x*", "f"))
	for after, want := range map[string]string{"": "b/", "a": "b/", "b/": "b/", "b/x": "b/", "b0": "d/", "d/x": "d/", "e": "f", "g": ""} {
		sql, args, err := pg.Statement("SELECT COALESCE(?, '')", visible.NextSpan("'"+after+"'"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := pg.Column[string](t.Context(), db, sql, args...); err != nil || got[0] != want {
			t.Errorf("after %q: %q, %v, want %q", after, got, err, want)
		}
	}
}
