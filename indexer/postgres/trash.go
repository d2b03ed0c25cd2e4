package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A trashRow is a row of trash.
type trashRow struct {
	ID, OperationID       int64
	Repository            string
	Digest                []byte
	MediaType             string
	Tags                  []string
	TagsOnly              bool
	Size                  int64
	KeptAt                time.Time
	DeletedAt, RestoredAt *time.Time
}

const trashColumns = `
	id, operation_id, repository, digest, media_type, tags, tags_only, octet_length(body)::bigint AS size, kept_at, deleted_at,
	restored_at`

func (r trashRow) trash() indexer.Trash {
	return indexer.Trash{
		ID: r.ID, Operation: r.OperationID, Repository: r.Repository, Digest: pg.DigestFrom(r.Digest), MediaType: r.MediaType,
		Tags: r.Tags, TagsOnly: r.TagsOnly, Size: r.Size, KeptAt: r.KeptAt, DeletedAt: pg.TimeOrZero(r.DeletedAt),
		RestoredAt: pg.TimeOrZero(r.RestoredAt),
	}
}

func trashOf(rows []trashRow, err error) ([]indexer.Trash, error) {
	var all []indexer.Trash
	for _, r := range rows {
		all = append(all, r.trash())
	}
	return all, pg.Wrap("trash", err)
}

// KeepTrash stores a manifest that an operation is about to delete, or whose tags alone it has
// deleted. If the operation has kept it before, tags are added: an attempt that was killed may
// have deleted those of before.
func (s *Store) KeepTrash(ctx context.Context, t indexer.Trash) error {
	const q = `
		INSERT INTO trash (operation_id, repository, digest, media_type, body, tags, tags_only) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (operation_id, repository, digest) DO UPDATE SET
			tags = ARRAY(SELECT DISTINCT name FROM unnest(trash.tags || excluded.tags) AS name ORDER BY name),
			tags_only = excluded.tags_only, restored_at = NULL, deleted_at = NULL`
	_, err := s.pool.Exec(ctx, q, t.Operation, t.Repository, pg.DigestBytes(t.Digest), indexer.CleanText(t.MediaType),
		t.Body, orNone(t.Tags), t.TagsOnly)
	return pg.Wrap("keep "+t.Digest.String(), err)
}

// orNone returns texts, or an empty list instead of nil.
func orNone(texts []string) []string {
	if texts == nil {
		return []string{}
	}
	return texts
}

// KeepRepository is KeepTrash for all manifests of a repository whose bytes the book has, except
// those that the operation has kept already.
func (s *Store) KeepRepository(ctx context.Context, operation int64, repository string) error {
	const q = `
		INSERT INTO trash (operation_id, repository, digest, media_type, body, tags)
		SELECT $1, r.name, m.digest, mt.name, b.body, ARRAY(
			SELECT t.name FROM tag t WHERE t.repository_id = m.repository_id AND t.manifest_id = m.id ORDER BY t.name)
		FROM repository r
		JOIN manifest m ON m.repository_id = r.id
		JOIN media_type mt ON mt.id = m.media_type_id
		JOIN manifest_body b ON b.repository_id = m.repository_id AND b.manifest_id = m.id
		WHERE r.name = $2
		ON CONFLICT DO NOTHING`
	_, err := s.pool.Exec(ctx, q, operation, repository)
	return pg.Wrap("keep the manifests of "+repository, err)
}

// Trash returns what can be restored, the latest first, without bodies.
func (s *Store) Trash(ctx context.Context, q indexer.TrashQuery) ([]indexer.Trash, error) {
	sel := pg.Builder.Select(trashColumns).From("trash").Where("deleted_at IS NOT NULL AND restored_at IS NULL").
		OrderBy("id DESC").Suffix("LIMIT ?", q.Limit)
	if q.Repository != "" {
		sel = sel.Where(sq.Eq{"repository": indexer.CleanText(q.Repository)})
	}
	if q.Operation > 0 {
		sel = sel.Where("operation_id = ?", q.Operation)
	}
	if q.Before > 0 {
		sel = sel.Where("id < ?", q.Before)
	}
	return trashOf(pg.Selected[trashRow](ctx, s.pool, sel))
}

// TrashByID returns manifests of the trash in order of id, without bodies. Those that do not
// exist are left out.
func (s *Store) TrashByID(ctx context.Context, ids []int64) ([]indexer.Trash, error) {
	const q = "SELECT " + trashColumns + " FROM trash WHERE id = ANY($1) ORDER BY id"
	return trashOf(pg.Collect[trashRow](ctx, s.pool, q, ids))
}

// TrashOf returns what an operation has kept, in order of id and after one, without bodies.
func (s *Store) TrashOf(ctx context.Context, operation, after int64, limit int) ([]indexer.Trash, error) {
	const q = "SELECT " + trashColumns + " FROM trash WHERE operation_id = $1 AND id > $2 ORDER BY id LIMIT $3"
	return trashOf(pg.Collect[trashRow](ctx, s.pool, q, operation, after, limit))
}

