package postgres

import (
	"fmt"
	"slices"
	"strings"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
)

// onlyWords reports whether an index of words serves a clause.
func onlyWords(c indexer.Clause) bool {
	return !slices.ContainsFunc(c, func(t indexer.Term) bool { return t.Field != indexer.FieldText || t.Tag != "" || t.Not })
}

// ofImage reports whether a field asks about an image, and not about the
// repository as a whole.
func ofImage(f indexer.Field) bool {
	switch f {
	case indexer.FieldTag, indexer.FieldOS, indexer.FieldArchitecture, indexer.FieldPlatform, indexer.FieldType, indexer.FieldLabel,
		indexer.FieldAnnotation, indexer.FieldSize, indexer.FieldLayers, indexer.FieldCreated, indexer.FieldPushed:
		return true
	}
	return false
}

// tsqueryOf makes a tsquery of a clause of words.
func tsqueryOf(c indexer.Clause) string {
	var any []string
	for _, t := range c {
		any = append(any, tsquery(t))
	}
	return "(" + strings.Join(any, " | ") + ")"
}

// tsquery asks for every word of a term.
func tsquery(t indexer.Term) string {
	asked := make([]string, len(t.Words))
	for i, w := range t.Words {
		asked[i] = lexeme(w, t.Prefix && i == len(t.Words)-1)
	}
	operator := " & "
	if t.Phrase {
		operator = " <-> "
	}
	return "(" + strings.Join(asked, operator) + ")"
}

// lexeme asks for a word, or for all that begin with it. Words hold letters and
// digits only; the quotes keep them from being operators.
func lexeme(word string, prefix bool) string {
	text := "'" + word[:min(len(word), maxLexeme)] + "'"
	if prefix {
		text += ":*"
	}
	return text
}

// A rowCondition is one term as conditions on repository_search AS s. What is nil
// says nothing.
type rowCondition struct {
	// index is true of every repository of which the term is, and served by the
	// indexes of words and terms.
	index sq.Sqlizer
	// filter, together with index, says just what the term does.
	filter sq.Sqlizer
	// dear says that filter takes more than a look at the row.
	dear bool
}

// whole is both parts.
func (c rowCondition) whole() sq.Sqlizer {
	all := sq.And{}
	for _, part := range []sq.Sqlizer{c.index, c.filter} {
		if part != nil {
			all = append(all, part)
		}
	}
	return all
}

// conditionOf gives a term that may be negated.
func conditionOf(t indexer.Term) rowCondition {
	if !t.Not {
		return positive(t)
	}
	t.Not = false
	c := positive(t)
	return rowCondition{filter: sq.Expr("NOT (?)", c.whole()), dear: c.dear}
}

func positive(t indexer.Term) rowCondition {
	switch t.Field {
	case indexer.FieldText:
		c := rowCondition{index: sq.Expr("s.all_words @@ ?::text::tsquery", tsquery(t))}
		if t.Tag != "" {
			c.filter, c.dear = hasTag(t.Tag), true
		}
		return c
	case indexer.FieldRepository, indexer.FieldNamespace:
		return rowCondition{filter: named(t)}
	case indexer.FieldHas:
		return rowCondition{index: hasTerm("has:" + t.Value)}
	case indexer.FieldLicence:
		fact := licencePrefix + t.Value
		if isGlob(t.Value) {
			return rowCondition{filter: sq.Expr("EXISTS (SELECT FROM unnest(s.facts) AS fact WHERE fact LIKE ?)", like(fact))}
		}
		return rowCondition{index: hasTerm(fact)}
	case indexer.FieldIs:
		if t.Value == "tagged" {
			return rowCondition{filter: sq.Expr("s.tags > 0")}
		}
		return rowCondition{index: hasTerm("is:" + t.Value)}
	case indexer.FieldDigest:
		from, to := digestRange(t.Value)
		return rowCondition{filter: sq.Expr("EXISTS (SELECT FROM manifest m WHERE m.repository_id = s.repository_id AND m.digest BETWEEN ? AND ?)", from, to), dear: true}
	}
	return ofImages([]indexer.Term{t})
}

