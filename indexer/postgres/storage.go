package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// storageFound computes the storage of repositories ('found') and of namespaces
// ('found_spaces'). It computes from tags and index entries what a tag shows, not
// from the search rows, because those may be about to be rewritten.
//
// 'used' has each blob once for each repository. 'counted' adds whether the blob is
// used in that repository only, and whether this row is the one that counts for its
// namespace and for the total. So all sums are sums over repositories. All windows
// use one order, so the rows are sorted once. Repositories are joined as the table,
// not as a part of the statement: Postgres has no statistics for a part, so it
// expected a billion rows and hashed them into thousands of files.
//
// Sums are limited to 2^53 - 1, because a manifest may claim any size for its
// layers.
var storageFound = `
	WITH RECURSIVE shown AS (
		SELECT repository_id, manifest_id AS id FROM tag WHERE manifest_id IS NOT NULL
		UNION
		SELECT c.repository_id, c.id FROM shown s
		JOIN index_entry e ON e.repository_id = s.repository_id AND e.manifest_id = s.id
		JOIN manifest c ON c.repository_id = e.repository_id AND c.digest = e.digest
	), untagged AS MATERIALIZED (
		SELECT m.repository_id, m.id FROM manifest m
		WHERE NOT EXISTS (SELECT FROM shown s WHERE s.repository_id = m.repository_id AND s.id = m.id)
			AND NOT EXISTS (SELECT FROM manifest subject WHERE subject.repository_id = m.repository_id AND subject.digest = m.subject)
	), used AS (
		SELECT blob_id, space, repository_id, bool_and(untagged) AS untagged FROM (
			SELECT unnest(m.layer_ids || m.config_id) AS blob_id, p.space, m.repository_id, u.id IS NOT NULL AS untagged
			FROM manifest m
			JOIN (SELECT id, min(id) OVER (PARTITION BY ` + namespaceOf + `) AS space FROM repository) AS p ON p.id = m.repository_id
			LEFT JOIN untagged u ON u.repository_id = m.repository_id AND u.id = m.id
		) AS every WHERE blob_id IS NOT NULL GROUP BY blob_id, space, repository_id
	), counted AS (
		SELECT blob_id, repository_id, untagged,
			min(repository_id) OVER uses = max(repository_id) OVER uses AS alone,
			min(space) OVER uses = max(space) OVER uses AS within,
			row_number() OVER (PARTITION BY blob_id ORDER BY space, repository_id) = 1 AS here,
			row_number() OVER (PARTITION BY blob_id, space ORDER BY repository_id) = 1 AS here_within
		FROM used WINDOW uses AS (PARTITION BY blob_id)
	), bytes AS (
		SELECT c.repository_id, sum(b.size) FILTER (WHERE alone) AS own, sum(b.size) FILTER (WHERE NOT alone) AS shared,
			sum(b.size) FILTER (WHERE alone AND untagged) AS untagged_size, sum(b.size) FILTER (WHERE here) AS size,
			sum(b.size) FILTER (WHERE here_within AND within) AS space_own, sum(b.size) FILTER (WHERE here_within AND NOT within) AS space_shared
		FROM counted c JOIN blob b ON b.id = c.blob_id GROUP BY c.repository_id
	), manifests AS (
		SELECT m.repository_id, count(*)::int AS manifests, count(u.id)::int AS untagged, max(m.seen_at) AS seen_at
		FROM manifest m LEFT JOIN untagged u ON u.repository_id = m.repository_id AND u.id = m.id GROUP BY m.repository_id
	), tags AS (
		SELECT repository_id, max(moved_at) AS moved_at FROM tag GROUP BY repository_id
	), found AS MATERIALIZED (
		SELECT r.name, ` + namespaceOf + ` AS namespace, m.manifests, m.untagged, GREATEST(m.seen_at, t.moved_at) AS pushed_at,
			` + pg.BoundedSum("b.own") + ` AS own, ` + pg.BoundedSum("b.shared") + ` AS shared, ` + pg.BoundedSum("b.untagged_size") + ` AS untagged_size,
			b.size, b.space_own, b.space_shared
		FROM repository r JOIN manifests m ON m.repository_id = r.id LEFT JOIN bytes b ON b.repository_id = r.id LEFT JOIN tags t ON t.repository_id = r.id
	), found_spaces AS MATERIALIZED (
		SELECT namespace, count(*)::int AS repositories, ` + pg.BoundedSum("sum(space_own)") + ` AS own, ` + pg.BoundedSum("sum(space_shared)") + ` AS shared
		FROM found GROUP BY namespace
	)`

