package schema_test

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/schema"
	"github.com/portbook/portbook/schema/schematest"
)

var update = flag.Bool("update", false, "rewrite golden files")

func config(t *testing.T, url string) schema.Config {
	t.Helper()
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return schema.Config{Conn: c}
}

// Five programs that migrate an empty database at the same time apply each migration
// once.
func TestUpByMany(t *testing.T) {
	t.Parallel()
	url := schematest.Empty(t)
	var starters sync.WaitGroup
	var mu sync.Mutex
	applied := 0
	for range 5 {
		starters.Go(func() {
			done, err := schema.Up(context.Background(), config(t, url))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			applied += len(done)
		})
	}
	starters.Wait()
	if want := len(files(t)); applied != want {
		t.Errorf("five programs applied %d migrations in total, want %d", applied, want)
	}
}

// Down removes everything that Up creates, and another Up creates the same schema.
func TestUpDownUp(t *testing.T) {
	t.Parallel()
	url := schematest.Empty(t)
	ctx, c := t.Context(), config(t, url)
	n := len(files(t))
	if _, err := schema.Up(ctx, c); err != nil {
		t.Fatal(err)
	}
	first := dump(t, url)
	for i := range n {
		if _, err := schema.Down(ctx, c, 1); err != nil {
			t.Fatalf("step %d down: %v", i+1, err)
		}
	}
	if left := strings.TrimSpace(dump(t, url)); left != "" {
		t.Errorf("down left behind:\n%s", left)
	}
	if _, err := schema.Down(ctx, c, 1); err == nil {
		t.Error("Down of more migrations than are applied returned no error")
	}
	if _, err := schema.Up(ctx, c); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, dump(t, url)); diff != "" {
		t.Errorf("schema (-first up +second up):\n%s", diff)
	}
}

// The golden dump shows each change of the schema in a review.
func TestGolden(t *testing.T) {
	t.Parallel()
	const golden = "testdata/schema.txt"
	got := dump(t, schematest.URL(t))
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the schema differs from testdata/schema.txt (-want +got); `make golden` rewrites it:\n%s", diff)
	}
}

// The comment of each table says whether a scan can rebuild it (derived) or not
// (kept). No kept table references a derived one, because derived tables may be
// truncated.
func TestKeptApartFromDerived(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	const q = `
		SELECT c.relname, split_part(COALESCE(obj_description(c.oid, 'pg_class'), ''), ':', 1),
			ARRAY(SELECT split_part(COALESCE(obj_description(f.confrelid, 'pg_class'), ''), ':', 1) FROM pg_constraint f
				WHERE f.conrelid = c.oid AND f.contype = 'f')
		FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
			AND c.relname <> 'schema_migrations' ORDER BY 1`
	rows, err := pool.Query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	tables := 0
	for rows.Next() {
		var table, class string
		var refers []string
		if err := rows.Scan(&table, &class, &refers); err != nil {
			t.Fatal(err)
		}
		tables++
		if class != "derived" && class != "kept" {
			t.Errorf("the comment of table %s begins with %q, want derived: or kept:", table, class)
		}
		for _, other := range refers {
			if class == "kept" && other == "derived" {
				t.Errorf("table %s is kept but references a derived table", table)
			}
		}
	}
	if err := rows.Err(); err != nil || tables == 0 {
		t.Fatalf("%d tables, error %v", tables, err)
	}
}

// Migrations must be numbered without gaps, have a down part, and run in transactions.
func TestFiles(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`^(\d{5})_[a-z_]+\.sql$`)
	for i, file := range files(t) {
		m := name.FindStringSubmatch(file)
		if m == nil || m[1] != fmt.Sprintf("%05d", i+1) {
			t.Errorf("migration %d has the file name %s", i+1, file)
		}
		body := read(t, file)
		for _, want := range []string{"-- +goose Up\n", "-- +goose Down\n"} {
			if !strings.Contains(body, want) {
				t.Errorf("%s lacks %q", file, want)
			}
		}
		if strings.Contains(body, "NO TRANSACTION") {
			t.Errorf("%s does not run in a transaction", file)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	body, err := fs.ReadFile(schema.Migrations(), file)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func files(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(schema.Migrations(), "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	sort.Strings(names)
	return names
}

// dump returns the columns, constraints, indexes, triggers, functions and comments of
// the schema, one per line. It omits the table of migrations, and partitions, whose names
// contain the month.
func dump(t *testing.T, url string) string {
	t.Helper()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	const q = `
		WITH mine AS (
			SELECT oid, relname, relkind, reloptions FROM pg_class
			WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'S') AND relname !~ '^schema_migrations' AND NOT relispartition
		)
		SELECT line FROM (
			SELECT relname || ' ' || COALESCE(array_to_string(reloptions, ','), '') || COALESCE(' PARTITION BY ' || pg_get_partkeydef(oid), '')
				|| COALESCE(' -- ' || obj_description(oid, 'pg_class'), '') AS line FROM mine WHERE relkind <> 'S'
			UNION ALL
			SELECT relname || '.' || attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
				|| COALESCE(' COLLATE ' || (SELECT collname FROM pg_collation o WHERE o.oid = attcollation AND collname <> 'default'), '')
				|| COALESCE(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '') || COALESCE(' -- ' || col_description(mine.oid, attnum), '')
			FROM mine JOIN pg_attribute a ON attrelid = mine.oid AND attnum > 0 AND NOT attisdropped
			LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE relkind <> 'S'
			UNION ALL
			SELECT relname || ': ' || conname || ' ' || pg_get_constraintdef(c.oid) FROM pg_constraint c JOIN mine ON conrelid = mine.oid
				WHERE contype <> 'n' -- NOT NULL is in the lines above; PostgreSQL 18 lists it here too
			UNION ALL
			SELECT relname || ': ' || pg_get_indexdef(indexrelid) FROM pg_index JOIN mine ON indrelid = mine.oid
			UNION ALL
			SELECT relname || ': ' || pg_get_triggerdef(t.oid) FROM pg_trigger t JOIN mine ON tgrelid = mine.oid WHERE NOT tgisinternal
			UNION ALL
			SELECT 'function ' || oid::regprocedure || CASE WHEN prosecdef THEN ' SECURITY DEFINER ' ELSE ' ' END || COALESCE(array_to_string(proconfig, ' SET '), '')
				|| COALESCE(' -- ' || obj_description(oid, 'pg_proc'), '') FROM pg_proc WHERE pronamespace = 'public'::regnamespace
		) lines ORDER BY line COLLATE "C"`
	rows, err := conn.Query(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n") + "\n"
}