// ofImages gives terms that must hold for one and the same image. What a single
// one says, the row of the repository mostly knows; of several it only tells
// which repositories may have such an image.
func ofImages(terms []indexer.Term) rowCondition {
	if len(terms) == 1 {
		return ofOneImage(terms[0])
	}
	index, image := sq.And{}, sq.And{}
	for _, t := range terms {
		if c := ofOneImage(t); c.index != nil {
			index = append(index, c.index)
		}
		image = append(image, imageCondition(t))
	}
	c := rowCondition{filter: hasImage(image), dear: true}
	if len(index) > 0 {
		c.index = index
	}
	return c
}

func ofOneImage(t indexer.Term) rowCondition {
	image := hasImage(imageCondition(t))
	if fact := factOf(t); fact != "" {
		return rowCondition{index: hasTerm(fact)}
	}
	switch t.Field {
	case indexer.FieldTag:
		if !isGlob(t.Value) {
			return rowCondition{filter: hasTag(t.Value), dear: true}
		}
	case indexer.FieldLabel, indexer.FieldAnnotation:
		term, exact := termOf(t)
		if term == "" {
			break
		}
		key, _, _ := strings.Cut(term, separator)
		c := rowCondition{
			index:  sq.Expr("s.terms && ARRAY[hashtextextended(?, 0), ~hashtextextended(?, 0), "+hash(manyTerm)+"]", term, key),
			filter: sq.Or{hasTerm(term), image}, dear: true,
		}
		if !exact {
			c.filter = image
		}
		return c
	}
	return rowCondition{filter: image, dear: true}
}

// hasTerm asks for a term in the row of a repository.
func hasTerm(term string) sq.Sqlizer {
	return sq.Expr("s.terms @> ARRAY[hashtextextended(?, 0)]", term)
}

// imageHas asks for a key or term, as termOf gives them, in image_search AS i.
func imageHas(term string) sq.Sqlizer {
	if strings.Contains(term, separator) {
		return sq.Expr("i.pairs @> ARRAY[hashtextextended(?, 0)]", term)
	}
	return sq.Expr("i.keys @> ARRAY[hashtextextended(?, 0)]", term)
}

func hasTag(name string) sq.Sqlizer {
	return sq.Expr("EXISTS (SELECT FROM tag t WHERE t.repository_id = s.repository_id AND t.name = ? AND t.manifest_id IS NOT NULL OFFSET 0)", name)
}

// hasImage asks for an image of the repository. OFFSET 0 keeps Postgres from
// looking for such images of all repositories first, which of a common label
// takes seconds.
func hasImage(c sq.Sqlizer) sq.Sqlizer {
	return sq.Expr("EXISTS (SELECT FROM image_search i WHERE i.repository_id = s.repository_id AND (?) OFFSET 0)", c)
}

// factOf gives a term as it stands among the facts, "" if it does not.
func factOf(t indexer.Term) string {
	if prefix := factPrefix[t.Field]; prefix != "" && !isGlob(t.Value) {
		return prefix + t.Value
	}
	return ""
}

var factPrefix = map[indexer.Field]string{
	indexer.FieldOS: "os:", indexer.FieldArchitecture: "arch:", indexer.FieldPlatform: "platform:", indexer.FieldType: "type:",
}

func isGlob(s string) bool { return strings.ContainsAny(s, "*?") }

// glob compares an expression with a value that may hold stars.
func glob(expression, value string) sq.Sqlizer {
	if isGlob(value) {
		return sq.Expr(expression+" LIKE ?", like(value))
	}
	return sq.Expr(expression+" = ?", indexer.CleanText(value))
}

// imageCondition is a term as a condition on image_search AS i.
func imageCondition(t indexer.Term) sq.Sqlizer {
	switch t.Field {
	case indexer.FieldTag:
		if isGlob(t.Value) {
			return sq.Expr("EXISTS (SELECT FROM unnest(i.tags) AS tag WHERE tag LIKE ?)", like(t.Value))
		}
		return sq.Expr("i.tags @> ARRAY[?::text]", t.Value)
	case indexer.FieldLabel:
		return keyCondition(t, "m.labels")
	case indexer.FieldAnnotation:
		return keyCondition(t, "m.annotations")
	case indexer.FieldSize:
		return sq.Expr("i.size "+operator(t.Compare)+" ?", t.Number)
	case indexer.FieldLayers:
		return sq.Expr("i.layers "+operator(t.Compare)+" ?", t.Number)
	case indexer.FieldCreated:
		return within("i.created_at", t)
	case indexer.FieldPushed:
		return within("i.pushed_at", t)
	}
	if fact := factOf(t); fact != "" {
		return sq.Expr("i.facts @> ARRAY[?::text]", fact)
	}
	return sq.Expr("EXISTS (SELECT FROM unnest(i.facts) AS fact WHERE fact LIKE ?)", like(factPrefix[t.Field]+t.Value))
}

