package postgres_test

import (
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// The most pulled repositories and then the latest are searched first, and a row
// that a push has locked is skipped.
func TestRetier(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	const many = `
		WITH r AS (INSERT INTO repository (name) SELECT 'r' || g FROM generate_series(1, 2003) g RETURNING id, name)
		INSERT INTO repository_search (repository_id, name, basename, title, description, tags, updated_at, name_words, all_words, tier, pulls)
		SELECT id, name, name, '', '', 1, now() - id * interval '1 second', 'r', 'r', 2, CASE name WHEN 'r2003' THEN 9 ELSE 0 END FROM r`
	ctx := t.Context()
	if _, err := pool.Exec(ctx, many); err != nil {
		t.Fatal(err)
	}
	tx, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	if _, err := tx.Exec(ctx, "UPDATE repository_search SET tags = 2 WHERE name = 'r1'"); err != nil {
		t.Fatal(err)
	}
	retier := func(want int) {
		t.Helper()
		if n, err := s.Retier(ctx); err != nil || n != want {
			t.Errorf("moved %d rows, %v, want %d", n, err, want)
		}
	}
	retier(2002)
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	retier(1)
	var before, after indexer.Version
	view(t, s, func(v *postgres.View) (err error) { before, err = v.Version(ctx); return err })
	retier(0)
	view(t, s, func(v *postgres.View) (err error) { after, err = v.Version(ctx); return err })
	if before != after || before.Number == 0 {
		t.Errorf("got version %v before and %v after", before, after)
	}
	var second string
	const q = "SELECT string_agg(name, ' ' ORDER BY repository_id) FROM repository_search WHERE tier = 1"
	if err := pool.QueryRow(ctx, q).Scan(&second); err != nil || second != "r2000 r2001 r2002" {
		t.Errorf("got second tier %s, %v", second, err)
	}
}
