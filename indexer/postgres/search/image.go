package search

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// Images returns the tagged images that q selects, by repository and digest, and
// the tagged image indexes that list such images, each image once an index: all of
// them, since flatpak knows no second page. What does not fit is marked LeftOut; see
// budget. The search rows of images tell which may be meant, and the manifests
// which are.
//
// Labels and annotations are read last, and only those that fit: before, an image
// is some 300 bytes of memory, however large they are and however many indexes list
// it.
func (rd *Reader) Images(ctx context.Context, q query.Images) ([]indexer.RepositoryImages, error) {
	found, err := rd.foundImages(ctx, q)
	if err != nil {
		return nil, pg.Wrap("images", err)
	}
	lists, err := rd.listsOf(ctx, found)
	if err != nil {
		return nil, pg.Wrap("image indexes", err)
	}
	if err := rd.readTags(ctx, found, lists); err != nil {
		return nil, pg.Wrap("tags of images", err)
	}
	groups := groupImages(q, found, lists)
	budget(groups, maxAnswerBytes, maxRepositoryBytes, maxImageBytes)
	if err := rd.readMetadata(ctx, groups); err != nil {
		return nil, pg.Wrap("labels of images", err)
	}
	return repositoriesFrom(groups), nil
}

// ImagesState names what Images gives of a query. A search row is written again
// when what it finds moves, appears or goes, and then differs in its tags, in when
// it was pushed, or in what it says of the image. The tags of the indexes that list
// it do not stand there; that they differ, the repository tells, which may have
// changed in something else too.
func (rd *Reader) ImagesState(ctx context.Context, q query.Images) (string, error) {
	sel := pg.Builder.Select("count(*)", `COALESCE(bit_xor(hashtextextended(
			concat_ws(' ', i.repository_id, i.manifest_id, i.listed, i.pushed_at,
				CASE WHEN i.listed THEN (SELECT r.updated_at FROM repository r WHERE r.id = i.repository_id) END, hash_array_extended(i.tags, 0), hash_array_extended(i.keys, 0), hash_array_extended(i.pairs, 0)), 0)), 0)`).
		FromSelect(candidates(q), "i")
	sql, args, err := sel.ToSql()
	if err != nil {
		return "", err
	}
	var n, hash int64
	if err := rd.db.QueryRow(ctx, sql, args...).Scan(&n, &hash); err != nil {
		return "", pg.Wrap("state of images", err)
	}
	return fmt.Sprintf("%d %x", n, uint64(hash)), nil
}

// imageM is the manifest of each candidate, if it is an image. The fence keeps
// Postgres from reading all manifests where it expects many candidates: they
// are a small part of all.
const imageM = `LATERAL (
	SELECT m.repository_id, m.id, m.digest, m.media_type_id, m.platform_id, m.labels, m.annotations, m.seen_at FROM manifest m
	WHERE m.repository_id = i.repository_id AND m.id = i.manifest_id AND m.kind = 'image' OFFSET 0) m ON true`

// nameR is the repository of each, fenced likewise.
const nameR = "LATERAL (SELECT r.name FROM repository r WHERE r.id = m.repository_id OFFSET 0) r ON true"

// metadataBytes is what labels and annotations take in an answer, in bytes: JSON as
// Postgres writes it is within a tenth of ours.
const metadataBytes = "(COALESCE(octet_length(%[1]s.labels::text), 0) + COALESCE(octet_length(%[1]s.annotations::text), 0))::bigint"

// foundImages returns the images for which all conditions of q hold but those on
// tags, in no order, without labels and annotations.
func (rd *Reader) foundImages(ctx context.Context, q query.Images) ([]*foundImage, error) {
	sel := pg.Builder.Select("m.repository_id", "m.id", "r.name", "m.digest", "mt.name AS media_type", "COALESCE(p.os, '') AS os",
		"COALESCE(p.architecture, '') AS architecture", "i.listed", "CASE WHEN NOT i.listed THEN i.tags END AS tags",
		fmt.Sprintf(metadataBytes, "m")+" AS bytes", "left(m.labels ->> '"+indexer.FlatpakRefLabel+"', 600) AS ref", "COALESCE(f.first_seen_at, m.seen_at) AS ref_since").
		FromSelect(candidates(q), "i").
		Join(imageM).
		Join(nameR).
		Join("media_type mt ON mt.id = m.media_type_id").
		LeftJoin("platform p ON p.id = m.platform_id").
		LeftJoin(`LATERAL (SELECT f.first_seen_at FROM flatpak_ref f
			WHERE f.repository = r.name AND f.ref = m.labels ->> '` + indexer.FlatpakRefLabel + `' OFFSET 0) f ON true`)
	for _, c := range q {
		if c.Field != query.FieldTag {
			sel = sel.Where(condition(c, "m"))
		}
	}
	sql, args, err := sel.ToSql()
	if err != nil {
		return nil, err
	}
	rows, err := rd.db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToAddrOfStructByName[foundImage])
}

