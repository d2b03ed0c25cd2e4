package postgres

import (
	"context"
	"strings"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
)

// Images gives the tagged images that q selects, by repository and digest, and
// the tagged image indexes that list such images.
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

// tagsArray is all tags of the manifest m, sorted.
const tagsArray = `ARRAY(SELECT t.name FROM tag t WHERE t.repository_id = m.repository_id AND t.manifest_id = m.id ORDER BY t.name) AS tags`

func (v *View) taggedImages(ctx context.Context, q indexer.ImageQuery) ([]imageRow, error) {
	sel := psql.Select("r.name", "m.digest", "mt.name AS media_type", "COALESCE(p.os, '') AS os",
		"COALESCE(p.architecture, '') AS architecture", "m.labels", "m.annotations", tagsArray).
		From("manifest m").
		Join("repository r ON r.id = m.repository_id").
		Join("media_type mt ON mt.id = m.media_type_id").
		LeftJoin("platform p ON p.id = m.platform_id").
		Where("m.kind = 'image'").
		OrderBy("r.name", "m.digest")
	return selected[imageRow](ctx, v.tx, where(sel, q, "m", "m"))
}

type listedRow struct {
	imageRow
	ListDigest      []byte
	ListMediaType   string
	ListAnnotations []byte
	ListTags        []string
}

func (v *View) listedImages(ctx context.Context, q indexer.ImageQuery) ([]listedRow, error) {
	sel := psql.Select("r.name", "c.digest", "ct.name AS media_type", "COALESCE(p.os, '') AS os",
		"COALESCE(p.architecture, '') AS architecture", "c.labels", "c.annotations", "NULL::text[] AS tags",
		"m.digest AS list_digest", "mt.name AS list_media_type", "m.annotations AS list_annotations",
		strings.Replace(tagsArray, "AS tags", "AS list_tags", 1)).
		From("manifest m").
		Join("repository r ON r.id = m.repository_id").
		Join("media_type mt ON mt.id = m.media_type_id").
		Join("index_entry e ON e.repository_id = m.repository_id AND e.manifest_id = m.id").
		Join("manifest c ON c.repository_id = e.repository_id AND c.digest = e.digest").
		Join("media_type ct ON ct.id = c.media_type_id").
		LeftJoin("platform p ON p.id = c.platform_id").
		Where("m.kind = 'index' AND c.kind = 'image'").
		OrderBy("r.name", "m.digest", "e.position")
	return selected[listedRow](ctx, v.tx, where(sel, q, "c", "m"))
}

// where adds the conditions of q on an image, whose tags are those of tagged:
// the image itself, or the index that lists it. Something must be tagged.
func where(sel sq.SelectBuilder, q indexer.ImageQuery, image, tagged string) sq.SelectBuilder {
	tags := sq.Select("1").From("tag t").Where("t.repository_id = " + tagged + ".repository_id AND t.manifest_id = " + tagged + ".id")
	hasTag := false
	for _, c := range q {
		if c.Field == indexer.FieldTag {
			sel, hasTag = sel.Where(sq.Expr("EXISTS (?)", tags.Where(compare("t.name", c)))), true
			continue
		}
		sel = sel.Where(condition(c, image))
	}
	if !hasTag {
		sel = sel.Where(sq.Expr("EXISTS (?)", tags))
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
