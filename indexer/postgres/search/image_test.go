package search_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	sq "github.com/Masterminds/squirrel"
	"github.com/google/go-cmp/cmp"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/postgres/search"
	"github.com/portbook/portbook/indexer/query"
)

// Images, which uses search rows, returns the same as a query that does not use them.
func TestImagesLikeCatalogue(t *testing.T) {
	t.Parallel()
	s, _ := stock(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	platforms := []string{"linux/amd64", "linux/arm64", "", "unknown/unknown", "windows/amd64"}
	for i := range 40 {
		repo := fmt.Sprintf("r%d/x", rnd.IntN(6))
		label := func() []string {
			return []string{"ref", fmt.Sprint("app", rnd.IntN(3)), "team", fmt.Sprint("t", rnd.IntN(3)), "n", fmt.Sprint(i, rnd.IntN(1000)), "build-date", fmt.Sprint(rnd.IntN(2))}[:2+2*rnd.IntN(4)]
		}
		a := made(repo, platforms[rnd.IntN(5)], 5, 1, "", label()...)
		b := made(repo, platforms[rnd.IntN(5)], 6, 1, "", label()...)
		b.Annotations = map[string]string{"note": fmt.Sprint(rnd.IntN(3))}
		tag := []string{"latest", "v1", "v2", "x"}[rnd.IntN(4)]
		switch rnd.IntN(5) {
		case 0:
			s.Find(repo, tag, a)
		case 1, 2:
			l := listing(repo, a, b)
			l.Annotations = map[string]string{"list": "yes"}
			s.Find(repo, tag, l, a, b)
			if rnd.IntN(2) == 0 {
				s.Find(repo, "also", b)
			}
		case 3:
			s.Find(repo, tag) // deleted
		case 4:
			l := listing(repo, a, b)
			s.Find(repo, tag, l, a)                          // b is not stored
			s.Find(repo, "twice", listing(repo, l, a, a), l) // an index in an index
		}
	}
	values := map[query.Field][]string{
		query.FieldRepository: {"r1/x", "r2/x", "r*", "none", "\x00"}, query.FieldTag: {"latest", "v1", "v*", "also", "twice", ""},
		query.FieldOS: {"linux", "windows", "", "unknown", "l*"}, query.FieldArchitecture: {"amd64", "", "unknown", "arm*"},
		query.FieldLabel: {"app1", "t0", "t*", "0", "1"}, query.FieldAnnotation: {"1", "2", "*"},
	}
	keys := []string{"ref", "team", "note", "build-date", "n", "none"}
	fields := []query.Field{query.FieldRepository, query.FieldTag, query.FieldOS, query.FieldArchitecture, query.FieldLabel, query.FieldLabel, query.FieldAnnotation}
	some := 0
	for range 250 {
		var q query.Images
		for range rnd.IntN(4) {
			c := query.Condition{Field: fields[rnd.IntN(len(fields))], Name: keys[rnd.IntN(len(keys))]}
			c.Op = []query.Op{query.OpEquals, query.OpMatches, query.OpExists}[rnd.IntN(3)]
			if c.Op == query.OpExists && c.Field != query.FieldLabel && c.Field != query.FieldAnnotation {
				c.Op = query.OpEquals
			}
			for range rnd.IntN(3) {
				v := values[c.Field]
				c.Values = append(c.Values, v[rnd.IntN(len(v))])
			}
			q = append(q, c)
		}
		err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) error {
			want, err := plainImages(t.Context(), v.DB(), q)
			if err != nil {
				return err
			}
			got, err := v.Images(t.Context(), q)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%+v (-want +got)\n%s", q, diff)
			}
			if len(want) > 0 {
				some++
			}
			return err
		})
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		if t.Failed() {
			break
		}
	}
	if some < 50 {
		t.Errorf("only %d queries found anything: nothing was tested", some)
	}
}

// plainImages is Images without search rows.
func plainImages(ctx context.Context, db pg.Querier, q query.Images) ([]indexer.RepositoryImages, error) {
	images, err := plainTagged(ctx, db, q)
	if err != nil {
		return nil, pg.Wrap("images", err)
	}
	listed, err := plainListed(ctx, db, q)
	if err != nil {
		return nil, pg.Wrap("images", err)
	}
	return merge(images, listed), nil
}

