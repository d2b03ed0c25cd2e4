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

// onlyWords reports whether an index of words serves a clause.
func onlyWords(c query.Clause) bool {
	return !slices.ContainsFunc(c, func(t query.Term) bool { return t.Field != query.FieldText || t.Tag != "" || t.Not })
}

// ofImage reports whether a field asks about an image, and not about the
// repository as a whole.
func ofImage(f query.Field) bool {
	switch f {
	case query.FieldTag, query.FieldOS, query.FieldArchitecture, query.FieldPlatform, query.FieldType, query.FieldHas, query.FieldLabel,
		query.FieldAnnotation, query.FieldSize, query.FieldLayers, query.FieldCreated, query.FieldPushed:
		return true
	}
	return false
}

// aboutImages reports whether a clause takes part in the rule that conditions side
// by side hold for one and the same image: every term asks about images, and none
// is negated.
func aboutImages(c query.Clause) bool {
	return !slices.ContainsFunc(c, func(t query.Term) bool { return t.Not || !ofImage(t.Field) })
}

// tsqueryOf makes a tsquery of a clause of words.
func tsqueryOf(c query.Clause) string {
	var any []string
	for _, t := range c {
		any = append(any, tsquery(t))
	}
	return "(" + strings.Join(any, " | ") + ")"
}

// tsquery asks for every word of a term.
func tsquery(t query.Term) string {
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
func conditionOf(t query.Term) rowCondition {
	if !t.Not {
		return positive(t)
	}
	t.Not = false
	c := positive(t)
	return rowCondition{filter: sq.Expr("NOT (?)", c.whole()), dear: c.dear}
}

func positive(t query.Term) rowCondition {
	switch t.Field {
	case query.FieldText:
		c := rowCondition{index: sq.Expr("s.all_words @@ ?::text::tsquery", tsquery(t))}
		if t.Tag != "" {
			c.filter, c.dear = hasTag(t.Tag), true
		}
		return c
	case query.FieldRepository, query.FieldNamespace:
		return rowCondition{filter: named(t)}
	case query.FieldLicence:
		fact := licencePrefix + t.Value
		if isGlob(t.Value) {
			return rowCondition{filter: sq.Expr("EXISTS (SELECT FROM unnest(s.facts) AS fact WHERE fact LIKE ?)", like(fact))}
		}
		return rowCondition{index: hasTerm(fact)}
	case query.FieldIs:
		if t.Value == "tagged" {
			return rowCondition{filter: sq.Expr("s.tags > 0")}
		}
		return rowCondition{index: hasTerm("is:" + t.Value)}
	case query.FieldDigest:
		from, to := digestRange(t.Value)
		return rowCondition{filter: sq.Expr("EXISTS (SELECT FROM manifest m WHERE m.repository_id = s.repository_id AND m.digest BETWEEN ? AND ?)", from, to), dear: true}
	}
	return ofOneImage(t)
}

// ofImages returns clauses about images as a condition: that one and the same
// image fulfils all of them. What a single one says, the row of the repository
// mostly knows; of several it only tells which repositories may have such an
// image.
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
	c := rowCondition{filter: hasImage(imageConditions(clauses)), dear: true}
	if len(index) > 0 {
		c.index = index
	}
	return c
}

// imageConditions returns clauses as a condition on image_search AS i.
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
		c.filter, c.dear = any.filter, any.dear
	}
	return c
}

