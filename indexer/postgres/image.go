package postgres

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
)

// Images gives the tagged images that q selects, by repository and digest, and
// the tagged image indexes that list such images: all of them, since flatpak
// knows no second page. The search rows of images tell which may be meant, and
// the manifests which are.
func (v *View) Images(ctx context.Context, q indexer.ImageQuery) ([]indexer.RepositoryImages, error) {
	images, err := v.taggedImages(ctx, q)
	if err != nil {
		return nil, wrap("images", err)
	}
	listed, err := v.listedImages(ctx, q)
	if err != nil {
		return nil, wrap("images", err)
	}
	return merge(images, listed), nil
}

// ImagesState names what Images gives of a query. A search row is written anew
// when what it finds moves, appears or goes, the tags of a list that it is in
// among that, and then differs in its tags, in when it was pushed, or in what it
// says of the image.
func (v *View) ImagesState(ctx context.Context, q indexer.ImageQuery) (string, error) {
	sel := psql.Select("count(*)", `COALESCE(bit_xor(hashtextextended(
			concat_ws(' ', i.repository_id, i.manifest_id, i.listed, i.pushed_at, hash_array_extended(i.tags, 0), hash_array_extended(i.keys, 0), hash_array_extended(i.pairs, 0)), 0)), 0)`).
		FromSelect(candidates(q), "i")
	sql, args, err := sel.ToSql()
	if err != nil {
		return "", err
	}
	var n, hash int64
	if err := v.tx.QueryRow(ctx, sql, args...).Scan(&n, &hash); err != nil {
		return "", wrap("state of images", err)
	}
	return fmt.Sprintf("%d %x", n, uint64(hash)), nil
}

type imageRow struct {
	Name                        string
	Digest                      []byte
	MediaType, OS, Architecture string
	Labels, Annotations         []byte
	Tags                        []string
}

func (r imageRow) image() indexer.Image {
	return indexer.Image{
		Digest: digestOf(r.Digest), MediaType: r.MediaType, OS: r.OS, Architecture: r.Architecture,
		Labels: stringsFrom(r.Labels), Annotations: stringsFrom(r.Annotations), Tags: r.Tags,
	}
}

// tagsOf is all tags of the manifest m itself, sorted, given those that show it
// in any way: no index tells the tags of a manifest. The fence keeps Postgres
// from reading all tags of the repository, which may be 10,000, for each.
func tagsOf(m, shown string) string {
	return `ARRAY(
		SELECT shown.name FROM unnest(` + shown + `) AS shown (name) CROSS JOIN LATERAL (
			SELECT t.manifest_id FROM tag t WHERE t.repository_id = ` + m + `.repository_id AND t.name = shown.name OFFSET 0) AS t
		WHERE t.manifest_id = ` + m + `.id ORDER BY shown.name COLLATE "C")`
}

// tagged gives an expression for tags the name tagged.tags; there must be some.
func tagged(tags string) string {
	return "LATERAL (SELECT " + tags + " AS tags OFFSET 0) tagged ON tagged.tags <> '{}'"
}

// imageM is the manifest of each candidate, if it is an image. The fence keeps
// Postgres from reading all manifests where it expects many candidates: they
// are a small part of all.
const imageM = `LATERAL (
	SELECT m.repository_id, m.id, m.digest, m.media_type_id, m.platform_id, m.labels, m.annotations FROM manifest m
	WHERE m.repository_id = i.repository_id AND m.id = i.manifest_id AND m.kind = 'image' OFFSET 0) m ON true`

// nameR is the repository of each, fenced likewise.
const nameR = "LATERAL (SELECT r.name FROM repository r WHERE r.id = m.repository_id OFFSET 0) r ON true"

func (v *View) taggedImages(ctx context.Context, q indexer.ImageQuery) ([]imageRow, error) {
	sel := psql.Select("r.name", "m.digest", "mt.name AS media_type", "COALESCE(p.os, '') AS os",
		"COALESCE(p.architecture, '') AS architecture", "m.labels", "m.annotations", "tagged.tags").
		FromSelect(candidates(q), "i").
		Join(imageM).
		Join(tagged("CASE WHEN i.listed THEN " + tagsOf("m", "i.tags") + " ELSE i.tags END")).
		Join(nameR).
		Join("media_type mt ON mt.id = m.media_type_id").
		LeftJoin("platform p ON p.id = m.platform_id")
	rows, err := selected[imageRow](ctx, v.tx, where(sel, q, "m"))
	// Sorted here: Postgres would carry the labels through its sort, by disk.
	slices.SortFunc(rows, func(a, b imageRow) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), bytes.Compare(a.Digest, b.Digest))
	})
	return rows, err
}

