package search

import (
	"fmt"
	"strings"

	"github.com/portbook/portbook/indexer"
)

const (
	// maxAttached is the maximum number of referrers of a manifest that are read, for each
	// of the three ways to refer to it: 1,000. That is enough to know whether there is a
	// signature, and one push must not pay for thousands of earlier ones.
	maxAttached = 1000
	// maxStatement is the largest manifest of an attestation, in bytes, that is
	// searched for the kinds of its statements: 64 KiB, about 200 layers.
	maxStatement = 64 << 10
)

// Attests is an SQL expression on an entry e of an image index: the digest of the
// image that the entry attests, in BuildKit's format, or null if the entry is no
// attestation. An index of the database uses the same expression.
const Attests = `CASE WHEN e.annotations ->> 'vnd.docker.reference.type' = 'attestation-manifest' AND e.annotations ->> 'vnd.docker.reference.digest' ~ '^sha256:[0-9a-f]{64}$'
	THEN decode(substr(e.annotations ->> 'vnd.docker.reference.digest', 8), 'hex') END`

// listedC is the manifest that an entry e of an image index lists, if it is stored.
// OFFSET 0 keeps Postgres from starting with the manifests: it expects few of them in
// any repository, and would read thousands again for each entry.
const listedC = `CROSS JOIN LATERAL (
	SELECT m.repository_id, m.id, m.digest FROM manifest m WHERE m.repository_id = e.repository_id AND m.digest = e.digest OFFSET 0) AS c`

// Has returns a query that selects the "has:" values of a manifest, each once: the
// kinds of its referrers and, for an image index, the kinds that every stored image
// in it has.
func Has(manifest string) string {
	return fmt.Sprintf(`
		SELECT kind FROM (%[2]s) AS own (kind)
		UNION
		SELECT every.kind FROM (
			SELECT image.*, count(*) OVER () AS images FROM (
				SELECT DISTINCT c.repository_id, c.digest FROM index_entry e `+listedC+`
				WHERE %[1]s.kind = 'index' AND e.repository_id = %[1]s.repository_id AND e.manifest_id = %[1]s.id AND %[4]s IS NULL
			) AS image OFFSET 0
		) AS image CROSS JOIN LATERAL (SELECT DISTINCT kind FROM (%[3]s) AS own (kind)) AS every
		GROUP BY every.kind, image.images HAVING count(*) = image.images`,
		manifest, attached(manifest), attached("image"), Attests)
}

// StoredHas returns an expression for the "has:" values of a tagged manifest, sorted,
// as stored in its search row; null if it has no search row.
func StoredHas(repository, manifest string) string {
	return "(SELECT ARRAY(" + factValues(indexer.FactHas, "s.facts") + ") FROM image_search s WHERE s.repository_id = " +
		repository + " AND s.manifest_id = " + manifest + ")"
}

// attached returns a query that selects the kinds of the referrers of a manifest,
// some more than once. A referrer names the manifest as its subject, has a tag that
// older tools made for it, is in the index on its referrers tag, or is an attestation
// that BuildKit stores beside it. The layers of an attestation name its kinds
// (in-toto's predicate types); they are searched as bytes, because a pushed manifest
// need not be JSON that Postgres accepts.
//
// The manifest of a referrer is called its, not m: the condition would otherwise compare
// its repository with itself if the given manifest is m, and read every manifest there is.
//
// OFFSET 0 has the same reason as in listedC.
func attached(manifest string) string {
	return fmt.Sprintf(`
		SELECT kind.name FROM (
			(SELECT f.manifest_id, f.tag, NULL AS kind FROM referrer f
				WHERE f.repository_id = %[1]s.repository_id AND f.subject = %[1]s.digest LIMIT %[2]d)
			UNION ALL
			(SELECT c.id, '', NULL FROM tag t JOIN index_entry e ON e.repository_id = t.repository_id AND e.manifest_id = t.manifest_id `+listedC+`
				WHERE t.repository_id = %[1]s.repository_id AND t.name = 'sha256-' || encode(%[1]s.digest, 'hex') LIMIT %[2]d)
			UNION ALL
			(SELECT c.id, '', 'attestation' FROM index_entry e `+listedC+`
				WHERE e.repository_id = %[1]s.repository_id AND %[3]s = %[1]s.digest LIMIT %[2]d)
		) AS said
		CROSS JOIN LATERAL (
			SELECT its.repository_id, its.id, its.size, its.artifact_type_id, its.media_type_id FROM manifest its
			WHERE its.repository_id = %[1]s.repository_id AND its.id = said.manifest_id OFFSET 0) AS a
		JOIN media_type t ON t.id = COALESCE(a.artifact_type_id, a.media_type_id)
		CROSS JOIN LATERAL (SELECT %[4]s AS by_type, COALESCE(said.kind, %[5]s) AS by_place) AS found
		LEFT JOIN manifest_body b ON b.repository_id = a.repository_id AND b.manifest_id = a.id
			AND 'attestation' IN (found.by_type, found.by_place) AND a.size <= %[6]d
		CROSS JOIN LATERAL (VALUES ('referrer'), (found.by_type), (found.by_place),
			(CASE WHEN position('https://spdx.dev/Document'::bytea IN b.body) > 0 OR position('https://cyclonedx.org/bom'::bytea IN b.body) > 0 THEN 'sbom' END),
			(CASE WHEN position('https://slsa.dev/provenance'::bytea IN b.body) > 0 THEN 'provenance' END)) AS kind (name)
		WHERE kind.name IS NOT NULL`,
		manifest, maxAttached, Attests, kindCase("lower(t.name)"), kindCase("substring(said.tag FROM '\\.[a-z]+$')"), maxStatement)
}

// kindCase returns an expression for the kind that a type or the suffix of a tag tells,
// as indexer.Referrer.Kind does; null for none.
func kindCase(expression string) string {
	var b strings.Builder
	b.WriteString("CASE")
	for _, k := range indexer.ReferrerParts() {
		fmt.Fprintf(&b, " WHEN strpos(%s, '%s') > 0 THEN '%s'", expression, k.Part, k.Kind)
	}
	return b.String() + " END"
}
