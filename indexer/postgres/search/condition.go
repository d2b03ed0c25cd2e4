package search

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// ofImage reports whether a field is about an image, and not about the repository as
// a whole.
func ofImage(f query.Field) bool {
	switch f {
	case query.FieldTag, query.FieldOS, query.FieldArchitecture, query.FieldPlatform, query.FieldType, query.FieldHas, query.FieldLabel,
		query.FieldAnnotation, query.FieldSize, query.FieldLayers, query.FieldCreated, query.FieldPushed:
		return true
	}
	return false
}

// aboutImages reports whether a clause is one of those that a single image must
// fulfil together: all its terms are about images, and none is negated.
func aboutImages(c query.Clause) bool {
	return !slices.ContainsFunc(c, func(t query.Term) bool { return t.Not || !ofImage(t.Field) })
}

// A rowCondition is one term as conditions on repository_search AS s. A nil condition
// always holds.
type rowCondition struct {
	// index holds wherever the term holds, and possibly elsewhere. The indexes of
	// words and terms serve it.
	index sq.Sqlizer
	// filter and index together hold exactly where the term holds.
	filter sq.Sqlizer
	// costly means that filter reads more than the row.
	costly bool
}

// whole returns index and filter as one condition.
func (c rowCondition) whole() sq.Sqlizer {
	all := sq.And{}
	for _, part := range []sq.Sqlizer{c.index, c.filter} {
		if part != nil {
			all = append(all, part)
		}
	}
	return all
}

// conditionOf returns the condition of a term, which may be negated.
func conditionOf(t query.Term) rowCondition {
	if !t.Not {
		return positive(t)
	}
	t.Not = false
	c := positive(t)
	return rowCondition{filter: sq.Expr("NOT (?)", c.whole()), costly: c.costly}
}

func positive(t query.Term) rowCondition {
	switch t.Field {
	case query.FieldText:
		c := rowCondition{index: sq.Expr("s.all_words @@ ?::text::tsquery", tsquery(t))}
		if t.Tag != "" {
			c.filter, c.costly = hasTag(t.Tag), true
		}
		return c
	case query.FieldRepository, query.FieldNamespace:
		return rowCondition{filter: nameCondition(t)}
	case query.FieldLicence:
		fact := indexer.FactLicence.Fact(t.Value)
		if isGlob(t.Value) {
			return rowCondition{filter: anyFactLike("s.facts", fact)}
		}
		return rowCondition{index: hasFact(fact)}
	case query.FieldIs:
		if t.Value == "tagged" {
			return rowCondition{filter: sq.Expr("s.tags > 0")}
		}
		return rowCondition{index: hasFact(indexer.FactIs.Fact(t.Value))}
	case query.FieldDigest:
		from, to := digestRange(t.Value)
		return rowCondition{filter: sq.Expr("EXISTS (SELECT FROM manifest m WHERE m.repository_id = s.repository_id AND m.digest BETWEEN ? AND ?)", from, to), costly: true}
	}
	return ofOneImage(t)
}

// ofImages returns the condition that one image fulfils all clauses, which are about
// images. The row of the repository mostly decides a single clause; for several, it
// only shows which repositories may have such an image.
func ofImages(clauses []query.Clause) rowCondition {
	if len(clauses) == 1 {
		return anyOfImages(clauses[0])
	}
	index := sq.And{}
	for _, c := range clauses {
		if hint := anyOfImages(c).index; hint != nil {
			index = append(index, hint)
		}
	}
	c := rowCondition{filter: hasImage(imageConditions(clauses)), costly: true}
	if len(index) > 0 {
		c.index = index
	}
	return c
}

// imageConditions returns clauses as conditions on image_search AS i.
func imageConditions(clauses []query.Clause) sq.And {
	var all sq.And
	for _, c := range clauses {
		any := sq.Or{}
		for _, t := range c {
			any = append(any, imageCondition(t))
		}
		all = append(all, any)
	}
	return all
}

// anyOfImages returns one clause about images as a condition.
func anyOfImages(clause query.Clause) rowCondition {
	if len(clause) == 1 {
		return ofOneImage(clause[0])
	}
	c := rowCondition{index: sharedIndex(clause)}
	if c.index == nil || slices.ContainsFunc(clause, func(t query.Term) bool { return factOf(t) == "" }) {
		any := anyOf(clause)
		c.filter, c.costly = any.filter, any.costly
	}
	return c
}

