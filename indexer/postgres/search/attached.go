package search

import (
	"fmt"
	"strings"

	"github.com/portbook/portbook/indexer"
)

const (
	// maxAttached is the most referrers of a manifest, of each way to be one, that
	// are asked what they are: 1,000. Nobody needs more to know that there is a
	// signature, and one push must not cost what thousands before it did.
	maxAttached = 1000
	// maxStatement is the most bytes of an attestation's manifest in which the
	// kinds of its statements are looked for: 64 KiB, some 200 layers.
	maxStatement = 64 << 10
)

// attests is, of an entry e of an image index, the digest of the image that it is
// an attestation of, as BuildKit writes it; null for all other entries. It is the
// expression of an index.
const Attests = `CASE WHEN e.annotations ->> 'vnd.docker.reference.type' = 'attestation-manifest' AND e.annotations ->> 'vnd.docker.reference.digest' ~ '^sha256:[0-9a-f]{64}$'
	THEN decode(substr(e.annotations ->> 'vnd.docker.reference.digest', 8), 'hex') END`

// listedC is the manifest that an entry e of an image index lists, if the book has
// it. The fence keeps Postgres from beginning with the manifests: it expects few in
// any repository, and reads all of one that has thousands again for each entry.
const listedC = `CROSS JOIN LATERAL (
	SELECT m.repository_id, m.id, m.digest FROM manifest m WHERE m.repository_id = e.repository_id AND m.digest = e.digest OFFSET 0) AS c`

// has selects what a manifest has, as the query language says it, each once: what
// its referrers are and, of an image index, also what every image in it has that
// the book holds.
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

// storedHas is what has gives of a manifest that a tag shows, sorted, as its search
// row has it; null if it has none.
func StoredHas(repository, manifest string) string {
	return "(SELECT ARRAY(SELECT substr(fact, 5) FROM unnest(s.facts) AS fact WHERE fact LIKE 'has:%') FROM image_search s WHERE s.repository_id = " +
		repository + " AND s.manifest_id = " + manifest + ")"
}

// attached selects what the referrers of a manifest are, some more than once:
// those that name it as their subject, those that stand on tags of older tools or
// in the index on its referrers tag, and the attestations that BuildKit puts
// beside it. Of an attestation, its layers tell what it states (in-toto's predicate
// types); their descriptors are looked for as bytes, since what strangers push need
// not be JSON that Postgres reads.
//
// The fence (OFFSET 0) is there for the reason of listedC.
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
			SELECT m.repository_id, m.id, m.size, m.artifact_type_id, m.media_type_id FROM manifest m
			WHERE m.repository_id = %[1]s.repository_id AND m.id = said.manifest_id OFFSET 0) AS a
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

// kindCase is indexer.ReferrerKind of an expression.
func kindCase(expression string) string {
	var b strings.Builder
	b.WriteString("CASE")
	for _, k := range indexer.ReferrerKinds() {
		fmt.Fprintf(&b, " WHEN strpos(%s, '%s') > 0 THEN '%s'", expression, k.Part, k.Kind)
	}
	return b.String() + " END"
}