// listsOf returns the tagged image indexes that list what was found, in no order.
func (rd *Reader) listsOf(ctx context.Context, found []*foundImage) (map[pg.ManifestID]*foundList, error) {
	var repositories []int32
	var ids []int64
	var digests [][]byte
	images := map[pg.ManifestID]*foundImage{}
	for _, i := range found {
		if i.Listed {
			repositories, ids, digests = append(repositories, i.RepositoryID), append(ids, i.ID), append(digests, i.Digest)
			images[pg.ManifestID{Repository: i.RepositoryID, ID: i.ID}] = i
		}
	}
	lists := map[pg.ManifestID]*foundList{}
	if len(ids) == 0 {
		return lists, nil
	}
	// The entries of an index that name one image many times are one.
	const q = `
		SELECT w.repository_id, w.id AS image, e.manifest_id AS list, e.position
		FROM unnest($1::int[], $2::bigint[], $3::bytea[]) AS w (repository_id, id, digest)
		CROSS JOIN LATERAL (
			SELECT e.manifest_id, min(e.position) AS position FROM index_entry e
			WHERE e.repository_id = w.repository_id AND e.digest = w.digest GROUP BY e.manifest_id OFFSET 0) e`
	type pair struct {
		RepositoryID int32
		Image, List  int64
		Position     int32
	}
	pairs, err := pg.Collect[pair](ctx, rd.db, q, repositories, ids, digests)
	if err != nil {
		return nil, err
	}
	for _, p := range pairs {
		id := pg.ManifestID{Repository: p.RepositoryID, ID: p.List}
		l := lists[id]
		if l == nil {
			l = &foundList{}
			lists[id] = l
		}
		l.images = append(l.images, listedImage{foundImage: images[pg.ManifestID{Repository: p.RepositoryID, ID: p.Image}], position: p.Position})
	}
	return lists, rd.readLists(ctx, lists)
}

// readLists reads what stands of image indexes, and forgets what is none with a tag.
func (rd *Reader) readLists(ctx context.Context, lists map[pg.ManifestID]*foundList) error {
	const q = `
		SELECT l.repository_id, l.id, l.digest, mt.name AS media_type, COALESCE(octet_length(l.annotations::text), 0)::bigint AS bytes
		FROM unnest($1::int[], $2::bigint[]) AS w (repository_id, id)
		CROSS JOIN LATERAL (
			SELECT l.repository_id, l.id, l.digest, l.media_type_id, l.annotations FROM manifest l
			WHERE l.repository_id = w.repository_id AND l.id = w.id AND l.kind = 'index' OFFSET 0) l
		JOIN media_type mt ON mt.id = l.media_type_id`
	type row struct {
		RepositoryID int32
		ID           int64
		Digest       []byte
		MediaType    string
		Bytes        int64
	}
	repositories, ids := pg.ManifestColumns(maps.Keys(lists))
	rows, err := pg.Collect[row](ctx, rd.db, q, repositories, ids)
	for _, r := range rows {
		l := lists[pg.ManifestID{Repository: r.RepositoryID, ID: r.ID}]
		l.id, l.digest, l.mediaType, l.bytes = pg.ManifestID{Repository: r.RepositoryID, ID: r.ID}, r.Digest, r.MediaType, r.Bytes
	}
	maps.DeleteFunc(lists, func(_ pg.ManifestID, l *foundList) bool { return l.digest == nil })
	return err
}