// sharedIndex returns a condition that holds for every repository that fulfils a term
// of the clause, and that the index of terms serves; nil if there is none. If all
// terms are facts, it holds for no other repository.
func sharedIndex(clause query.Clause) sq.Sqlizer {
	var hashes []string
	var args []any
	for _, t := range clause {
		if fact := factOf(t); fact != "" {
			hashes, args = append(hashes, "hashtextextended(?, 0)"), append(args, string(fact))
			continue
		}
		term := ""
		if t.Field == query.FieldLabel || t.Field == query.FieldAnnotation {
			term, _ = termOf(t)
		}
		if term == "" {
			return nil
		}
		key, _, _ := strings.Cut(term, pg.Separator)
		hashes, args = append(hashes, "hashtextextended(?, 0)", "~hashtextextended(?, 0)", hash(manyTerm)), append(args, term, key)
	}
	return sq.Expr("s.terms && ARRAY["+strings.Join(hashes, ", ")+"]", args...)
}

func ofOneImage(t query.Term) rowCondition {
	image := hasImage(imageCondition(t))
	if fact := factOf(t); fact != "" {
		return rowCondition{index: hasFact(fact)}
	}
	switch t.Field {
	case query.FieldTag:
		return rowCondition{filter: hasTag(t.Value), costly: true}
	case query.FieldLabel, query.FieldAnnotation:
		term, exact := termOf(t)
		if term == "" {
			break
		}
		c := rowCondition{index: sharedIndex(query.Clause{t}), filter: sq.Or{hasTerm(term), image}, costly: true}
		if !exact {
			c.filter = image
		}
		return c
	}
	return rowCondition{filter: image, costly: true}
}

// hasTag returns the condition that the repository has a tag; name may be a pattern.
func hasTag(name string) sq.Sqlizer {
	return sq.Expr("EXISTS (SELECT FROM tag t WHERE t.repository_id = s.repository_id AND ? AND t.manifest_id IS NOT NULL OFFSET 0)", glob("t.name", name))
}

// isShownBy returns the condition that a tag points to image_search AS i, or to an
// image index that lists it; name may be a pattern. OFFSET 0 keeps Postgres from
// starting with all tags or all entries of indexes.
func isShownBy(name string) sq.Sqlizer {
	if !isGlob(name) {
		return sq.Expr(`(i.tags @> ARRAY[?::text] OR i.listed AND EXISTS (
			SELECT FROM (SELECT t.manifest_id FROM tag t WHERE t.repository_id = i.repository_id AND t.name = ? OFFSET 0) AS t
			CROSS JOIN LATERAL (SELECT m.digest FROM manifest m WHERE m.repository_id = i.repository_id AND m.id = i.manifest_id OFFSET 0) AS m
			CROSS JOIN LATERAL (SELECT FROM index_entry e WHERE e.repository_id = i.repository_id AND e.digest = m.digest AND e.manifest_id = t.manifest_id LIMIT 1) AS e
			OFFSET 0))`, name, name)
	}
	const matches = "EXISTS (SELECT FROM unnest(%s.tags) AS tag WHERE tag LIKE ?)"
	return sq.Expr("("+fmt.Sprintf(matches, "i")+` OR i.listed AND EXISTS (
			SELECT FROM (SELECT m.digest FROM manifest m WHERE m.repository_id = i.repository_id AND m.id = i.manifest_id OFFSET 0) AS m
			CROSS JOIN LATERAL (SELECT DISTINCT e.manifest_id FROM index_entry e WHERE e.repository_id = i.repository_id AND e.digest = m.digest OFFSET 0) AS e
			CROSS JOIN LATERAL (SELECT p.tags FROM image_search p WHERE p.repository_id = i.repository_id AND p.manifest_id = e.manifest_id OFFSET 0) AS p
			WHERE `+fmt.Sprintf(matches, "p")+" OFFSET 0))", pg.Like(name), pg.Like(name))
}

// hasImage returns the condition that an image of the repository fulfils c. OFFSET 0
// keeps Postgres from searching all repositories for such images first, which takes
// seconds for a common label.
func hasImage(c sq.Sqlizer) sq.Sqlizer {
	return sq.Expr("EXISTS (SELECT FROM image_search i WHERE i.repository_id = s.repository_id AND (?) OFFSET 0)", c)
}