type listedRow struct {
	imageRow
	ListDigest      []byte
	ListMediaType   string
	ListAnnotations []byte
	ListTags        []string
	Position        int32
}

func (v *View) listedImages(ctx context.Context, q indexer.ImageQuery) ([]listedRow, error) {
	sel := psql.Select("r.name", "m.digest", "mt.name AS media_type", "COALESCE(p.os, '') AS os",
		"COALESCE(p.architecture, '') AS architecture", "m.labels", "m.annotations", "NULL::text[] AS tags",
		"l.digest AS list_digest", "lt.name AS list_media_type", "l.annotations AS list_annotations", "tagged.tags AS list_tags", "l.position").
		FromSelect(candidates(q).Where("i.listed"), "i").
		Join(imageM).
		Join(`LATERAL (
			SELECT l.repository_id, l.id, l.digest, l.media_type_id, l.annotations, e.position, s.tags AS shown FROM index_entry e
			JOIN manifest l ON l.repository_id = e.repository_id AND l.id = e.manifest_id AND l.kind = 'index'
			JOIN image_search s ON s.repository_id = l.repository_id AND s.manifest_id = l.id
			WHERE e.repository_id = m.repository_id AND e.digest = m.digest OFFSET 0) l ON true`).
		Join(tagged(tagsOf("l", "l.shown"))).
		Join(nameR).
		Join("media_type mt ON mt.id = m.media_type_id").
		Join("media_type lt ON lt.id = l.media_type_id").
		LeftJoin("platform p ON p.id = m.platform_id")
	rows, err := selected[listedRow](ctx, v.tx, where(sel, q, "m"))
	slices.SortFunc(rows, func(a, b listedRow) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), bytes.Compare(a.ListDigest, b.ListDigest), cmp.Compare(a.Position, b.Position))
	})
	return rows, err
}

// candidates selects the search rows that may be of images q selects, by what
// the indexes tell: no image that q selects is left out.
func candidates(q indexer.ImageQuery) sq.SelectBuilder {
	sel := sq.Select("i.repository_id", "i.manifest_id", "i.listed", "i.tags", "i.keys", "i.pairs", "i.pushed_at").From("image_search i").Suffix("OFFSET 0") // a fence, as in imageM
	for _, c := range q {
		sel = sel.Where(hint(c))
	}
	return sel
}

// hint is true for the search row of every image for which a condition is.
func hint(c indexer.Condition) sq.Sqlizer {
	switch c.Field {
	case indexer.FieldRepository:
		return sq.Expr("i.repository_id IN (SELECT r.id FROM repository r WHERE ?)", compare("r.name", c))
	case indexer.FieldTag:
		if c.Op == indexer.OpMatches {
			break
		}
		if len(c.Values) == 1 && c.Values[0] == "latest" {
			return sq.Expr("i.latest") // word for word, or Postgres does not use the index of these
		}
		return sq.Expr("i.tags && ?", cleaned(c.Values, ""))
	case indexer.FieldOS:
		return factHint(c, "os:")
	case indexer.FieldArchitecture:
		return factHint(c, "arch:")
	case indexer.FieldLabel:
		return keyHint(c, "label:")
	case indexer.FieldAnnotation:
		return keyHint(c, "annotation:")
	}
	return sq.Expr("true")
}

// factHint leaves out those of another platform. The facts are in lower case, and
// tell of no platform that says nothing.
func factHint(c indexer.Condition, prefix string) sq.Sqlizer {
	if c.Op == indexer.OpMatches || slices.Contains(c.Values, "") || slices.Contains(c.Values, "unknown") {
		return sq.Expr("true")
	}
	facts := cleaned(c.Values, prefix)
	for i, f := range facts {
		facts[i] = indexer.LowerASCII(f)
	}
	return sq.Expr("i.facts && ?", facts)
}

// keyHint leaves out those that have no such key or, where terms tell values, no
// such value.
func keyHint(c indexer.Condition, prefix string) sq.Sqlizer {
	key := prefix + cut(c.Name)
	if c.Op != indexer.OpEquals || strings.HasSuffix(c.Name, "created") || strings.HasSuffix(c.Name, "build-date") {
		return sq.Expr("i.keys @> ARRAY[hashtextextended(?, 0)]", key)
	}
	var terms []string
	for _, v := range c.Values {
		terms = append(terms, key+separator+cut(v))
	}
	return sq.Expr("i.pairs && ARRAY(SELECT hashtextextended(term, 0) FROM unnest(?::text[]) AS term)", terms)
}