// sharedIndex is true of every repository that fulfils a term of the clause, and
// served by the index of terms; nil if there is no such condition. If all terms
// are facts, it is true of no others.
func sharedIndex(clause query.Clause) sq.Sqlizer {
	var hashes []string
	var args []any
	for _, t := range clause {
		if fact := factOf(t); fact != "" {
			hashes, args = append(hashes, "hashtextextended(?, 0)"), append(args, fact)
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
		return rowCondition{index: hasTerm(fact)}
	}
	switch t.Field {
	case query.FieldTag:
		return rowCondition{filter: hasTag(t.Value), dear: true}
	case query.FieldLabel, query.FieldAnnotation:
		term, exact := termOf(t)
		if term == "" {
			break
		}
		c := rowCondition{index: sharedIndex(query.Clause{t}), filter: sq.Or{hasTerm(term), image}, dear: true}
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
	if strings.Contains(term, pg.Separator) {
		return sq.Expr("i.pairs @> ARRAY[hashtextextended(?, 0)]", term)
	}
	return sq.Expr("i.keys @> ARRAY[hashtextextended(?, 0)]", term)
}

// hasTag asks for a tag, of which the name may hold stars, of the repository.
func hasTag(name string) sq.Sqlizer {
	return sq.Expr("EXISTS (SELECT FROM tag t WHERE t.repository_id = s.repository_id AND ? AND t.manifest_id IS NOT NULL OFFSET 0)", glob("t.name", name))
}

// isShownBy asks whether a tag shows image_search AS i, itself or by an image index
// that lists it. The fences keep Postgres from beginning with all tags or entries
// there are.
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
			WHERE `+fmt.Sprintf(matches, "p")+" OFFSET 0))", like(name), like(name))
}

// hasImage asks for an image of the repository. OFFSET 0 keeps Postgres from
// looking for such images of all repositories first, which of a common label
// takes seconds.
func hasImage(c sq.Sqlizer) sq.Sqlizer {
	return sq.Expr("EXISTS (SELECT FROM image_search i WHERE i.repository_id = s.repository_id AND (?) OFFSET 0)", c)
}

// factOf gives a term as it stands among the facts, "" if it does not.
func factOf(t query.Term) string {
	if prefix := factPrefix[t.Field]; prefix != "" && !isGlob(t.Value) {
		return prefix + t.Value
	}
	return ""
}

var factPrefix = map[query.Field]string{
	query.FieldOS: "os:", query.FieldArchitecture: "arch:", query.FieldPlatform: "platform:", query.FieldType: "type:",
	query.FieldHas: "has:",
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
		return sq.Expr("i.facts @> ARRAY[?::text]", fact)
	}
	return sq.Expr("EXISTS (SELECT FROM unnest(i.facts) AS fact WHERE fact LIKE ?)", like(factPrefix[t.Field]+t.Value))
}

// operator gives a comparison as SQL has it.
func operator(c query.Comparison) string {
	switch c {
	case query.Above, query.AtLeast, query.Below, query.AtMost:
		return string(c)
	}
	return "="
}

// within compares a moment with the span or the moment that a query names.
func within(column string, t query.Term) sq.Sqlizer {
	switch t.Compare {
	case query.Above:
		if t.From.Equal(t.To) { // a moment
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

// maxTerm is how many characters of a key and of a value can be asked for: 200.
// The terms of image_search are made of these; equality and patterns compare as
// many, so that they say the same. It bounds what a pattern takes: to match eight
// stars with 200 characters takes microseconds, and with 256 kB seconds.
const maxTerm = 200

// beginningOf returns the first maxTerm characters of an expression.
func beginningOf(expression string) string { return fmt.Sprintf("left(%s, %d)", expression, maxTerm) }

// keyCondition compares a label or annotation.
func keyCondition(t query.Term, column string) sq.Sqlizer {
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
	const ofManifest = "EXISTS (SELECT FROM manifest m%s WHERE m.repository_id = i.repository_id AND m.id = i.manifest_id AND (?))"
	if name := cut(t.Name); t.Valued && !isGlob(t.Name) && utf8.RuneCountInString(name) < maxTerm { // no longer key begins so
		return append(all, sq.Expr(fmt.Sprintf(ofManifest, ""), globBeginning("("+column+" ->> ?)", t.Value, name)))
	}
	inner := sq.And{globBeginning("pair.key", t.Name)}
	if t.Valued {
		inner = append(inner, globBeginning("pair.value", t.Value))
	}
	return append(all, sq.Expr(fmt.Sprintf(ofManifest, ", jsonb_each_text("+column+") AS pair"), inner))
}

// globBeginning compares the beginning of an expression, of which args are the
// parameters, with a value that may hold stars.
func globBeginning(expression, value string, args ...any) sq.Sqlizer {
	if isGlob(value) {
		return sq.Expr(beginningOf(expression)+" LIKE ?", append(args, like(value))...)
	}
	return sq.Expr(beginningOf(expression)+" = ?", append(args, cut(value))...)
}

// termOf returns the term of image_search that every image has for which t is
// true, "" if there is none; exact says that t is true for all that have it.
func termOf(t query.Term) (term string, exact bool) {
	key := string(t.Field) + ":" + cut(t.Name)
	switch {
	case isGlob(t.Name):
		return "", false
	case !t.Valued, t.Value != "" && strings.Trim(t.Value, "*") == "": // any value
		return key, true
	case isGlob(t.Value), strings.HasSuffix(t.Name, "created"), strings.HasSuffix(t.Name, "build-date"):
		return key, false
	}
	return key + pg.Separator + cut(t.Value), true
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
func named(t query.Term) sq.Sqlizer {
	pattern := t.Value
	if t.Field == query.FieldNamespace {
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
