package search

import (
	"slices"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// Flatpak's conditions and the terms of the query language have a compiler each, here and
// in condition.go, because neither the answers nor the plans are the same:
//
//   - Flatpak's values are exact: case counts, also in the names of platforms, which facts
//     have in lower case; an image without a platform has the OS ""; a label is compared
//     as a whole, not by its first memory.MaxTerm characters. So the search rows of images only
//     find candidates, and the manifests decide.
//   - A search asks for repositories: it finds their rows, and then looks at the images of
//     one repository at a time, without an index. Flatpak asks for images anywhere, so its
//     conditions must begin with an index of image_search.

// possibleImages selects the search rows that the indexes find for q, in repositories
// that the asker may see: those of all images that q selects, and possibly others.
func (rd *Reader) possibleImages(q query.Images) sq.SelectBuilder {
	sel := sq.Select("i.repository_id", "i.manifest_id", "i.listed", "i.tags", "i.keys", "i.pairs", "i.pushed_at").From("image_search i").Suffix("OFFSET 0") // as in imageM
	for _, c := range q {
		sel = sel.Where(hint(c))
	}
	if !rd.visible.All() {
		// A look at the name of each, since the indexes for q find few of all rows.
		sel = sel.Where(pg.VisibleOf(rd.visible).Name("(SELECT r.name FROM repository r WHERE r.id = i.repository_id)"))
	}
	return sel
}

// hint returns a condition that holds for the search row of every image for which c
// holds, and possibly for others.
func hint(c query.Condition) sq.Sqlizer {
	switch c.Field {
	case query.FieldRepository:
		return sq.Expr("i.repository_id IN (SELECT r.id FROM repository r WHERE ?)", compare("r.name", c))
	case query.FieldTag:
		if c.Op == query.OpMatches {
			break
		}
		if len(c.Values) == 1 && c.Values[0] == "latest" {
			return sq.Expr("i.latest") // verbatim as in the definition of its partial index
		}
		// The images that tagged indexes list are found once, by the index of tag
		// names.
		return sq.Expr(`(i.tags && ? OR i.listed AND (i.repository_id, i.manifest_id) IN (
			SELECT m.repository_id, m.id FROM (SELECT t.repository_id, t.manifest_id FROM tag t WHERE t.name = ANY(?) OFFSET 0) AS t
			CROSS JOIN LATERAL (SELECT e.digest FROM index_entry e WHERE e.repository_id = t.repository_id AND e.manifest_id = t.manifest_id OFFSET 0) AS e
			CROSS JOIN LATERAL (SELECT m.repository_id, m.id FROM manifest m WHERE m.repository_id = t.repository_id AND m.digest = e.digest OFFSET 0) AS m))`,
			pg.Cleaned(c.Values), pg.Cleaned(c.Values))
	case query.FieldOS:
		return factHint(c, indexer.FactOS)
	case query.FieldArchitecture:
		return factHint(c, indexer.FactArchitecture)
	case query.FieldLabel:
		return keyHint(c, "label:")
	case query.FieldAnnotation:
		return keyHint(c, "annotation:")
	}
	return sq.Expr("true")
}

// factHint excludes images of other platforms. Facts are in lower case, and there are
// none for an empty or unknown platform.
func factHint(c query.Condition, kind indexer.FactKind) sq.Sqlizer {
	if c.Op == query.OpMatches || slices.Contains(c.Values, "") || slices.Contains(c.Values, "unknown") {
		return sq.Expr("true")
	}
	facts := pg.Cleaned(c.Values)
	for i, value := range facts {
		facts[i] = string(kind.Fact(indexer.LowerASCII(value)))
	}
	return sq.Expr("i.facts && ?", facts)
}

// keyHint excludes images without the key or, if terms hold its values, without the
// value.
func keyHint(c query.Condition, prefix string) sq.Sqlizer {
	key := prefix + memory.TermText(c.Name)
	if c.Op != query.OpEquals || memory.IsBuildTime(c.Name) {
		return sq.Expr("i.keys @> ARRAY[hashtextextended(?, 0)]", key)
	}
	var terms []string
	for _, v := range c.Values {
		terms = append(terms, key+pg.Separator+memory.TermText(v))
	}
	return sq.Expr("i.pairs && ARRAY(SELECT hashtextextended(term, 0) FROM unnest(?::text[]) AS term)", terms)
}

// exactCondition returns a condition on an image, except on its tags.
func exactCondition(c query.Condition, image string) sq.Sqlizer {
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
	return sq.Expr("false") // an unknown field selects nothing
}

func compareKey(column string, c query.Condition) sq.Sqlizer {
	if c.Op == query.OpExists {
		return sq.Expr(column+" ?? ?", indexer.CleanText(c.Name))
	}
	any := sq.Or{}
	for _, value := range c.Values {
		if c.Op == query.OpMatches {
			any = append(any, sq.Expr(beginningOf("("+column+" ->> ?)")+" LIKE ?", indexer.CleanText(c.Name), pg.Like(value)))
		} else {
			any = append(any, sq.Expr(column+" ->> ? = ?", indexer.CleanText(c.Name), indexer.CleanText(value)))
		}
	}
	return any
}

// compare returns the condition that an expression equals, or matches, one of the
// values; it is false without values.
func compare(expression string, c query.Condition) sq.Sqlizer {
	var values []string
	for _, v := range c.Values {
		if c.Op == query.OpMatches {
			v = pg.Like(v)
		}
		values = append(values, indexer.CleanText(v))
	}
	if c.Op == query.OpMatches {
		return sq.Expr(expression+" LIKE ANY(?)", values)
	}
	return sq.Expr(expression+" = ANY(?)", values)
}
