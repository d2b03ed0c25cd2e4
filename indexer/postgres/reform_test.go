package postgres_test

import (
	"testing"

	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

// Rewriting search rows batch by batch reaches every repository that has a tag, and
// ends, though some repositories never get a row.
func TestReformAfter(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	ctx := t.Context()
	const fill = `
		WITH r AS (INSERT INTO repository (name) SELECT 'team/app-' || n FROM generate_series(1, 500) AS n RETURNING id),
			kind AS (INSERT INTO media_type (name) VALUES ('application/vnd.oci.image.manifest.v1+json') RETURNING id),
			m AS (
				INSERT INTO manifest (repository_id, digest, media_type_id, kind, size, content_size, labels)
				SELECT r.id, sha256(r.id::text::bytea), kind.id, 'image', 1, 1, jsonb_build_object('number', r.id::text) FROM r, kind
				RETURNING repository_id, id)
		INSERT INTO tag (repository_id, name, manifest_id) SELECT repository_id, 'v1', id FROM m WHERE repository_id % 5 > 0`
	if _, err := pool.Exec(ctx, fill); err != nil {
		t.Fatal(err)
	}
	s, last, done := postgres.New(pool, postgres.Config{}), "", 0
	for n := 1; n > 0; {
		before := last
		var err error
		if n, last, err = s.ReformAfter(ctx, before); err != nil {
			t.Fatal(err)
		}
		if done += n; n > 0 && last <= before {
			t.Fatalf("after %q: got %q, want a greater name", before, last)
		}
	}
	var rows, images int
	const q = `SELECT (SELECT count(*) FROM repository_search WHERE facts @> ARRAY['label:number']), (SELECT count(*) FROM image_search)`
	if err := pool.QueryRow(ctx, q).Scan(&rows, &images); err != nil || done != 400 || rows != 400 || images != 400 {
		t.Errorf("got %d rewritten repositories, %d search rows of repositories, %d of images, %v, want 400 of each", done, rows, images, err)
	}
	if n, _, err := s.ReformAfter(ctx, ""); n != 0 || err != nil {
		t.Errorf("a second time: got %d rewritten repositories, %v, want none", n, err)
	}
}
