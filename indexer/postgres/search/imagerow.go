package search

import (
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// imagesOf returns a statement that writes the search rows of the manifests that
// another statement selects, and deletes those of manifests that no tag points to any
// more. $1 must be their repositories: without it Postgres reads all tags.
//
// For manifests that are not whole it updates only the columns that depend on tags,
// where they differ. An index may list a thousand images, and a new tag of the index
// changes at most pushed_at in each of their rows, which is in no index of the
// database.
func imagesOf(manifests string, l Linked) string {
	columns := strings.Join(imageColumns, ", ")
	return shownImages(manifests, l) + `, gone AS (
		DELETE FROM image_search s USING touched x
		WHERE s.repository_id = x.repository_id AND s.manifest_id = x.id
			AND (x.repository_id, x.id) NOT IN (SELECT repository_id, id FROM tagged) -- hashed; NOT EXISTS compares each with each
	), moved AS (
		UPDATE image_search s SET latest = g.latest, listed = g.listed, tags = g.tags, pushed_at = g.pushed_at FROM tagged g
		WHERE NOT g.whole AND s.repository_id = g.repository_id AND s.manifest_id = g.id
			AND (s.latest, s.listed, s.pushed_at, s.tags) IS DISTINCT FROM (g.latest, g.listed, g.pushed_at, g.tags)
	), due AS MATERIALIZED (
		SELECT * FROM tagged g
		WHERE g.whole OR NOT EXISTS (SELECT FROM image_search s WHERE s.repository_id = g.repository_id AND s.manifest_id = g.id)
	)
	INSERT INTO image_search AS s (repository_id, manifest_id, ` + columns + `)
	` + imageRows("due", l) + `
	ORDER BY m.repository_id, m.id
	ON CONFLICT (repository_id, manifest_id) DO UPDATE SET (` + columns + `) = (excluded.` + strings.Join(imageColumns, ", excluded.") + `)`
}

// imageColumns are the columns of image_search without its key, in the order of
// imageRows.
var imageColumns = []string{
	"latest", "listed", "tags", "facts", "keys", "pairs", "size", "layers", "created_at", "pushed_at",
}

// shownImages returns the beginning of a statement: touched are the manifests that
// another statement selects; tagged are those of them that a tag points to, or that
// an index with a tag lists. What is yanked is in none of them: see yankedParts.
//
// The tags in a row are those that point to the manifest itself. If the images of an
// index had the tags of the index too, each new tag would rewrite all earlier ones in
// a thousand rows. So the tags of an index are read once for the index, and the
// condition tag: looks them up there; see isShownBy.
func shownImages(manifests string, l Linked) string {
	return `
	WITH ` + yankedParts("$1") + `, touched AS MATERIALIZED (` + manifests + `
	), listing AS MATERIALIZED (
		` + l.text(`SELECT DISTINCT x.repository_id, x.id, x.whole, e.manifest_id FROM touched x
		JOIN index_entry e ON e.repository_id = x.repository_id AND e.digest = x.digest
		WHERE e.repository_id = ANY($1)`, `SELECT repository_id, id, whole, id AS manifest_id FROM touched WHERE false`) + `
	), own AS MATERIALIZED (
		SELECT t.repository_id, t.manifest_id, bool_or(t.name = 'latest') AS latest, max(t.moved_at) AS pushed_at, array_agg(t.name ORDER BY t.name) AS tags
		FROM tag t WHERE t.repository_id = ANY($1) AND (t.repository_id, t.manifest_id) IN (
			SELECT repository_id, id FROM touched UNION SELECT repository_id, manifest_id FROM listing)
			AND NOT ` + isYanked + `
		GROUP BY t.repository_id, t.manifest_id
	), pointed AS (
		SELECT repository_id, id, whole, id AS manifest_id, false AS listed FROM touched
		UNION ALL
		SELECT repository_id, id, whole, manifest_id, true FROM listing
	), shown AS (
		SELECT p.repository_id, p.id, p.whole, own.latest, own.pushed_at, CASE WHEN NOT p.listed THEN own.tags END AS tags, p.listed
		FROM pointed p JOIN own ON own.repository_id = p.repository_id AND own.manifest_id = p.manifest_id
	), tagged AS MATERIALIZED (
		SELECT repository_id, id, whole, bool_or(latest) AS latest, bool_or(listed) AS listed, COALESCE(max(tags), '{}') AS tags, max(pushed_at) AS pushed_at
		FROM shown WHERE (repository_id, id) NOT IN (SELECT repository_id, id FROM yanked_manifest)
		GROUP BY repository_id, id, whole
	)`
}

// imageRows returns a query for the search rows of the manifests in the table tagged.
// Pairs leave out the values of memory.BuildTimeKeys.
func imageRows(tagged string, l Linked) string {
	return `
	SELECT m.repository_id, m.id, g.latest, g.listed, g.tags,
		ARRAY(
			SELECT DISTINCT f COLLATE "C" FROM (
				` + factsOfImage + `
				` + l.text("UNION ALL SELECT "+sqlFact(indexer.FactHas, "kind")+" FROM ("+Has("m")+") AS had (kind)", "") + `
			) AS facts WHERE f IS NOT NULL ORDER BY 1),
		labelled.keys, labelled.pairs,
		COALESCE(listed.size, m.content_size), CASE WHEN m.kind <> 'index' THEN cardinality(m.layer_ids) END, m.created_at, g.pushed_at
	FROM ` + tagged + ` g
	JOIN manifest m ON m.repository_id = g.repository_id AND m.id = g.id
	LEFT JOIN media_type a ON a.id = m.artifact_type_id
	LEFT JOIN platform p ON p.id = m.platform_id AND (p.os, p.architecture) <> ('unknown', 'unknown') AND (p.os, p.architecture) <> ('', '')
	` + l.text(listedFigures, "LEFT JOIN (SELECT NULL::bigint AS size, 0 AS platforms) listed ON false") + `
	CROSS JOIN LATERAL (
		SELECT COALESCE(array_agg(key), '{}') AS keys, COALESCE(array_agg(COALESCE(pair, key)), '{}') AS pairs FROM (
			SELECT hashtextextended('label:' || left(key, 200), 0) AS key,
				CASE WHEN key NOT IN ('` + strings.Join(memory.BuildTimeKeys, "', '") + `')
					THEN hashtextextended('label:' || left(key, 200) || chr(31) || left(value, 200), 0) END AS pair
			FROM jsonb_each_text(m.labels)
			UNION ALL
			SELECT hashtextextended('annotation:' || left(key, 200), 0), CASE WHEN key <> '` + memory.BuildTimeKeys[0] + `'
				THEN hashtextextended('annotation:' || left(key, 200) || chr(31) || left(value, 200), 0) END
			FROM jsonb_each_text(m.annotations)
		) AS label
	) labelled`
}

// factsOfImage is a query for the facts of a manifest m with the artifact type a and
// the platform p, except those of FactHas; some are null.
var factsOfImage = "SELECT f FROM (VALUES (" + strings.Join([]string{
	sqlFact(indexer.FactType, "m.kind"), sqlFact(indexer.FactType, "lower(a.name)"),
	sqlFact(indexer.FactOS, "lower(p.os)"), sqlFact(indexer.FactArchitecture, "lower(p.architecture)"),
	sqlFact(indexer.FactPlatform, "lower(p.os || '/' || p.architecture)"),
	sqlFact(indexer.FactPlatform, "lower(p.os || '/' || p.architecture || '/' || NULLIF(p.variant, ''))"),
	"CASE WHEN listed.platforms > 1 THEN '" + string(indexer.IsMultiarch) + "' END",
}, "), (") + ")) AS facts (f)"

// listedFigures are the total size of the images that an index m lists, and the
// number of their platforms.
var listedFigures = `LEFT JOIN LATERAL (
		SELECT (
			SELECT ` + pg.BoundedSum("sum(c.content_size)") + ` FROM (
				SELECT DISTINCT e.digest FROM index_entry e WHERE e.repository_id = m.repository_id AND e.manifest_id = m.id
			) e CROSS JOIN LATERAL ( -- as listedC
				SELECT c.content_size FROM manifest c WHERE c.repository_id = m.repository_id AND c.digest = e.digest OFFSET 0) c) AS size, (
			SELECT count(DISTINCT ep.id) FROM index_entry e JOIN platform ep ON ep.id = e.platform_id AND (ep.os, ep.architecture) <> ('unknown', 'unknown')
			WHERE e.repository_id = m.repository_id AND e.manifest_id = m.id) AS platforms
	) listed ON m.kind = 'index'`
