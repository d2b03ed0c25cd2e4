package search

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// Images returns the tagged images that q selects, by repository and digest, and the
// tagged image indexes that list such images, with each image once in an index. It
// returns all of them, since flatpak has no paging. Images that do not fit are marked
// LeftOut; see budget. The search rows of images select candidates, and the manifests
// decide.
//
// Labels and annotations are read last, and only for images that fit. Until then an
// image takes about 300 bytes of memory, however large they are and however many
// indexes list it.
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

// ImagesState returns a hash that changes whenever Images would return something else
// for q. A search row is rewritten when its image is pushed, moved or deleted, and
// then differs in its tags, its push time, or its keys and values. It does not hold
// the tags of the indexes that list the image; for those the hash includes the time
// at which the repository last changed, for whatever reason.
func (rd *Reader) ImagesState(ctx context.Context, q query.Images) (string, error) {
	sel := pg.Builder.Select("count(*)", `COALESCE(bit_xor(hashtextextended(
			concat_ws(' ', i.repository_id, i.manifest_id, i.listed, i.pushed_at,
				CASE WHEN i.listed THEN (SELECT r.updated_at FROM repository r WHERE r.id = i.repository_id) END, hash_array_extended(i.tags, 0), hash_array_extended(i.keys, 0), hash_array_extended(i.pairs, 0)), 0)), 0)`).
		FromSelect(rd.possibleImages(q), "i")
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

// imageM is the manifest of each candidate, if it is an image. OFFSET 0 keeps
// Postgres from reading all manifests where it expects many candidates, which are a
// small part of all.
const imageM = `LATERAL (
	SELECT m.repository_id, m.id, m.digest, m.media_type_id, m.platform_id, m.labels, m.annotations, m.seen_at FROM manifest m
	WHERE m.repository_id = i.repository_id AND m.id = i.manifest_id AND m.kind = 'image' OFFSET 0) m ON true`

// nameR is the repository of each candidate; OFFSET 0 has the same reason.
const nameR = "LATERAL (SELECT r.name FROM repository r WHERE r.id = m.repository_id OFFSET 0) r ON true"

// metadataBytes is the number of bytes of labels and annotations in an answer, within
// a tenth: it measures the JSON that Postgres writes.
const metadataBytes = "(COALESCE(octet_length(%[1]s.labels::text), 0) + COALESCE(octet_length(%[1]s.annotations::text), 0))::bigint"

// foundImages returns the images that fulfil all conditions of q except those on
// tags, unordered, without labels and annotations.
func (rd *Reader) foundImages(ctx context.Context, q query.Images) ([]*foundImage, error) {
	sel := pg.Builder.Select("m.repository_id", "m.id", "r.name", "m.digest", "mt.name AS media_type",
		"COALESCE(p.os, '') AS os", "COALESCE(p.architecture, '') AS architecture",
		"i.listed", "CASE WHEN NOT i.listed THEN i.tags END AS tags", fmt.Sprintf(metadataBytes, "m")+" AS bytes",
		"left(m.labels ->> '"+indexer.FlatpakRefLabel+"', 600) AS ref", "COALESCE(f.first_seen_at, m.seen_at) AS ref_since").
		FromSelect(rd.possibleImages(q), "i").
		Join(imageM).
		Join(nameR).
		Join("media_type mt ON mt.id = m.media_type_id").
		LeftJoin("platform p ON p.id = m.platform_id").
		LeftJoin(`LATERAL (SELECT f.first_seen_at FROM flatpak_ref f
			WHERE f.repository = r.name AND f.ref = m.labels ->> '` + indexer.FlatpakRefLabel + `' OFFSET 0) f ON true`)
	for _, c := range q {
		if c.Field != query.FieldTag {
			sel = sel.Where(exactCondition(c, "m"))
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

type listedKey struct {
	RepositoryID int32
	ID           int64
	Digest       []byte
}

// selectListing returns the indexes that list images. An index that lists an image
// several times counts as one entry.
var selectListing = `
	SELECT w.repository_id, w.id AS image, e.manifest_id AS list, e.position
	FROM ` + pg.Unnest[listedKey]("w", 1) + `
	CROSS JOIN LATERAL (
		SELECT e.manifest_id, min(e.position) AS position FROM index_entry e
		WHERE e.repository_id = w.repository_id AND e.digest = w.digest GROUP BY e.manifest_id OFFSET 0) e`

// listsOf returns the tagged image indexes that list the found images.
func (rd *Reader) listsOf(ctx context.Context, found []*foundImage) (map[pg.ManifestID]*foundList, error) {
	var listed []listedKey
	images := map[pg.ManifestID]*foundImage{}
	for _, i := range found {
		if i.Listed {
			listed = append(listed, listedKey{i.RepositoryID, i.ID, i.Digest})
			images[pg.ManifestID{Repository: i.RepositoryID, ID: i.ID}] = i
		}
	}
	lists := map[pg.ManifestID]*foundList{}
	if len(listed) == 0 {
		return lists, nil
	}
	type pair struct {
		RepositoryID int32
		Image, List  int64
		Position     int32
	}
	pairs, err := pg.Collect[pair](ctx, rd.db, selectListing, pg.Arrays(listed)...)
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
		image := images[pg.ManifestID{Repository: p.RepositoryID, ID: p.Image}]
		l.images = append(l.images, listedImage{foundImage: image, position: p.Position})
	}
	return lists, rd.readLists(ctx, lists)
}

var selectLists = `
	SELECT l.repository_id, l.id, l.digest, mt.name AS media_type, COALESCE(octet_length(l.annotations::text), 0)::bigint AS bytes
	FROM ` + pg.Unnest[pg.ManifestID]("w", 1) + `
	CROSS JOIN LATERAL (
		SELECT l.repository_id, l.id, l.digest, l.media_type_id, l.annotations FROM manifest l
		WHERE l.repository_id = w.repository_id AND l.id = w.id AND l.kind = 'index' OFFSET 0) l
	JOIN media_type mt ON mt.id = l.media_type_id`

// readLists reads the manifests of image indexes, and removes ids that have none.
func (rd *Reader) readLists(ctx context.Context, lists map[pg.ManifestID]*foundList) error {
	type row struct {
		RepositoryID int32
		ID           int64
		Digest       []byte
		MediaType    string
		Bytes        int64
	}
	rows, err := pg.Collect[row](ctx, rd.db, selectLists, pg.Arrays(pg.SortedManifests(maps.Keys(lists)))...)
	for _, r := range rows {
		id := pg.ManifestID{Repository: r.RepositoryID, ID: r.ID}
		l := lists[id]
		l.id, l.digest, l.mediaType, l.bytes = id, r.Digest, r.MediaType, r.Bytes
	}
	maps.DeleteFunc(lists, func(_ pg.ManifestID, l *foundList) bool { return l.digest == nil })
	return err
}

var selectTags = `
	WITH shown AS MATERIALIZED (
		SELECT s.repository_id, s.tags FROM ` + pg.Unnest[pg.ManifestID]("w", 1) + `
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

// readTags reads the tags of image indexes, and of the images that they list. No
// index of the database finds the tags of a manifest. Search rows have the names of
// the tags, so these are looked up, each once in a repository; or all tags of the
// repository are read, if they are fewer.
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
	rows, err := rd.db.Query(ctx, selectTags, pg.Arrays(pg.SortedManifests(maps.Keys(into)))...)
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

var selectMetadata = `
	SELECT w.repository_id, w.id, m.labels, m.annotations FROM ` + pg.Unnest[pg.ManifestID]("w", 1) + `
	CROSS JOIN LATERAL (
		SELECT m.labels, m.annotations FROM manifest m WHERE m.repository_id = w.repository_id AND m.id = w.id OFFSET 0) m`

// readMetadata reads the labels and annotations of the images that fit.
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
	rows, err := rd.db.Query(ctx, selectMetadata, pg.Arrays(pg.SortedManifests(maps.Keys(wanted)))...)
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