// operator gives a comparison as SQL has it.
func operator(c indexer.Comparison) string {
	switch c {
	case indexer.Above, indexer.AtLeast, indexer.Below, indexer.AtMost:
		return string(c)
	}
	return "="
}

// within compares a moment with the span that a date names.
func within(column string, t indexer.Term) sq.Sqlizer {
	switch t.Compare {
	case indexer.Above:
		if t.From.Equal(t.To) { // an age
			return sq.Expr(column+" > ?", t.To)
		}
		return sq.Expr(column+" >= ?", t.To)
	case indexer.AtLeast:
		return sq.Expr(column+" >= ?", t.From)
	case indexer.Below:
		return sq.Expr(column+" < ?", t.From)
	case indexer.AtMost:
		if t.From.Equal(t.To) {
			return sq.Expr(column+" <= ?", t.To)
		}
		return sq.Expr(column+" < ?", t.To)
	}
	return sq.Expr(column+" >= ? AND "+column+" < ?", t.From, t.To)
}

// maxTerm is how many characters of a key and of a value stand in the terms of
// image_search; of longer ones the manifest itself is asked.
const maxTerm = 200

// keyCondition compares a label or annotation.
func keyCondition(t indexer.Term, column string) sq.Sqlizer {
	all := sq.And{}
	term, exact := termOf(t)
	if term != "" {
		// IS TRUE hides the condition from the index, which Postgres would ask for
		// all images with the term, again for each repository that it looks at.
		all = append(all, sq.Expr("(?) IS TRUE", imageHas(term)))
	}
	if exact {
		return all
	}
	inner := sq.And{glob("pair.key", t.Name)}
	if t.Valued {
		inner = append(inner, glob("pair.value", t.Value))
	}
	return append(all, sq.Expr("EXISTS (SELECT FROM manifest m, jsonb_each_text("+column+") AS pair "+
		"WHERE m.repository_id = i.repository_id AND m.id = i.manifest_id AND (?))", inner))
}

// termOf gives the term of image_search that every image has for which t is
// true, "" if there is none; exact says that t is true for all that have it.
func termOf(t indexer.Term) (term string, exact bool) {
	prefix := string(t.Field) + ":"
	switch {
	case isGlob(t.Name):
		return "", false
	case len(t.Name) > maxTerm:
		return "", false
	case !t.Valued:
		return prefix + t.Name, true
	case isGlob(t.Value), len(t.Value) > maxTerm, strings.HasSuffix(t.Name, "created"), strings.HasSuffix(t.Name, "build-date"):
		return prefix + t.Name, false
	}
	return prefix + t.Name + separator + t.Value, true
}

// digestRange gives the least and the greatest digest that begin with the digits
// of a query.
func digestRange(value string) (from, to []byte) {
	algorithm, hex, _ := strings.Cut(value, ":")
	digits := map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}[algorithm]
	return unhex(hex + strings.Repeat("0", digits-len(hex))), unhex(hex + strings.Repeat("f", digits-len(hex)))
}

func unhex(s string) []byte {
	b := make([]byte, len(s)/2)
	for i := range b {
		fmt.Sscanf(s[2*i:2*i+2], "%02x", &b[i]) // the parser has let hexadecimal digits through alone
	}
	return b
}

// named is a repository's name or namespace as a condition on its search row.
func named(t indexer.Term) sq.Sqlizer {
	pattern := t.Value
	if t.Field == indexer.FieldNamespace {
		pattern = strings.TrimSuffix(t.Value, "/") + "/*"
	}
	from, to := nameRange(pattern)
	if from == "" || !isGlob(pattern) {
		return glob("s.name", pattern)
	}
	return sq.And{sq.Expr("s.name >= ? AND s.name < ?", from, to), glob("s.name", pattern)} // by the index of names, which knows no patterns
}

// nameRange gives the names that a pattern allows, and others, as a range, from
// included and to not; from is "" if it begins with a star. '~' is above every
// character of a name.
func nameRange(pattern string) (from, to string) {
	head := pattern
	if i := strings.IndexAny(pattern, "*?"); i >= 0 {
		head = pattern[:i]
	}
	if head == "" {
		return "", ""
	}
	return head, head + "~"
}
