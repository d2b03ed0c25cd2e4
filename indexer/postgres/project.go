package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// isHeld is the condition that a repository r is one of its project: see HeldRepository.
const isHeld = `(
	EXISTS (SELECT FROM manifest m WHERE m.repository_id = r.id) OR EXISTS (SELECT FROM tag t WHERE t.repository_id = r.id)
	OR EXISTS (SELECT FROM loose_blob l WHERE l.repository = r.name AND l.listed AND l.held_at IS NULL))`

// Project returns at most limit repositories of a project, by name.
func (v *View) Project(ctx context.Context, project string, limit int) ([]indexer.HeldRepository, error) {
	const q = `
		SELECT r.name, r.created_at FROM repository r WHERE r.name > $1 || '/' AND r.name < $1 || '0' AND ` + isHeld + `
		ORDER BY r.name`
	type row struct {
		Name      string
		CreatedAt time.Time
	}
	rows, err := v.tx.Query(ctx, q, indexer.CleanText(project)) // '0' comes after '/'
	if err != nil {
		return nil, pg.Wrap("project", err)
	}
	defer rows.Close()
	var list []indexer.HeldRepository
	for rows.Next() && len(list) < limit {
		r, err := pgx.RowToStructByName[row](rows)
		if err != nil {
			return nil, pg.Wrap("project", err)
		}
		if v.visible.Sees(r.Name) {
			list = append(list, indexer.HeldRepository{Name: r.Name, CreatedAt: r.CreatedAt})
		}
	}
	return list, pg.Wrap("project", rows.Err())
}

// Held returns a repository of a project with its size, or ErrNotFound.
func (v *View) Held(ctx context.Context, repository string) (indexer.HeldRepository, error) {
	id, held, err := v.held(ctx, repository)
	if err != nil {
		return held, err
	}
	q := `
		WITH used AS MATERIALIZED (
			SELECT b.digest, b.size FROM blob b WHERE b.id IN (
				SELECT unnest(m.layer_ids || m.config_id) FROM manifest m WHERE m.repository_id = $1)
		)
		SELECT ` + pg.BoundedSum("sum(size)") + ` FROM (
			SELECT size FROM used UNION ALL
			SELECT l.size FROM loose_blob l WHERE l.repository = $2 AND l.held_at IS NULL
				AND NOT EXISTS (SELECT FROM used u WHERE u.digest = l.digest)
		) AS every`
	err = v.tx.QueryRow(ctx, q, id, held.Name).Scan(&held.Size)
	return held, pg.Wrap("size of a repository", err)
}

// held returns the id and the row of a repository of a project, or ErrNotFound.
func (v *View) held(ctx context.Context, repository string) (id int32, held indexer.HeldRepository, err error) {
	what := fmt.Sprintf("repository %q", indexer.CleanText(repository))
	if !v.visible.Sees(repository) {
		return 0, held, pg.Wrap(what, indexer.ErrNotFound)
	}
	const q = "SELECT r.id, r.name, r.created_at FROM repository r WHERE r.name = $1 AND " + isHeld
	err = v.tx.QueryRow(ctx, q, indexer.CleanText(repository)).Scan(&id, &held.Name, &held.CreatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		err = indexer.ErrNotFound
	}
	return id, held, pg.Wrap(what, err)
}

// HeldTags returns at most limit tags of a repository of a project, those pushed last first, or
// ErrNotFound. A tag that the registry has never shown is left out: it has no digest.
func (v *View) HeldTags(ctx context.Context, repository string, limit int) (tags []indexer.HeldTag, err error) {
	id, _, err := v.held(ctx, repository)
	if err != nil {
		return nil, err
	}
	const q = `
		SELECT t.name AS tag, m.digest, GREATEST(t.moved_at, t.pushed_at) AS created_at
		FROM tag t JOIN manifest m ON m.repository_id = t.repository_id AND m.id = t.manifest_id
		WHERE t.repository_id = $1 ORDER BY created_at DESC, m.digest, t.name LIMIT $2`
	type row struct {
		Tag       string
		Digest    []byte
		CreatedAt time.Time
	}
	rows, err := pg.Collect[row](ctx, v.tx, q, id, limit)
	for _, r := range rows {
		tags = append(tags, indexer.HeldTag{Tag: r.Tag, Digest: pg.DigestFrom(r.Digest), CreatedAt: r.CreatedAt})
	}
	return tags, pg.Wrap("tags of a project", err)
}

// HeldManifests returns at most limit manifests of a repository of a project, those first read
// last first, or ErrNotFound.
func (v *View) HeldManifests(
	ctx context.Context, repository string, limit int,
) (manifests []indexer.HeldManifest, err error) {
	id, _, err := v.held(ctx, repository)
	if err != nil {
		return nil, err
	}
	const q = `
		SELECT digest, seen_at FROM manifest WHERE repository_id = $1 ORDER BY seen_at DESC, digest LIMIT $2`
	type row struct {
		Digest []byte
		SeenAt time.Time
	}
	rows, err := pg.Collect[row](ctx, v.tx, q, id, limit)
	for _, r := range rows {
		manifests = append(manifests, indexer.HeldManifest{Digest: pg.DigestFrom(r.Digest), CreatedAt: r.SeenAt})
	}
	return manifests, pg.Wrap("manifests of a project", err)
}

// ProjectStorage returns what a project takes. The asker must see all of the project, or it is
// ErrNotFound: the sum would tell of what is hidden.
func (v *View) ProjectStorage(ctx context.Context, project string) (s indexer.ProjectStorage, err error) {
	if !v.visible.SeesAll(project) {
		return s, pg.Wrap("storage of a project", indexer.ErrNotFound)
	}
	const q = "SELECT size, updated_at FROM project_storage WHERE namespace = $1"
	err = v.tx.QueryRow(ctx, q, indexer.CleanText(project)).Scan(&s.Size, &s.UpdatedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return indexer.ProjectStorage{}, nil
	}
	return s, pg.Wrap("storage of a project", err)
}

// CountProjects stores what each project takes now, from the storage of repositories as
// CountStorage has counted it and from loose blobs, of which PruneLoose must have removed those
// that are used. A project that has nothing any more gets 0.
func (s *Store) CountProjects(ctx context.Context) (projects int, err error) {
	q := `
		WITH found AS (
			SELECT namespace, ` + pg.BoundedSum("sum(size)") + ` AS size FROM (
				SELECT namespace, own + shared AS size FROM repository_storage UNION ALL
				SELECT split_part(l.repository, '/', 1), l.size FROM loose_blob l JOIN repository r ON r.name = l.repository
				WHERE l.repository LIKE '%/%' AND l.held_at IS NULL AND ` + isHeld + `
			) AS every WHERE namespace <> '' GROUP BY namespace
		), gone AS (
			UPDATE project_storage p SET size = 0, updated_at = now()
			WHERE NOT EXISTS (SELECT FROM found f WHERE f.namespace = p.namespace)
		), stored AS (
			INSERT INTO project_storage AS p (namespace, size, updated_at) SELECT namespace, size, now() FROM found
			ON CONFLICT (namespace) DO UPDATE SET size = excluded.size, updated_at = excluded.updated_at RETURNING 1
		)
		SELECT count(*) FROM stored`
	err = s.pool.QueryRow(ctx, q).Scan(&projects)
	return projects, pg.Wrap("storage of projects", err)
}
