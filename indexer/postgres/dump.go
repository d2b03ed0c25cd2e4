package postgres

import (
	"context"
	"fmt"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// batchBytes limits the bodies that AllManifests returns: 8 MiB and one more body. A
// body has at most 4 MiB; most have 2 KB.
const batchBytes = 8 << 20

// Names returns at most limit names of repositories that have a tag, in order, after
// the given name.
func (v *View) Names(ctx context.Context, after string, limit int) ([]string, error) {
	page := v.names.EachSpan(sq.Expr("SELECT name FROM repository_search WHERE name > ? AND ? ORDER BY name LIMIT ?",
		indexer.CleanText(after), v.names.InSpan("name"), limit))
	sql, args, err := pg.Statement("SELECT name FROM (?) AS page ORDER BY name LIMIT ?", page, limit)
	if err != nil {
		return nil, err
	}
	names, err := pg.Column[string](ctx, v.tx, sql, args...)
	return names, pg.Wrap(fmt.Sprintf("names after %q", after), err)
}

// AllManifests returns at most limit manifests of all repositories, in order of
// repository and digest, after the given position. It returns fewer if their bodies
// are large, and an empty slice only at the end. Entries are not set: they are in
// the body.
func (v *View) AllManifests(
	ctx context.Context, afterRepository string, afterDigest digest.Digest, limit int,
) ([]indexer.Manifest, error) {
	// First the rest of the given repository, then the repositories after it, so
	// that each half is read in index order.
	name := indexer.CleanText(afterRepository)
	after := append([]byte{}, pg.DigestBytes(afterDigest)...) // empty, not null: sorts before all digests
	rest := sq.Expr(`
		SELECT r.name, m.digest, m.repository_id, m.id FROM repository r JOIN manifest m ON m.repository_id = r.id
		WHERE r.name = ? AND ? AND m.digest > ? ORDER BY m.digest LIMIT ?`, name, v.names.Name("r.name"), after, limit)
	others := v.names.EachSpan(sq.Expr(`
		SELECT r.name, m.digest, m.repository_id, m.id FROM repository r JOIN manifest m ON m.repository_id = r.id
		WHERE r.name > ? AND ? ORDER BY r.name, m.digest LIMIT ?`, name, v.names.InSpan("r.name"), limit))
	const q = `
		WITH keys AS (
			SELECT k.*, sum(k.bytes) OVER (ORDER BY k.name, k.digest) - k.bytes AS before FROM (
				SELECT next.*, pg_column_size(b.body) + COALESCE(pg_column_size(b.config), 0) AS bytes
				FROM ((?) UNION ALL (?)) AS next
				LEFT JOIN manifest_body b ON b.repository_id = next.repository_id AND b.manifest_id = next.id
				ORDER BY next.name, next.digest LIMIT ?
			) AS k
		)
		SELECT k.name, m.digest, mt.name AS media_type, COALESCE(at.name, '') AS artifact_type, m.kind, m.size, m.content_size,
			m.created_at, m.seen_at, m.problems, b.body, b.config
		FROM keys k
		JOIN manifest m ON m.repository_id = k.repository_id AND m.id = k.id
		JOIN media_type mt ON mt.id = m.media_type_id
		LEFT JOIN media_type at ON at.id = m.artifact_type_id
		LEFT JOIN manifest_body b ON b.repository_id = m.repository_id AND b.manifest_id = m.id
		WHERE COALESCE(k.before, 0) <= ? ORDER BY k.name, k.digest`
	type row struct {
		Name                          string
		Digest                        []byte
		MediaType, ArtifactType, Kind string
		Size, ContentSize             int64
		CreatedAt                     *time.Time
		SeenAt                        time.Time
		Problems                      []string
		Body, Config                  []byte
	}
	rows, err := pg.Stated[row](ctx, v.tx, q, rest, others, limit, batchBytes)
	var manifests []indexer.Manifest
	for _, r := range rows {
		manifests = append(manifests, storedManifest{
			Digest: r.Digest, MediaType: r.MediaType, ArtifactType: r.ArtifactType, Kind: r.Kind,
			Size: r.Size, ContentSize: r.ContentSize, CreatedAt: r.CreatedAt, SeenAt: r.SeenAt,
			Problems: r.Problems, Body: r.Body, Config: r.Config,
		}.manifest(r.Name))
	}
	return manifests, pg.Wrap(fmt.Sprintf("manifests after %q", afterRepository), err)
}

// AllTags returns at most limit tags of all repositories, in order of repository and
// name, after the given position. Each has its name, digest, problem and the time
// when it last moved.
func (v *View) AllTags(ctx context.Context, afterRepository, afterTag string, limit int) ([]indexer.TagOf, error) {
	repository := indexer.CleanText(afterRepository)
	rest := sq.Expr(`
		SELECT r.name AS repository, t.* FROM repository r JOIN tag t ON t.repository_id = r.id
		WHERE r.name = ? AND ? AND t.name > ? ORDER BY t.name LIMIT ?`,
		repository, v.names.Name("r.name"), indexer.CleanText(afterTag), limit)
	others := v.names.EachSpan(sq.Expr(`
		SELECT r.name AS repository, t.* FROM repository r JOIN tag t ON t.repository_id = r.id
		WHERE r.name > ? AND ? ORDER BY r.name, t.name LIMIT ?`, repository, v.names.InSpan("r.name"), limit))
	const q = `
		SELECT next.repository, next.name, m.digest, next.moved_at, COALESCE(next.problem, '') AS problem
		FROM ((?) UNION ALL (?)) AS next
		LEFT JOIN manifest m ON m.repository_id = next.repository_id AND m.id = next.manifest_id
		ORDER BY next.repository, next.name LIMIT ?`
	type row struct {
		Repository, Name string
		Digest           []byte
		MovedAt          time.Time
		Problem          string
	}
	rows, err := pg.Stated[row](ctx, v.tx, q, rest, others, limit)
	var tags []indexer.TagOf
	for _, r := range rows {
		tags = append(tags, indexer.TagOf{Repository: r.Repository, Tag: indexer.Tag{
			Name: r.Name, Digest: pg.DigestFrom(r.Digest), MovedAt: r.MovedAt, Problem: indexer.StoredReason(r.Problem),
		}})
	}
	return tags, pg.Wrap(fmt.Sprintf("tags after %q", afterRepository), err)
}

// HistoryAt returns the id of the first move seen after at, or 0 if there is none.
// It is a binary search over ids, because ids grow with time. If two indexers write
// at the same moment, one of their moves may be missed. The move may be one that the
// asker may not see: its id is a place in the history of all repositories.
func (v *View) HistoryAt(ctx context.Context, at time.Time) (int64, error) {
	const q = `
		WITH RECURSIVE ends AS (SELECT max(id) AS last FROM tag_history),
		half (low, high) AS ( -- the first move that was seen later is above low, and not above high
			SELECT 0::bigint, last + 1 FROM ends WHERE last IS NOT NULL
			UNION ALL
			SELECT CASE WHEN seen.later THEN half.low ELSE seen.middle END, CASE WHEN seen.later THEN seen.middle ELSE half.high END
			FROM half CROSS JOIN LATERAL (
				SELECT (half.low + half.high) / 2 AS middle,
					COALESCE((SELECT h.seen_at > $1 FROM tag_history h WHERE h.id >= (half.low + half.high) / 2 ORDER BY h.id LIMIT 1), true) AS later
			) AS seen
			WHERE half.high - half.low > 1
		)
		SELECT COALESCE((SELECT high FROM half WHERE high - low <= 1 AND high <= (SELECT last FROM ends)), 0)`
	var id int64
	err := v.tx.QueryRow(ctx, q, at).Scan(&id)
	return id, pg.Wrap(fmt.Sprintf("history at %v", at), err)
}