// cut gives text as far as terms hold it.
func cut(text string) string {
	runes := []rune(indexer.CleanText(text))
	return string(runes[:min(len(runes), maxTerm)])
}

// cleaned returns values as terms and facts hold them, with a prefix before each.
func cleaned(values []string, prefix string) []string {
	all := make([]string, len(values))
	for i, v := range values {
		all[i] = prefix + indexer.CleanText(v)
	}
	return all
}

// where adds the conditions of q on an image, and on the tags of what is tagged:
// the image itself, or the index that lists it.
func where(sel sq.SelectBuilder, q indexer.ImageQuery, image string) sq.SelectBuilder {
	for _, c := range q {
		if c.Field == indexer.FieldTag {
			sel = sel.Where(sq.Expr("EXISTS (SELECT FROM unnest(tagged.tags) AS t (name) WHERE ?)", compare("t.name", c)))
			continue
		}
		sel = sel.Where(condition(c, image))
	}
	return sel
}

// condition is one condition on an image, but for those on its tags.
func condition(c indexer.Condition, image string) sq.Sqlizer {
	switch c.Field {
	case indexer.FieldRepository:
		return compare("r.name", c)
	case indexer.FieldOS:
		return compare("COALESCE(p.os, '')", c)
	case indexer.FieldArchitecture:
		return compare("COALESCE(p.architecture, '')", c)
	case indexer.FieldLabel:
		return compareKey(image+".labels", c)
	case indexer.FieldAnnotation:
		return compareKey(image+".annotations", c)
	}
	return sq.Expr("false") // a field that is none selects nothing
}

func compareKey(column string, c indexer.Condition) sq.Sqlizer {
	if c.Op == indexer.OpExists {
		return sq.Expr(column+" ?? ?", indexer.CleanText(c.Name))
	}
	any := sq.Or{}
	for _, value := range c.Values {
		if c.Op == indexer.OpMatches {
			any = append(any, sq.Expr(column+" ->> ? LIKE ?", indexer.CleanText(c.Name), like(value)))
		} else {
			any = append(any, sq.Expr(column+" ->> ? = ?", indexer.CleanText(c.Name), indexer.CleanText(value)))
		}
	}
	return any
}

// compare is true if the expression is, or matches, any of the values; with no
// value it is false.
func compare(expression string, c indexer.Condition) sq.Sqlizer {
	var values []string
	for _, v := range c.Values {
		if c.Op == indexer.OpMatches {
			v = like(v)
		}
		values = append(values, indexer.CleanText(v))
	}
	if c.Op == indexer.OpMatches {
		return sq.Expr(expression+" LIKE ANY(?)", values)
	}
	return sq.Expr(expression+" = ANY(?)", values)
}

// like turns a glob, in which * is any run of characters and ? any one, into a
// pattern of LIKE.
func like(glob string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`, `*`, `%`, `?`, `_`).Replace(indexer.CleanText(glob))
}

// merge puts images and lists, each by repository name, into one list.
func merge(images []imageRow, listed []listedRow) []indexer.RepositoryImages {
	var all []indexer.RepositoryImages
	for len(images) > 0 || len(listed) > 0 {
		name := first(images, listed)
		r := indexer.RepositoryImages{Name: name}
		for len(images) > 0 && images[0].Name == name {
			r.Images = append(r.Images, images[0].image())
			images = images[1:]
		}
		for len(listed) > 0 && listed[0].Name == name {
			r.Lists = addListed(r.Lists, listed[0])
			listed = listed[1:]
		}
		all = append(all, r)
	}
	return all
}

func first(images []imageRow, listed []listedRow) string {
	if len(images) == 0 || len(listed) > 0 && listed[0].Name < images[0].Name {
		return listed[0].Name
	}
	return images[0].Name
}

// addListed adds an image to its list, the last one or a new one.
func addListed(lists []indexer.ImageList, row listedRow) []indexer.ImageList {
	d := digestOf(row.ListDigest)
	if n := len(lists); n == 0 || lists[n-1].Digest != d {
		lists = append(lists, indexer.ImageList{
			Digest: d, MediaType: row.ListMediaType, Annotations: stringsFrom(row.ListAnnotations), Tags: row.ListTags,
		})
	}
	last := &lists[len(lists)-1]
	last.Images = append(last.Images, row.image())
	return lists
}
