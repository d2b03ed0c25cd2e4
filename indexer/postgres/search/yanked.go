package search

// yankedParts returns tables for a statement: the yanks in the repositories of a parameter, an
// array of ids. yanked_tag and yanked_manifest are what is yanked by name and by digest, and
// yanked_repository as a whole. The table yank is small, and mostly empty.
func yankedParts(repositories string) string {
	return `
	yanked AS MATERIALIZED (
		SELECT r.id AS repository_id, y.tag, y.digest, y.deprecated FROM repository r JOIN yank y ON y.repository = r.name
		WHERE r.id = ANY(` + repositories + `)
	), yanked_repository AS MATERIALIZED (
		SELECT repository_id FROM yanked WHERE tag = '' AND digest = '' AND NOT deprecated
	), yanked_tag AS MATERIALIZED (
		SELECT repository_id, tag FROM yanked WHERE tag <> ''
	), yanked_manifest AS MATERIALIZED (
		SELECT m.repository_id, m.id FROM yanked y JOIN manifest m ON m.repository_id = y.repository_id AND m.digest = y.digest
	)`
}

// isYanked holds for tags t that are yanked, beside the tables of yankedParts. NOT IN and IN are
// hashed; EXISTS would compare each with each.
const isYanked = `(t.repository_id IN (SELECT repository_id FROM yanked_repository)
	OR (t.repository_id, t.name) IN (SELECT repository_id, tag FROM yanked_tag)
	OR (t.repository_id, COALESCE(t.manifest_id, 0)) IN (SELECT repository_id, id FROM yanked_manifest))`

// isListed holds for tags t that are not yanked, in any statement.
const isListed = `(NOT EXISTS (SELECT FROM yank) OR NOT EXISTS (
	SELECT FROM repository yr JOIN yank y ON y.repository = yr.name WHERE yr.id = t.repository_id AND NOT y.deprecated
		AND (y.tag = t.name OR y.tag = '' AND y.digest = '' OR y.digest = (
			SELECT ym.digest FROM manifest ym WHERE ym.repository_id = t.repository_id AND ym.id = t.manifest_id))))`

// isShownRow holds for rows of repository_search AS s that searches show without being asked.
const isShownRow = "NOT s.facts @> ARRAY['is:unlisted']"
