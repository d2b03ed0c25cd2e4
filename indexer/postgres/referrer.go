package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// maxReferrerBytes is how many bytes of types and annotations a page of referrers
// holds before it ends, and one referrer more: 2 MiB. Clients read no more than
// 4 MiB of an answer (oras-go 2.6, registry/remote, defaultMaxMetadataBytes), and
// JSON adds some 300 bytes to each referrer.
const maxReferrerBytes = 2 << 20

// Referrers returns one page of the manifests that belong to q.Subject: those that
// name it as their subject, those that the index on its referrers tag lists and
// the book holds, and, unless q.OCI, those on tags of older tools and those beside it
// in an image index. A manifest that
// names the subject and is listed too comes once, as one that names it.
//
// It reads no manifest's body. Keys come first, then the annotations of one key
// after the other until the page is full, so that an answer of any size costs no
// more than a page.
func (v *View) Referrers(ctx context.Context, q indexer.ReferrerQuery) (indexer.ReferrerPage, error) {
	query := `
		WITH RECURSIVE said AS (
			SELECT f.repository_id, f.manifest_id, f.tag, false AS beside FROM repository r JOIN referrer f ON f.repository_id = r.id
			WHERE r.name = $1 AND f.subject = $2 AND (f.tag = '' OR NOT $4)
			UNION
			SELECT e.repository_id, m.id, t.name, false FROM repository r
			JOIN tag t ON t.repository_id = r.id AND t.name = $3
			JOIN manifest i ON i.repository_id = t.repository_id AND i.id = t.manifest_id AND i.kind = 'index'
			JOIN index_entry e ON e.repository_id = i.repository_id AND e.manifest_id = i.id
			JOIN manifest m ON m.repository_id = e.repository_id AND m.digest = e.digest
			WHERE r.name = $1 AND NOT EXISTS (
				SELECT FROM referrer f WHERE f.repository_id = r.id AND f.subject = $2 AND f.manifest_id = m.id AND f.tag = '')
			UNION
			SELECT e.repository_id, m.id, '', true FROM repository r JOIN index_entry e ON e.repository_id = r.id AND ` + attests + ` = $2
			JOIN manifest m ON m.repository_id = e.repository_id AND m.digest = e.digest
			WHERE r.name = $1 AND NOT $4 AND NOT EXISTS (
				SELECT FROM referrer f WHERE f.repository_id = r.id AND f.subject = $2 AND f.manifest_id = m.id AND f.tag = '')
		), keys AS (
			SELECT array_agg(k.id ORDER BY k.digest, k.tag) AS ids, array_agg(k.tag ORDER BY k.digest, k.tag) AS tags,
				array_agg(k.beside ORDER BY k.digest, k.tag) AS beside, min(k.repository_id) AS repository_id
			FROM (
				SELECT m.repository_id, m.id, m.digest, s.tag, s.beside FROM said s JOIN manifest m ON m.repository_id = s.repository_id AND m.id = s.manifest_id
				WHERE (m.digest, s.tag) > ($5, $6)
				AND (cardinality($7::text[]) = 0 OR m.artifact_type_id IN (SELECT id FROM media_type WHERE name = ANY ($7)))
				ORDER BY m.digest, s.tag LIMIT $8 + 1
			) AS k
		), page (n, bytes) AS ( -- up to the nth key, and how many bytes those before it have
			SELECT 1, 0::bigint FROM keys WHERE ids IS NOT NULL
			UNION ALL
			SELECT page.n + 1, page.bytes + octet_length(mt.name) + COALESCE(octet_length(at.name), 0) + COALESCE(octet_length(m.annotations::text), 0)
			FROM page CROSS JOIN keys
			JOIN manifest m ON m.repository_id = keys.repository_id AND m.id = keys.ids[page.n]
			JOIN media_type mt ON mt.id = m.media_type_id
			LEFT JOIN media_type at ON at.id = m.artifact_type_id
			WHERE page.bytes < $9
		)
		SELECT keys.tags[page.n] AS tag, keys.beside[page.n] AS beside, m.digest, mt.name AS media_type, COALESCE(at.name, '') AS artifact_type, m.size, m.annotations,
			page.n < cardinality(keys.ids) AS more
		FROM page CROSS JOIN keys
		JOIN manifest m ON m.repository_id = keys.repository_id AND m.id = keys.ids[page.n]
		JOIN media_type mt ON mt.id = m.media_type_id
		LEFT JOIN media_type at ON at.id = m.artifact_type_id
		WHERE page.n <= $8 AND page.bytes < $9 ORDER BY page.n`
	type row struct {
		Tag                     string
		Beside                  bool
		Digest                  []byte
		MediaType, ArtifactType string
		Size                    int64
		Annotations             []byte
		More                    bool
	}
	listed := strings.Replace(q.Subject.String(), ":", "-", 1)
	after := append([]byte{}, bytesOf(q.After)...) // empty, not null: before all digests
	types := cleaned(q.Types, "")
	rows, err := collect[row](ctx, v.tx, query, q.Repository, bytesOf(q.Subject), listed, q.OCI, after, indexer.CleanText(q.AfterTag), types, q.Limit, maxReferrerBytes)
	var page indexer.ReferrerPage
	for _, r := range rows {
		page.More = r.More
		page.Items = append(page.Items, indexer.Referrer{
			Subject: q.Subject, Digest: digestOf(r.Digest), MediaType: r.MediaType, ArtifactType: r.ArtifactType,
			Size: r.Size, Annotations: stringsFrom(r.Annotations), Tag: r.Tag, Beside: r.Beside,
		})
	}
	return page, wrap(fmt.Sprintf("referrers of %s", q.Subject), err)
}