// plainTags selects all tags of the manifest m, sorted.
const plainTags = `ARRAY(SELECT t.name FROM tag t WHERE t.repository_id = m.repository_id AND t.manifest_id = m.id ORDER BY t.name) AS tags`

func plainTagged(ctx context.Context, db pg.Querier, q query.Images) ([]imageRow, error) {
	sel := pg.Builder.Select("r.name", "m.digest", "mt.name AS media_type", "COALESCE(p.os, '') AS os",
		"COALESCE(p.architecture, '') AS architecture", "m.labels", "m.annotations", plainTags).
		From("manifest m").
		Join("repository r ON r.id = m.repository_id").
		Join("media_type mt ON mt.id = m.media_type_id").
		LeftJoin("platform p ON p.id = m.platform_id").
		Where("m.kind = 'image'").
		OrderBy("r.name", "m.digest")
	return pg.Selected[imageRow](ctx, db, plainWhere(sel, q, "m", "m"))
}

func plainListed(ctx context.Context, db pg.Querier, q query.Images) ([]listedRow, error) {
	sel := pg.Builder.Select("r.name", "c.digest", "ct.name AS media_type", "COALESCE(p.os, '') AS os",
		"COALESCE(p.architecture, '') AS architecture", "c.labels", "c.annotations", "NULL::text[] AS tags",
		"m.digest AS list_digest", "mt.name AS list_media_type", "m.annotations AS list_annotations",
		strings.Replace(plainTags, "AS tags", "AS list_tags", 1), "e.position").
		From("manifest m").
		Join("repository r ON r.id = m.repository_id").
		Join("media_type mt ON mt.id = m.media_type_id").
		Join("(SELECT repository_id, manifest_id, digest, min(position) AS position FROM index_entry GROUP BY 1, 2, 3) e ON e.repository_id = m.repository_id AND e.manifest_id = m.id").
		Join("manifest c ON c.repository_id = e.repository_id AND c.digest = e.digest").
		Join("media_type ct ON ct.id = c.media_type_id").
		LeftJoin("platform p ON p.id = c.platform_id").
		Where("m.kind = 'index' AND c.kind = 'image'").
		OrderBy("r.name", "m.digest", "e.position")
	return pg.Selected[listedRow](ctx, db, plainWhere(sel, q, "c", "m"))
}

// plainWhere adds the conditions of q on an image. Tags are those of tagged: the
// image itself, or the index that lists it; it must have at least one.
func plainWhere(sel sq.SelectBuilder, q query.Images, image, tagged string) sq.SelectBuilder {
	tags := sq.Select("1").From("tag t").Where("t.repository_id = " + tagged + ".repository_id AND t.manifest_id = " + tagged + ".id")
	hasTag := false
	for _, c := range q {
		if c.Field == query.FieldTag {
			sel, hasTag = sel.Where(sq.Expr("EXISTS (?)", tags.Where(search.Compare("t.name", c)))), true
			continue
		}
		sel = sel.Where(search.ExactCondition(c, image))
	}
	if !hasTag {
		sel = sel.Where(sq.Expr("EXISTS (?)", tags))
	}
	return sel
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
		Digest: pg.DigestFrom(r.Digest), MediaType: r.MediaType, OS: r.OS, Architecture: r.Architecture,
		Labels: pg.StringsFrom(r.Labels), Annotations: pg.StringsFrom(r.Annotations), Tags: r.Tags,
	}
}

type listedRow struct {
	imageRow
	ListDigest      []byte
	ListMediaType   string
	ListAnnotations []byte
	ListTags        []string
	Position        int32
}

// merge merges images and lists, both sorted by repository name.
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

// addListed adds an image to the last list, or to a new one.
func addListed(lists []indexer.ImageList, row listedRow) []indexer.ImageList {
	d := pg.DigestFrom(row.ListDigest)
	if n := len(lists); n == 0 || lists[n-1].Digest != d {
		lists = append(lists, indexer.ImageList{
			Digest: d, MediaType: row.ListMediaType, Annotations: pg.StringsFrom(row.ListAnnotations), Tags: row.ListTags,
		})
	}
	last := &lists[len(lists)-1]
	last.Images = append(last.Images, row.image())
	return lists
}