// readTags reads the tags of image indexes, and of the images that they list. No
// index tells the tags of a manifest. Search rows tell which tags show it in any
// way, so those are looked up, each once a repository; or all tags of the
// repository are read, where those are fewer.
func (rd *Reader) readTags(ctx context.Context, found []*foundImage, lists map[pg.ManifestID]*foundList) error {
	into := map[pg.ManifestID]*[]string{}
	for _, i := range found {
		if i.Listed {
			into[pg.ManifestID{Repository: i.RepositoryID, ID: i.ID}] = &i.Tags
		}
	}
	for id, l := range lists {
		into[id] = &l.tags
	}
	if len(into) == 0 {
		return nil
	}
	const q = `
		WITH shown AS MATERIALIZED (
			SELECT s.repository_id, s.tags FROM unnest($1::int[], $2::bigint[]) AS w (repository_id, id)
			CROSS JOIN LATERAL (
				SELECT s.repository_id, s.tags FROM image_search s WHERE s.repository_id = w.repository_id AND s.manifest_id = w.id OFFSET 0) s
		), way AS MATERIALIZED (
			SELECT s.repository_id, sum(cardinality(s.tags)) > COALESCE((
				SELECT r.tags FROM repository_search r WHERE r.repository_id = s.repository_id), 0) AS whole
			FROM shown s GROUP BY s.repository_id
		), name AS MATERIALIZED (
			SELECT DISTINCT s.repository_id, n.name FROM shown s, unnest(s.tags) AS n (name)
			WHERE s.repository_id IN (SELECT repository_id FROM way WHERE NOT whole)
		)
		SELECT w.repository_id, t.manifest_id, t.name FROM way w CROSS JOIN LATERAL (
			SELECT t.manifest_id, t.name FROM tag t WHERE t.repository_id = w.repository_id OFFSET 0) t
		WHERE w.whole AND t.manifest_id IS NOT NULL
		UNION ALL
		SELECT n.repository_id, t.manifest_id, n.name FROM name n CROSS JOIN LATERAL (
			SELECT t.manifest_id FROM tag t WHERE t.repository_id = n.repository_id AND t.name = n.name OFFSET 0) t
		WHERE t.manifest_id IS NOT NULL`
	repositories, ids := pg.ManifestColumns(maps.Keys(into))
	rows, err := rd.db.Query(ctx, q, repositories, ids)
	if err != nil {
		return err
	}
	var id pg.ManifestID
	var name string
	_, err = pgx.ForEachRow(rows, []any{&id.Repository, &id.ID, &name}, func() error {
		if tags := into[id]; tags != nil {
			*tags = append(*tags, name)
		}
		return nil
	})
	for _, tags := range into {
		slices.Sort(*tags)
	}
	return err
}