// storageStored writes the rows that differ from the stored ones, and returns their
// number.
var storageStored = `
	, gone AS (
		DELETE FROM repository_storage s WHERE NOT EXISTS (SELECT FROM found f WHERE f.name = s.name) RETURNING 1
	), moved AS (
		UPDATE repository_storage s SET (own, shared, manifests, untagged, untagged_size, pushed_at) = (f.own, f.shared, f.manifests, f.untagged, f.untagged_size, f.pushed_at)
		FROM found f WHERE f.name = s.name
			AND (s.own, s.shared, s.manifests, s.untagged, s.untagged_size, s.pushed_at) <> (f.own, f.shared, f.manifests, f.untagged, f.untagged_size, f.pushed_at)
		RETURNING 1
	), new AS (
		INSERT INTO repository_storage (name, namespace, own, shared, manifests, untagged, untagged_size, pushed_at)
		SELECT name, namespace, own, shared, manifests, untagged, untagged_size, pushed_at FROM found f
		WHERE NOT EXISTS (SELECT FROM repository_storage s WHERE s.name = f.name) ON CONFLICT DO NOTHING RETURNING 1
	), gone_spaces AS (
		DELETE FROM namespace_storage s WHERE NOT EXISTS (SELECT FROM found_spaces f WHERE f.namespace = s.namespace) RETURNING 1
	), moved_spaces AS (
		UPDATE namespace_storage s SET (repositories, own, shared) = (f.repositories, f.own, f.shared) FROM found_spaces f
		WHERE f.namespace = s.namespace AND (s.repositories, s.own, s.shared) <> (f.repositories, f.own, f.shared) RETURNING 1
	), new_spaces AS (
		INSERT INTO namespace_storage (namespace, repositories, own, shared) SELECT namespace, repositories, own, shared FROM found_spaces f
		WHERE NOT EXISTS (SELECT FROM namespace_storage s WHERE s.namespace = f.namespace) ON CONFLICT DO NOTHING RETURNING 1
	), changed AS (
		SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM moved) + (SELECT count(*) FROM new)
			+ (SELECT count(*) FROM gone_spaces) + (SELECT count(*) FROM moved_spaces) + (SELECT count(*) FROM new_spaces) AS n
	), total AS (
		SELECT count(*)::int AS repositories, COALESCE(sum(manifests), 0)::bigint AS manifests, ` + pg.BoundedSum("sum(size)") + ` AS size, ` + pg.BoundedSum("sum(own)") + ` AS own,
			COALESCE(sum(untagged), 0)::bigint AS untagged, ` + pg.BoundedSum("sum(untagged_size)") + ` AS untagged_size FROM found
	), moved_total AS (
		UPDATE storage_total s SET (repositories, manifests, size, own, untagged, untagged_size, counted_at) =
			(f.repositories, f.manifests, f.size, f.own, f.untagged, f.untagged_size, now())
		FROM total f, changed c WHERE c.n > 0
			OR (s.repositories, s.manifests, s.size, s.own, s.untagged, s.untagged_size) <> (f.repositories, f.manifests, f.size, f.own, f.untagged, f.untagged_size)
		RETURNING 1
	), new_total AS (
		INSERT INTO storage_total (repositories, manifests, size, own, untagged, untagged_size)
		SELECT repositories, manifests, size, own, untagged, untagged_size FROM total
		WHERE NOT EXISTS (SELECT FROM storage_total) ON CONFLICT DO NOTHING RETURNING 1
	)
	SELECT (SELECT n FROM changed) + (SELECT count(*) FROM moved_total) + (SELECT count(*) FROM new_total)`

// namespaceOf is an SQL expression for the namespace of a repository: the part of
// its name before the first slash, empty if there is none.
const namespaceOf = `CASE WHEN name LIKE '%/%' THEN split_part(name, '/', 1) ELSE '' END`

// storageSettings are set for the count of storage only. Sorts and hashes may use 64
// MB each before they use the disk. Nested loops are off: Postgres does not know how
// many rows the parts of the statement have, and a nested loop over two long ones
// took ten times as long as everything else (measured).
const storageSettings = `
	SELECT set_config('work_mem', '64MB', true), set_config('enable_nestloop', 'off', true), set_config('jit', 'off', true)`

// CountStorage counts the storage of repositories and namespaces again, and returns
// how many rows differ from the stored ones. It reads all manifests, and holds no
// lock that others wait for.
func (s *Store) CountStorage(ctx context.Context) (n int, err error) {
	err = s.begin(ctx, func(tx pgx.Tx, c cluster) error {
		if _, err := tx.Exec(ctx, storageSettings); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, storageFound+storageStored).Scan(&n); err != nil || n == 0 {
			return err
		}
		return bump(ctx, tx, c, nil)
	})
	return n, pg.Wrap("count of storage", err)
}

// Storage returns the storage of all repositories; its CountedAt is zero before the
// first count.
//
// An asker who does not see every repository gets the sums over those that it sees:
// see indexer.Storage.Part.
func (v *View) Storage(ctx context.Context) (total indexer.Storage, err error) {
	const q = `SELECT repositories, manifests, size, own, untagged, untagged_size, counted_at FROM storage_total`
	err = v.tx.QueryRow(ctx, q).Scan(&total.Repositories, &total.Manifests, &total.Size, &total.Own,
		&total.Untagged, &total.UntaggedSize, &total.CountedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return total, nil
	}
	if err == nil && !v.visible.All() {
		total, err = v.visibleStorage(ctx, total.CountedAt)
	}
	return total, pg.Wrap("storage", err)
}

