package search

import (
	"encoding/hex"
	"slices"
	"strings"
	"unicode/utf8"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// anyOf returns the condition that one of the terms of a clause holds.
func anyOf(c query.Clause) sq.Sqlizer {
	any := sq.Or{}
	for _, t := range c {
		any = append(any, conditionOf(t))
	}
	return any
}

// conditionOf returns the condition of a term, which may be negated.
func conditionOf(t query.Term) sq.Sqlizer {
	if t.Not {
		t.Not = false
		return sq.Expr("NOT (?)", conditionOf(t))
	}
	if kind := factFields[t.Field]; kind != "" {
		return has("s.facts", kind.Fact(t.Value))
	}
	switch t.Field {
	case query.FieldText:
		all := sq.And{hasWords("s.all_words", tsquery(t))}
		if t.Tag != "" {
			all = append(all, hasTag(t.Tag))
		}
		return all
	case query.FieldRepository:
		return glob("s.name", t.Value)
	case query.FieldNamespace:
		return glob("s.name", strings.TrimSuffix(t.Value, "/")+"/*")
	case query.FieldLicence:
		return has("s.facts", indexer.FactLicence.Fact(t.Value))
	case query.FieldIs:
		if t.Value == "tagged" {
			return sq.Expr("s.tags > 0")
		}
		return has("s.facts", indexer.FactIs.Fact(t.Value))
	case query.FieldPulls:
		return sq.Expr("s.pulls "+operator(t.Compare)+" ?::bigint", t.Number)
	case query.FieldPulled:
		if t.Value == query.Never {
			return sq.Expr("s.pulled_at IS NULL")
		}
		return sq.And{sq.Expr("s.pulled_at IS NOT NULL"), within("s.pulled_at", t)} // never null: it may be negated
	case query.FieldDigest:
		const inRepository = "EXISTS (SELECT FROM manifest m WHERE m.repository_id = s.repository_id AND ?)"
		return sq.Expr(inRepository, hasDigest(t.Value))
	case query.FieldTag:
		return hasTag(t.Value)
	}
	return hasImage(imageCondition(t))
}

// ofImages returns the condition that one image fulfils all clauses, which are about
// images.
func ofImages(clauses []query.Clause) sq.Sqlizer {
	if len(clauses) == 1 { // each of its terms may be true of another image
		return anyOf(clauses[0])
	}
	all := sq.And{}
	for _, c := range clauses {
		// What indexes or the rows of repositories tell leaves fewer images to read.
		if !slices.ContainsFunc(c, func(t query.Term) bool { return factFields[t.Field] == "" && !isTag(t) }) {
			all = append(all, anyOf(c))
		}
	}
	return append(all, hasImage(imageConditions(clauses)))
}

// isTag reports whether a term asks for a tag by its whole name.
func isTag(t query.Term) bool { return t.Field == query.FieldTag && !isGlob(t.Value) }

// imageConditions returns clauses as a condition on image_search AS i.
func imageConditions(clauses []query.Clause) sq.Sqlizer {
	all := sq.And{sq.Expr("true")}
	for _, c := range clauses {
		any := sq.Or{}
		for _, t := range c {
			any = append(any, imageCondition(t))
		}
		all = append(all, any)
	}
	return all
}

// hasImage returns the condition that an image of the repository fulfils c.
func hasImage(c sq.Sqlizer) sq.Sqlizer {
	return sq.Expr("EXISTS (SELECT FROM image_search i WHERE i.repository_id = s.repository_id AND ?)", c)
}

// hasTag returns the condition that the repository has a tag that is not yanked; name may be
// a pattern.
func hasTag(name string) sq.Sqlizer {
	return sq.Expr(`EXISTS (
		SELECT FROM tag t WHERE t.repository_id = s.repository_id AND t.manifest_id IS NOT NULL AND ? AND `+isListed+`)`, glob("t.name", name))
}

// hasWords returns the condition that a tsvector, an expression, has the words of a
// tsquery.
func hasWords(vector, words string) sq.Sqlizer { return sq.Expr(vector+" @@ ?::text::tsquery", words) }

// has returns the condition that a list of texts, an expression, has a value, which may
// be a pattern.
func has[T ~string](list string, value T) sq.Sqlizer {
	if isGlob(string(value)) {
		return sq.Expr("EXISTS (SELECT FROM unnest("+list+") AS one WHERE one LIKE ?)", pg.Like(string(value)))
	}
	return sq.Expr(list+" @> ARRAY[?::text]", string(value))
}

// isShownBy returns the condition that a tag points to image_search AS i, or to an
// image index that lists it; name may be a pattern. OFFSET 0 keeps Postgres from
// looking for the indexes of all repositories.
func isShownBy(name string) sq.Sqlizer {
	return sq.Expr(`(? OR i.listed AND EXISTS (
		SELECT FROM manifest m
		JOIN index_entry e ON e.repository_id = m.repository_id AND e.digest = m.digest
		JOIN image_search p ON p.repository_id = e.repository_id AND p.manifest_id = e.manifest_id
		WHERE m.repository_id = i.repository_id AND m.id = i.manifest_id AND ? OFFSET 0))`,
		has("i.tags", name), has("p.tags", name))
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
	return has("i.facts", factFields[t.Field].Fact(t.Value))
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

// keyCondition compares a label or annotation of image_search AS i; column is that of
// its manifest AS m.
func keyCondition(t query.Term, column string) sq.Sqlizer {
	term, exact := memory.TermOf(t)
	if exact {
		return imageHas(term)
	}
	const ofManifest = `EXISTS (
		SELECT FROM manifest m WHERE m.repository_id = i.repository_id AND m.id = i.manifest_id AND ?)`
	name := memory.TermText(t.Name)
	if term != "" && utf8.RuneCountInString(name) < memory.MaxTerm { // no other key begins so
		return sq.And{imageHas(term), sq.Expr(ofManifest, globBeginning("("+column+" ->> ?)", t.Value, name))}
	}
	pair := sq.And{globBeginning("pair.key", t.Name)}
	if t.Valued {
		pair = append(pair, globBeginning("pair.value", t.Value))
	}
	return sq.Expr(ofManifest, sq.Expr("EXISTS (SELECT FROM jsonb_each_text("+column+") AS pair WHERE ?)", pair))
}

// digits is how many hexadecimal digits a digest of an algorithm has.
var digits = map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}

// hasDigest returns the condition that the digest of manifest AS m begins with the
// digits of a query.
func hasDigest(value string) sq.Sqlizer {
	algorithm, first, _ := strings.Cut(value, ":")
	rest := digits[algorithm] - len(first)
	from, _ := hex.DecodeString(first + strings.Repeat("0", rest)) // the parser accepts hexadecimal digits only
	to, _ := hex.DecodeString(first + strings.Repeat("f", rest))
	return sq.Expr("m.digest BETWEEN ? AND ?", from, to)
}