// readMetadata reads the labels and annotations of what fits.
func (rd *Reader) readMetadata(ctx context.Context, groups []*group) error {
	wanted := map[pg.ManifestID]bool{}
	for _, s := range groups {
		for _, e := range s.entries {
			if e.leftOut {
				continue
			}
			wanted[pg.ManifestID{Repository: e.image.RepositoryID, ID: e.image.ID}] = true
			if e.list != nil {
				wanted[e.list.id] = true
			}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	const q = `
		SELECT w.repository_id, w.id, m.labels, m.annotations FROM unnest($1::int[], $2::bigint[]) AS w (repository_id, id)
		CROSS JOIN LATERAL (
			SELECT m.labels, m.annotations FROM manifest m WHERE m.repository_id = w.repository_id AND m.id = w.id OFFSET 0) m`
	repositories, ids := pg.ManifestColumns(maps.Keys(wanted))
	rows, err := rd.db.Query(ctx, q, repositories, ids)
	if err != nil {
		return err
	}
	read := map[pg.ManifestID]metadata{}
	var id pg.ManifestID
	var labels, annotations []byte
	_, err = pgx.ForEachRow(rows, []any{&id.Repository, &id.ID, &labels, &annotations}, func() error {
		read[id] = metadata{pg.StringsFrom(labels), pg.StringsFrom(annotations)}
		return nil
	})
	for _, s := range groups {
		for _, e := range s.entries {
			if !e.leftOut {
				e.metadata = read[pg.ManifestID{Repository: e.image.RepositoryID, ID: e.image.ID}]
				if e.list != nil {
					e.list.annotations = read[e.list.id].annotations
				}
			}
		}
	}
	return err
}

// candidates selects the search rows that may be of images q selects, by what
// the indexes tell: no image that q selects is left out.
func candidates(q query.Images) sq.SelectBuilder {
	sel := sq.Select("i.repository_id", "i.manifest_id", "i.listed", "i.tags", "i.keys", "i.pairs", "i.pushed_at").From("image_search i").Suffix("OFFSET 0") // a fence, as in imageM
	for _, c := range q {
		sel = sel.Where(hint(c))
	}
	return sel
}

// hint is true for the search row of every image for which a condition is.
func hint(c query.Condition) sq.Sqlizer {
	switch c.Field {
	case query.FieldRepository:
		return sq.Expr("i.repository_id IN (SELECT r.id FROM repository r WHERE ?)", compare("r.name", c))
	case query.FieldTag:
		if c.Op == query.OpMatches {
			break
		}
		if len(c.Values) == 1 && c.Values[0] == "latest" {
			return sq.Expr("i.latest") // word for word, or Postgres does not use the index of these
		}
		// What tags of these names show is found once, by the index of their names.
		return sq.Expr(`(i.tags && ? OR i.listed AND (i.repository_id, i.manifest_id) IN (
			SELECT m.repository_id, m.id FROM (SELECT t.repository_id, t.manifest_id FROM tag t WHERE t.name = ANY(?) OFFSET 0) AS t
			CROSS JOIN LATERAL (SELECT e.digest FROM index_entry e WHERE e.repository_id = t.repository_id AND e.manifest_id = t.manifest_id OFFSET 0) AS e
			CROSS JOIN LATERAL (SELECT m.repository_id, m.id FROM manifest m WHERE m.repository_id = t.repository_id AND m.digest = e.digest OFFSET 0) AS m))`,
			pg.Cleaned(c.Values), pg.Cleaned(c.Values))
	case query.FieldOS:
		return factHint(c, "os:")
	case query.FieldArchitecture:
		return factHint(c, "arch:")
	case query.FieldLabel:
		return keyHint(c, "label:")
	case query.FieldAnnotation:
		return keyHint(c, "annotation:")
	}
	return sq.Expr("true")
}

// factHint leaves out those of another platform. The facts are in lower case, and
// tell of no platform that says nothing.
func factHint(c query.Condition, prefix string) sq.Sqlizer {
	if c.Op == query.OpMatches || slices.Contains(c.Values, "") || slices.Contains(c.Values, "unknown") {
		return sq.Expr("true")
	}
	facts := pg.Cleaned(c.Values)
	for i, value := range facts {
		facts[i] = prefix + indexer.LowerASCII(value)
	}
	return sq.Expr("i.facts && ?", facts)
}

// keyHint leaves out those that have no such key or, where terms tell values, no
// such value.
func keyHint(c query.Condition, prefix string) sq.Sqlizer {
	key := prefix + cut(c.Name)
	if c.Op != query.OpEquals || strings.HasSuffix(c.Name, "created") || strings.HasSuffix(c.Name, "build-date") {
		return sq.Expr("i.keys @> ARRAY[hashtextextended(?, 0)]", key)
	}
	var terms []string
	for _, v := range c.Values {
		terms = append(terms, key+pg.Separator+cut(v))
	}
	return sq.Expr("i.pairs && ARRAY(SELECT hashtextextended(term, 0) FROM unnest(?::text[]) AS term)", terms)
}

// cut gives text as far as terms hold it.
func cut(text string) string {
	runes := []rune(indexer.CleanText(text))
	return string(runes[:min(len(runes), maxTerm)])
}

// condition is one condition on an image, but for those on its tags.
func condition(c query.Condition, image string) sq.Sqlizer {
	switch c.Field {
	case query.FieldRepository:
		return compare("r.name", c)
	case query.FieldOS:
		return compare("COALESCE(p.os, '')", c)
	case query.FieldArchitecture:
		return compare("COALESCE(p.architecture, '')", c)
	case query.FieldLabel:
		return compareKey(image+".labels", c)
	case query.FieldAnnotation:
		return compareKey(image+".annotations", c)
	}
	return sq.Expr("false") // a field that is none selects nothing
}

func compareKey(column string, c query.Condition) sq.Sqlizer {
	if c.Op == query.OpExists {
		return sq.Expr(column+" ?? ?", indexer.CleanText(c.Name))
	}
	any := sq.Or{}
	for _, value := range c.Values {
		if c.Op == query.OpMatches {
			any = append(any, sq.Expr(beginningOf("("+column+" ->> ?)")+" LIKE ?", indexer.CleanText(c.Name), like(value)))
		} else {
			any = append(any, sq.Expr(column+" ->> ? = ?", indexer.CleanText(c.Name), indexer.CleanText(value)))
		}
	}
	return any
}

// compare is true if the expression is, or matches, any of the values; with no
// value it is false.
func compare(expression string, c query.Condition) sq.Sqlizer {
	var values []string
	for _, v := range c.Values {
		if c.Op == query.OpMatches {
			v = like(v)
		}
		values = append(values, indexer.CleanText(v))
	}
	if c.Op == query.OpMatches {
		return sq.Expr(expression+" LIKE ANY(?)", values)
	}
	return sq.Expr(expression+" = ANY(?)", values)
}

// like turns a glob, in which * is any run of characters and ? any one, into a
// pattern of LIKE.
func like(glob string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`, `*`, `%`, `?`, `_`).Replace(indexer.CleanText(glob))
}