// visibleStorage returns the sums over the repositories that the asker may see.
func (v *View) visibleStorage(ctx context.Context, countedAt time.Time) (indexer.Storage, error) {
	total := indexer.Storage{CountedAt: countedAt, Part: true}
	sql, args, err := pg.Statement(`
		SELECT count(*)::int, COALESCE(sum(manifests), 0)::bigint, `+pg.BoundedSum("sum(shared)")+`, COALESCE(sum(untagged), 0)::bigint
		FROM (?) AS stored`, v.stored(sq.Expr("true")))
	if err != nil {
		return total, err
	}
	err = v.tx.QueryRow(ctx, sql, args...).Scan(&total.Repositories, &total.Manifests, &total.Size, &total.Untagged)
	return total, err
}

// stored selects the rows of repository_storage that the asker may see and for which a
// condition holds, with all bytes as shared ones if the asker does not see all rows.
// An order and a limit may follow the condition: see pg.Visible.
func (v *View) stored(which sq.Sqlizer) sq.Sqlizer {
	bytes := "own, shared, untagged_size"
	if !v.visible.All() {
		bytes = "0::bigint AS own, own + shared AS shared, 0::bigint AS untagged_size"
	}
	return v.names.EachSpan(sq.Expr("SELECT name, namespace, manifests, untagged, pushed_at, "+bytes+
		" FROM repository_storage WHERE ? AND ?", v.names.InSpan("name"), which))
}

// inNamespace returns the condition that a row of repository_storage is in a namespace.
func (v *View) inNamespace(name *string) sq.Sqlizer {
	if name == nil {
		return sq.Expr("true")
	}
	space := indexer.CleanText(*name)
	in := sq.And{sq.Eq{"namespace": space}}
	if space != "" && !v.visible.All() {
		in = append(in, sq.Expr("name > ? AND name < ?", space+"/", space+"0")) // '0' comes after '/'
	}
	return in
}

// NamespaceStorage returns at most limit namespaces, largest first. If name is not
// nil, it returns that namespace only, or none.
func (v *View) NamespaceStorage(ctx context.Context, name *string, limit int) ([]indexer.NamespaceStorage, error) {
	rows := sq.Expr("SELECT namespace, repositories, own, shared FROM namespace_storage WHERE ?", v.inNamespace(name))
	if !v.visible.All() {
		rows = sq.Expr("SELECT namespace, count(*)::int AS repositories, 0::bigint AS own, "+pg.BoundedSum("sum(shared)")+
			" AS shared FROM (?) AS stored GROUP BY namespace", v.stored(v.inNamespace(name)))
	}
	list, err := pg.Stated[indexer.NamespaceStorage](ctx, v.tx,
		"SELECT * FROM (?) AS spaces ORDER BY (own + shared) DESC, namespace LIMIT ?", rows, limit)
	return list, pg.Wrap("storage of namespaces", err)
}

// storageOrders are the orders that have an index.
var storageOrders = map[indexer.StorageOrder]string{
	indexer.ByName:     "name",
	indexer.ByStorage:  "(own + shared) DESC, name",
	indexer.ByPush:     "pushed_at, name",
	indexer.ByUntagged: "untagged_size DESC, untagged DESC, name",
}

// RepositoryStorage returns the storage of the repositories that q selects. For an
// asker who does not see every repository it reads and sorts all that the asker sees,
// unless the order is that of their names.
func (v *View) RepositoryStorage(ctx context.Context, q indexer.StorageQuery) ([]indexer.RepositoryStorage, error) {
	which := sq.And{v.inNamespace(q.Namespace)}
	if q.Name != "" {
		which = append(which, sq.Eq{"name": indexer.CleanText(q.Name)})
	}
	if q.After != "" {
		which = append(which, sq.Gt{"name": indexer.CleanText(q.After)})
	}
	if q.Order == indexer.ByUntagged {
		which = append(which, sq.Expr("untagged > 0"))
	}
	rows := v.stored(which)
	if q.Order == indexer.ByName {
		rows = v.stored(sq.Expr("? ORDER BY name LIMIT ?", which, q.Offset+q.Limit))
	}
	list, err := pg.Stated[indexer.RepositoryStorage](ctx, v.tx,
		`SELECT name, own, shared, manifests, untagged, untagged_size, pushed_at FROM (?) AS stored
		ORDER BY `+storageOrders[q.Order]+" LIMIT ? OFFSET ?", rows, q.Limit, q.Offset)
	return list, pg.Wrap(fmt.Sprintf("storage of repositories after %q", q.After), err)
}