// imageCondition returns a term as a condition on image_search AS i.
func imageCondition(t query.Term) sq.Sqlizer {
	switch t.Field {
	case query.FieldTag:
		return isShownBy(t.Value)
	case query.FieldLabel:
		return keyCondition(t, "m.labels")
	case query.FieldAnnotation:
		return keyCondition(t, "m.annotations")
	case query.FieldSize:
		return sq.Expr("i.size "+operator(t.Compare)+" ?::bigint", t.Number)
	case query.FieldLayers:
		return sq.Expr("i.layers "+operator(t.Compare)+" ?::bigint", t.Number)
	case query.FieldCreated:
		return within("i.created_at", t)
	case query.FieldPushed:
		return within("i.pushed_at", t)
	}
	if fact := factOf(t); fact != "" {
		return sq.Expr("i.facts @> ARRAY[?::text]", string(fact))
	}
	return anyFactLike("i.facts", factFields[t.Field].Fact(t.Value))
}

// anyFactLike returns the condition that a list of facts, an expression, has one that
// matches a pattern.
func anyFactLike(facts string, pattern indexer.Fact) sq.Sqlizer {
	return sq.Expr("EXISTS (SELECT FROM unnest("+facts+") AS fact WHERE fact LIKE ?)", pg.Like(string(pattern)))
}

// operator returns the SQL operator of a comparison.
func operator(c query.Comparison) string {
	switch c {
	case query.Above, query.AtLeast, query.Below, query.AtMost:
		return string(c)
	}
	return "="
}

// within compares a time with the span or the time that a query names.
func within(column string, t query.Term) sq.Sqlizer {
	switch t.Compare {
	case query.Above:
		if t.From.Equal(t.To) { // a time, not a span
			return sq.Expr(column+" > ?", t.To)
		}
		return sq.Expr(column+" >= ?", t.To)
	case query.AtLeast:
		return sq.Expr(column+" >= ?", t.From)
	case query.Below:
		return sq.Expr(column+" < ?", t.From)
	case query.AtMost:
		if t.From.Equal(t.To) {
			return sq.Expr(column+" <= ?", t.To)
		}
		return sq.Expr(column+" < ?", t.To)
	}
	return sq.Expr(column+" >= ? AND "+column+" < ?", t.From, t.To)
}

// keyCondition compares a label or annotation.
func keyCondition(t query.Term, column string) sq.Sqlizer {
	all := sq.And{}
	term, exact := termOf(t)
	if term != "" {
		// IS TRUE keeps Postgres from using the index, with which it would read all
		// images with the term again for each repository.
		all = append(all, sq.Expr("(?) IS TRUE", imageHas(term)))
	}
	if exact {
		return all
	}
	const ofManifest = "EXISTS (SELECT FROM manifest m%s WHERE m.repository_id = i.repository_id AND m.id = i.manifest_id AND (?))"
	if name := termText(t.Name); t.Valued && !isGlob(t.Name) && utf8.RuneCountInString(name) < maxTerm { // so only this key matches
		return append(all, sq.Expr(fmt.Sprintf(ofManifest, ""), globBeginning("("+column+" ->> ?)", t.Value, name)))
	}
	inner := sq.And{globBeginning("pair.key", t.Name)}
	if t.Valued {
		inner = append(inner, globBeginning("pair.value", t.Value))
	}
	return append(all, sq.Expr(fmt.Sprintf(ofManifest, ", jsonb_each_text("+column+") AS pair"), inner))
}

// digestRange returns the least and the greatest digest that begin with the digits of
// a query.
func digestRange(value string) (from, to []byte) {
	algorithm, hex, _ := strings.Cut(value, ":")
	digits := map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}[algorithm]
	return unhex(hex + strings.Repeat("0", digits-len(hex))), unhex(hex + strings.Repeat("f", digits-len(hex)))
}

func unhex(s string) []byte {
	b := make([]byte, len(s)/2)
	for i := range b {
		fmt.Sscanf(s[2*i:2*i+2], "%02x", &b[i]) // the parser accepts hexadecimal digits only
	}
	return b
}

// nameCondition returns a condition on the name or the namespace of a search row.
func nameCondition(t query.Term) sq.Sqlizer {
	pattern := t.Value
	if t.Field == query.FieldNamespace {
		pattern = strings.TrimSuffix(t.Value, "/") + "/*"
	}
	from, to := nameRange(pattern)
	if from == "" || !isGlob(pattern) {
		return glob("s.name", pattern)
	}
	return sq.And{sq.Expr("s.name >= ? AND s.name < ?", from, to), glob("s.name", pattern)} // the range uses the index of names, which does not support patterns
}
