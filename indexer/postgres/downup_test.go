package postgres_test

import (
	"io/fs"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
	"github.com/portbook/portbook/schema"
	"github.com/portbook/portbook/schema/schematest"
)

// After a downgrade of the schema and an upgrade, once the leader has run, all
// derived rows are as before. A down migration drops columns, and the remaining rows
// are still marked as complete.
func TestDownAndUp(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(schema.Migrations(), "*.sql")
	if err != nil || len(files) < 9 {
		t.Fatal(files, err)
	}
	filled := schematest.URL(t)
	s := shelfAt(t, filled)
	s.Stock()
	s.Lead()
	before := s.derived()
	s.Pool.Close()                    // a database is copied only while nobody is connected
	for n := 1; n < len(files); n++ { // not to version 0, which deletes the whole book
		t.Run("down "+strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			address := schematest.Copy(t, filled)
			conn, err := pgx.ParseConfig(address)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := schema.Down(t.Context(), schema.Config{Conn: conn}, n); err != nil {
				t.Fatal(err)
			}
			if _, err := schema.Up(t.Context(), schema.Config{Conn: conn}); err != nil {
				t.Fatal(err)
			}
			s := shelfAt(t, address)
			s.Lead()
			if diff := cmp.Diff(before, s.derived()); diff != "" {
				t.Errorf("(-before +after)\n%s", diff)
			}
			s.Finds("label:team=blue arch:amd64", "team/app")
			s.Finds("has:signature platform:linux/arm/v7", "team/signed")
			s.Finds(`"reverse proxy" tag:latest`, "library/nginx")
			s.Finds("licence:Apache-2.0", "charts/nginx-ingress")
		})
	}
}

// shelfAt returns a shelf for the database of an address.
func shelfAt(t *testing.T, address string) shelf {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return shelf{postgrestest.On(t, pool)}
}

// derived returns all rows, as text, of each table that is derived from manifests
// and tags and that the leader keeps.
func (s shelf) derived() map[string][]string {
	s.T.Helper()
	rows := map[string][]string{}
	for _, table := range strings.Fields("image_search repository_search repository_storage namespace_storage storage_total") {
		q := "SELECT (to_jsonb(x) - 'counted_at')::text FROM " + table + " x ORDER BY 1"
		if table == "repository_search" { // terms have no order
			q = "SELECT (to_jsonb(x) - 'terms')::text || ARRAY(SELECT unnest(terms) ORDER BY 1)::text FROM " + table + " x ORDER BY 1"
		}
		list, err := pg.Column[string](s.T.Context(), s.Pool, q)
		if err != nil || len(list) == 0 {
			s.T.Fatal(table, list, err)
		}
		rows[table] = list
	}
	return rows
}
