package search

import (
	"context"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer/postgres/pg"
)

// searchForm is the version of the format of the search rows that this program
// writes. Reform rewrites rows of another form; increment it when the content of rows
// changes.
const searchForm = 5

// formOf returns the form of a repository's row: searchForm, or 0 if other rows of
// the repository are left to Reform. No program writes rows of form 0 otherwise.
func formOf(h headRow) int16 {
	if h.Unfinished {
		return 0
	}
	return searchForm
}

// reformBatch is the maximum number of repositories that one transaction of Reform
// rewrites: 200. Pushes to them wait for it, a few tenths of a second.
const reformBatch = 200

// Reform rewrites the search rows of the next repositories whose rows have another
// form and whose names are greater than after, in order of name. It returns how many
// repositories it rewrote, 0 if there are no more; the name of the last one; and those
// whose own row was written or deleted, in ascending order.
func Reform(ctx context.Context, tx pgx.Tx, after string) (n int, last string, written []int32, err error) {
	// Each OFFSET 0 keeps the plan, however many rows are old: names in order, and the search
	// row and a tag of each. Otherwise Postgres reads all search rows for each batch if it
	// expects few old ones, and all tags as soon as one repository has no search row.
	old := `
		SELECT r.id, r.name FROM repository r WHERE r.id = ANY (ARRAY(
			SELECT r.id FROM (SELECT r.id, r.name FROM repository r WHERE r.name > $2 ORDER BY r.name OFFSET 0) r
			LEFT JOIN LATERAL (SELECT s.form, s.leading_tag FROM repository_search s WHERE s.repository_id = r.id OFFSET 0) s ON true
			WHERE s.form <> $1 OR s.leading_tag IS NULL AND EXISTS (SELECT FROM tag t WHERE t.repository_id = r.id OFFSET 0)
			ORDER BY r.name LIMIT ` + strconv.Itoa(reformBatch) + `))
		ORDER BY r.name FOR NO KEY UPDATE OF r`
	type row struct {
		ID   int32
		Name string
	}
	rows, err := pg.Collect[row](ctx, tx, old, searchForm, after)
	if err != nil || len(rows) == 0 {
		return 0, "", nil, err
	}
	var ids []int32
	for _, r := range rows {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	written, err = rewrite(ctx, tx, ids)
	return len(rows), rows[len(rows)-1].Name, written, err
}

// Rewrite writes all search rows of repositories again, whatever is in them. The caller has
// locked the repositories. It returns those whose row was written or deleted, in ascending order.
func Rewrite(ctx context.Context, tx pgx.Tx, ids []int32) (written []int32, err error) {
	for _, q := range []string{
		"UPDATE repository SET updated_at = now() WHERE id = ANY($1)", // part of Reader.ImagesState
		"UPDATE repository_search SET form = 0 WHERE repository_id = ANY($1)",
	} {
		if _, err := tx.Exec(ctx, q, ids); err != nil {
			return nil, err
		}
	}
	return rewrite(ctx, tx, ids)
}

// rewrite writes all search rows of repositories again that have another form.
func rewrite(ctx context.Context, tx pgx.Tx, ids []int32) (written []int32, err error) {
	const all = "SELECT repository_id, id, digest, true AS whole FROM manifest WHERE repository_id = ANY($1)"
	pending := &pg.Pending{Tx: tx}
	pending.Queue(typesOfReferrers, ids)
	pending.Queue(imagesOf(all, true), ids)
	return writeSearchRows(ctx, pending, Change{Repositories: ids, Linked: true})
}

// typesOfReferrers sets the artifact type of images that name a subject to the type
// of their config, which programs before form 3 did not store. The body of the
// manifest has one of the two types.
const typesOfReferrers = `
	WITH untyped AS (
		SELECT m.repository_id, m.id, CASE WHEN position('application/vnd.docker.container.image.v1+json'::bytea IN b.body) > 0
			THEN 'application/vnd.docker.container.image.v1+json' ELSE 'application/vnd.oci.image.config.v1+json' END AS name
		FROM manifest m JOIN manifest_body b ON b.repository_id = m.repository_id AND b.manifest_id = m.id
		WHERE m.repository_id = ANY($1) AND m.kind = 'image' AND m.subject IS NOT NULL AND m.artifact_type_id IS NULL
	), types AS (
		INSERT INTO media_type (name) SELECT DISTINCT name FROM untyped ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id, name
	)
	UPDATE manifest m SET artifact_type_id = types.id FROM untyped u JOIN types ON types.name = u.name
	WHERE m.repository_id = u.repository_id AND m.id = u.id`