// TrashBody returns the media type and the bytes of a manifest that was deleted last, or
// ErrNotFound.
func (s *Store) TrashBody(
	ctx context.Context, repository string, d digest.Digest,
) (mediaType string, body []byte, err error) {
	const q = `
		SELECT media_type, body FROM trash WHERE (repository, digest) = ($1, $2) ORDER BY id DESC LIMIT 1`
	type row struct {
		MediaType string
		Body      []byte
	}
	r, err := one[row](ctx, s.pool, fmt.Sprintf("%s@%s in the trash", repository, d), q, repository, pg.DigestBytes(d))
	return r.MediaType, r.Body, err
}

// DeletedTrash stores that the registry has deleted what an operation has kept.
func (s *Store) DeletedTrash(ctx context.Context, operation int64, repository string, digests []digest.Digest) error {
	const q = `
		UPDATE trash SET deleted_at = now()
		WHERE operation_id = $1 AND repository = $2 AND digest = ANY($3) AND deleted_at IS NULL`
	_, err := s.pool.Exec(ctx, q, operation, repository, bytesOf(digests))
	return pg.Wrap("deleted manifests", err)
}

// BackInRegistry stores that a manifest is in the registry again, and which tag shows it; "": none
// that is known to. Of what was deleted with other tags, these stay in the trash.
func (s *Store) BackInRegistry(ctx context.Context, repository string, d digest.Digest, tag string) error {
	const q = `
		UPDATE trash SET restored_at = CASE WHEN tags <@ $3 THEN now() END, tags_only = NOT tags <@ $3
		WHERE repository = $1 AND digest = $2 AND deleted_at IS NOT NULL AND restored_at IS NULL`
	tags := []string{}
	if tag != "" {
		tags = append(tags, tag)
	}
	_, err := s.pool.Exec(ctx, q, repository, pg.DigestBytes(d), tags)
	return pg.Wrap("restored manifest", err)
}

// RestoredTrash stores that a manifest of the trash was restored with its tags.
func (s *Store) RestoredTrash(ctx context.Context, id int64) error {
	_, err := s.pool.Exec(ctx, "UPDATE trash SET restored_at = now() WHERE id = $1 AND restored_at IS NULL", id)
	return pg.Wrap("restored manifest", err)
}

// ForgetTrash removes what an operation has kept and not deleted.
func (s *Store) ForgetTrash(ctx context.Context, operation int64) error {
	_, err := s.pool.Exec(ctx, "DELETE FROM trash WHERE operation_id = $1 AND deleted_at IS NULL", operation)
	return pg.Wrap("forget kept manifests", err)
}

// EmptyTrash removes at most limit manifests that were kept longer ago than a time, of
// operations that are over, and returns how many there were.
func (s *Store) EmptyTrash(ctx context.Context, keep time.Duration, limit int) (int, error) {
	const q = `
		DELETE FROM trash WHERE id IN (
			SELECT t.id FROM trash t JOIN operation o ON o.id = t.operation_id
			WHERE t.kept_at < now() - $1 * interval '1 second' AND o.ended_at IS NOT NULL ORDER BY t.kept_at LIMIT $2)`
	gone, err := s.pool.Exec(ctx, q, keep.Seconds(), limit)
	return int(gone.RowsAffected()), pg.Wrap("empty the trash", err)
}

// bytesOf returns digests as they are stored.
func bytesOf(digests []digest.Digest) [][]byte {
	all := make([][]byte, len(digests))
	for i, d := range digests {
		all[i] = pg.DigestBytes(d)
	}
	return all
}

// SetTrashTags replaces the tags of what an operation has kept of a repository by those that
// show it. It returns those of the digests that were not kept, with their tags.
func (s *Store) SetTrashTags(
	ctx context.Context, operation int64, repository string, shown map[string]digest.Digest,
) (unkept map[digest.Digest][]string, err error) {
	tags := slices.Sorted(maps.Keys(shown))
	digests := make([]digest.Digest, len(tags))
	unkept = map[digest.Digest][]string{}
	for i, tag := range tags {
		digests[i] = shown[tag]
		unkept[shown[tag]] = append(unkept[shown[tag]], tag)
	}
	const q = `
		UPDATE trash t SET tags = found.tags FROM (
			SELECT k.id, COALESCE(array_agg(s.tag ORDER BY s.tag) FILTER (WHERE s.tag IS NOT NULL), '{}') AS tags
			FROM trash k LEFT JOIN unnest($3::bytea[], $4::text[]) AS s (digest, tag) ON s.digest = k.digest
			WHERE k.operation_id = $1 AND k.repository = $2 GROUP BY k.id) AS found
		WHERE t.id = found.id RETURNING t.digest`
	kept, err := pg.Column[[]byte](ctx, s.pool, q, operation, repository, bytesOf(digests), tags)
	for _, d := range digestsOf(kept) {
		delete(unkept, d)
	}
	return unkept, pg.Wrap("tags of "+repository, err)
}
