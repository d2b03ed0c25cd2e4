package search_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
)

// damages are expressions that change the value of column %[1]s, by type.
var damages = map[string]string{
	"text": "COALESCE(%[1]s, '') || 'x'", "integer": "%[1]s + 1", "bigint": "%[1]s + 1", "smallint": "%[1]s + 1", "boolean": "NOT %[1]s",
	"timestamp with time zone": "COALESCE(%[1]s, now()) + interval '1 hour'", "text[]": "%[1]s || 'x'::text", "bigint[]": "array_append(%[1]s[2:], %[1]s[1] + 1)",
	"tsvector": "%[1]s || 'damaged:1'::tsvector",
}

// Differences finds each wrong value in every derived column of every table,
// including columns that are added later.
func TestDifferences(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.Stock()
	ctx := t.Context()
	if _, err := s.CountPulls(ctx, []indexer.Pull{{ID: "1", Repository: "team/app"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RollUpUsage(ctx); err != nil {
		t.Fatal(err)
	}
	differences := func() (all []string) {
		t.Helper()
		names, err := s.RepositoryNames(ctx, "", 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			found, err := s.Differences(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range found {
				all = append(all, name+" "+d.Where+" "+d.What)
			}
		}
		return all
	}
	if found := differences(); len(found) > 0 {
		t.Fatalf("the book differs from itself: %v", found)
	}
	exec := func(q string) {
		t.Helper()
		if _, err := s.Pool.Exec(ctx, q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	keys := map[string][]string{"image_search": {"repository_id", "manifest_id"}, "repository_search": {"repository_id"}}
	for table, key := range keys {
		exec(fmt.Sprintf("CREATE TABLE saved_%[1]s AS TABLE %[1]s", table))
		restore := func() { exec(fmt.Sprintf("DELETE FROM %[1]s; INSERT INTO %[1]s SELECT * FROM saved_%[1]s", table)) }
		type row struct{ Name, Type string }
		columns, err := pg.Collect[row](ctx, s.Pool, `SELECT attname::text AS name, format_type(atttypid, NULL) AS type FROM pg_attribute
			WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped`, table)
		if err != nil || len(columns) < 10 {
			t.Fatal(columns, err)
		}
		for _, c := range columns {
			if slices.Contains(key, c.Name) || search.NotDerived[table+"."+c.Name] != "" {
				continue
			}
			damage := damages[c.Type]
			if damage == "" {
				t.Fatalf("%s.%s is of type %s: add it to damages", table, c.Name, c.Type)
			}
			where := c.Name + " IS NOT NULL"
			if strings.HasSuffix(c.Type, "[]") {
				where = fmt.Sprintf("cardinality(%s) > 0", c.Name)
			}
			exec(fmt.Sprintf("UPDATE %[1]s SET %[2]s = %[3]s WHERE ctid = (SELECT ctid FROM %[1]s WHERE %[4]s LIMIT 1)", table, c.Name, fmt.Sprintf(damage, c.Name), where))
			// The row of a repository is derived from those of its images, so it may
			// differ too.
			if found := differences(); !slices.ContainsFunc(found, func(line string) bool { return strings.Contains(line, " "+table+"."+c.Name+" is ") }) {
				t.Errorf("after %s.%s was damaged: got differences %q", table, c.Name, found)
			}
			restore()
		}
		exec(fmt.Sprintf("DELETE FROM %[1]s WHERE ctid = (SELECT ctid FROM %[1]s LIMIT 1)", table))
		if found := differences(); !slices.ContainsFunc(found, func(line string) bool { return strings.Contains(line, " "+table+".repository_id: the row is missing") }) {
			t.Errorf("after a row of %s was deleted: got differences %q", table, found)
		}
		restore()
	}
	exec("INSERT INTO image_search (repository_id, manifest_id, latest, tags, facts, size, pushed_at) SELECT repository_id, id, false, '{}', '{}', 0, now() FROM manifest m WHERE subject IS NOT NULL")
	exec("INSERT INTO referrer (repository_id, subject, manifest_id) SELECT repository_id, digest, id FROM manifest WHERE subject IS NOT NULL")
	exec("DELETE FROM referrer WHERE manifest_id IN (SELECT id FROM manifest m WHERE m.subject = referrer.subject)")
	found := strings.Join(differences(), "\n")
	for _, want := range []string{"there should be no row", "referrer: missing row", "referrer: unexpected row", "facts"} {
		if !strings.Contains(found, want) {
			t.Errorf("got no difference with %q: %s", want, found)
		}
	}
	exec("ALTER TABLE image_search ADD COLUMN new_one int")
	if _, err := s.Differences(ctx, "team/app"); err == nil || !strings.Contains(err.Error(), "image_search.new_one is unknown") {
		t.Errorf("unknown column: got %v, want an error that names it", err)
	}
}
