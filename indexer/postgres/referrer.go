package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
)

// maxReferrerBytes limits the types and annotations on a page of referrers: 512 KiB
// and one more referrer. A referrer has about a hundred bytes of them, one with a
// certificate in its annotations 10 KB, and few images have a hundred referrers, so
// hardly any page is cut short; the limit bounds the cost of an answer when somebody
// pushes large annotations. JSON adds about 300 bytes to each referrer, and clients
// read at most 4 MiB of an answer (oras-go 2.6, registry/remote,
// defaultMaxMetadataBytes).
const maxReferrerBytes = 512 << 10

// Referrers returns one page of the manifests that belong to q.Subject: those that
// name it as their subject; those that the book holds and that the index on its
// referrers tag lists; and, unless q.OCI is set, those on tags of older tools and
// those beside it in an image index. A manifest that names the subject and is also
// listed is returned once, as one that names it.
//
// It reads no manifest body. It reads the keys first, then the annotations of one
// key after another until the page is full, so that it never reads the annotations
// of more than a page.
//
// Each manifest is looked up as the first row at or after its key, in the order of
// the index on that key. With "=" PostgreSQL may, as long as a new book has no
// statistics, use any index that begins with the repository, and read all manifests
// of the repository for each lookup.
func (v *View) Referrers(ctx context.Context, q indexer.ReferrerQuery) (indexer.ReferrerPage, error) {
	if !v.visible.Sees(q.Repository) {
		return indexer.ReferrerPage{}, nil
	}
	query := `
		WITH RECURSIVE named AS (
			SELECT f.repository_id, f.manifest_id, f.tag FROM repository r JOIN referrer f ON f.repository_id = r.id
			WHERE r.name = $1 AND f.subject = $2 AND (f.tag = '' OR NOT $4)
		), list AS MATERIALIZED ( -- materialized, so that only the entries of this index are read
			SELECT i.repository_id, i.id, t.name AS tag FROM repository r
			JOIN tag t ON t.repository_id = r.id AND t.name = $3
			JOIN manifest i ON i.repository_id = t.repository_id AND i.id = t.manifest_id AND i.kind = 'index'
			WHERE r.name = $1
		), listed AS (
			SELECT e.repository_id, e.digest, list.tag, false AS beside FROM list
			JOIN index_entry e ON e.repository_id = list.repository_id AND e.manifest_id = list.id
			UNION
			SELECT e.repository_id, e.digest, '', true FROM repository r JOIN index_entry e ON e.repository_id = r.id AND ` + search.Attests + ` = $2
			WHERE r.name = $1 AND NOT $4
		), said AS (
			SELECT m.repository_id, m.id, m.digest, m.artifact_type_id, named.tag, false AS beside, true AS names
			FROM named CROSS JOIN LATERAL (
				SELECT m.repository_id, m.id, m.digest, m.artifact_type_id FROM manifest m
				WHERE m.repository_id = named.repository_id AND m.id >= named.manifest_id ORDER BY m.id LIMIT 1
			) AS m WHERE m.id = named.manifest_id
			UNION ALL
			SELECT m.repository_id, m.id, m.digest, m.artifact_type_id, listed.tag, listed.beside, false
			FROM listed CROSS JOIN LATERAL (
				SELECT m.repository_id, m.id, m.digest, m.artifact_type_id FROM manifest m
				WHERE m.repository_id = listed.repository_id AND m.digest >= listed.digest ORDER BY m.digest LIMIT 1
			) AS m WHERE m.digest = listed.digest
		), keys AS (
			SELECT array_agg(k.id ORDER BY k.digest, k.tag) AS ids, array_agg(k.tag ORDER BY k.digest, k.tag) AS tags,
				array_agg(k.beside ORDER BY k.digest, k.tag) AS beside, min(k.repository_id) AS repository_id
			FROM (
				SELECT s.repository_id, s.id, s.digest, s.tag, s.beside
				FROM (SELECT said.*, bool_or(names AND tag = '') OVER (PARTITION BY id) AS once FROM said) AS s
				WHERE (s.names OR NOT s.once) AND (s.digest, s.tag) > ($5, $6)
				AND (cardinality($7::text[]) = 0 OR s.artifact_type_id IN (SELECT id FROM media_type WHERE name = ANY ($7)))
				ORDER BY s.digest, s.tag LIMIT $8 + 1
			) AS k
		), page (n, bytes, digest, size, media_type, artifact_type, annotations) AS ( -- the nth, and how many bytes those up to it have
			SELECT 0, 0::bigint, ''::bytea, 0::bigint, '' COLLATE "C", '' COLLATE "C", '' FROM keys WHERE ids IS NOT NULL
			UNION ALL
			SELECT page.n + 1, page.bytes + octet_length(m.media_type) + octet_length(m.artifact_type) + COALESCE(octet_length(m.annotations), 0),
				m.digest, m.size, m.media_type, m.artifact_type, m.annotations
			FROM page CROSS JOIN keys CROSS JOIN LATERAL (
				SELECT m.id, m.digest, m.size, m.annotations::text AS annotations,
					(SELECT name FROM media_type WHERE id = m.media_type_id) AS media_type,
					COALESCE((SELECT name FROM media_type WHERE id = m.artifact_type_id), '') AS artifact_type
				FROM manifest m WHERE m.repository_id = keys.repository_id AND m.id >= keys.ids[page.n + 1] ORDER BY m.id LIMIT 1
			) AS m
			WHERE page.bytes < $9 AND page.n < $8 AND m.id = keys.ids[page.n + 1]
		)
		SELECT keys.tags[page.n] AS tag, keys.beside[page.n] AS beside, page.digest, page.media_type, page.artifact_type, page.size, page.annotations,
			page.n < cardinality(keys.ids) AS more
		FROM page CROSS JOIN keys WHERE page.n > 0 ORDER BY page.n`
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
	after := append([]byte{}, pg.DigestBytes(q.After)...) // empty, not null: sorts before all digests
	types := pg.Cleaned(q.Types)
	rows, err := pg.Collect[row](ctx, v.tx, query, q.Repository, pg.DigestBytes(q.Subject), listed, q.OCI,
		after, indexer.CleanText(q.AfterTag), types, q.Limit, maxReferrerBytes)
	var page indexer.ReferrerPage
	for _, r := range rows {
		page.More = r.More
		page.Items = append(page.Items, indexer.Referrer{
			Subject: q.Subject, Digest: pg.DigestFrom(r.Digest), MediaType: r.MediaType, ArtifactType: r.ArtifactType,
			Size: r.Size, Annotations: pg.StringsFrom(r.Annotations), Tag: r.Tag, Beside: r.Beside,
		})
	}
	return page, pg.Wrap(fmt.Sprintf("referrers of %s", q.Subject), err)
}
