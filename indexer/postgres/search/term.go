package search

import (
	"fmt"
	"slices"
	"strings"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

const (
	// maxValues is the most values of one label or annotation that stand in the
	// terms of a repository: 4. Those of a key with more, as versions and revisions
	// are, belong to one image each, and are looked for among the images.
	maxValues = 4
	// maxKeys is the most keys that do: 1,000, a hundred times what build tools
	// set. It bounds the row at 40 KB, whatever is pushed.
	maxKeys = 1000
)

// manyTerm stands in the terms of a repository in place of those of its images,
// if they have more than maxKeys keys. In place of the values of one key that has
// more than maxValues stands its bitwise opposite.
const manyTerm = "many:"

// termsOf are the terms of a repository: its facts, and those of its images as
// far as they are not too many. facts and id are expressions.
func termsOf(facts, id string) string {
	return fmt.Sprintf(`COALESCE((
		WITH pair AS (
			SELECT DISTINCT p.key, p.term FROM image_search i, unnest(i.keys, i.pairs) AS p (key, term) WHERE i.repository_id = %[2]s
		), all_keys AS (
			SELECT count(DISTINCT key) > %[4]d AS many FROM pair
		), counted AS (
			SELECT key, term, count(*) FILTER (WHERE term <> key) OVER (PARTITION BY key) AS values FROM pair WHERE NOT (SELECT many FROM all_keys)
		)
		SELECT array_agg(DISTINCT term) FROM (
			SELECT hashtextextended(fact, 0) AS term FROM unnest(%[1]s) AS fact
			UNION ALL SELECT key FROM counted
			UNION ALL SELECT CASE WHEN values <= %[3]d THEN term ELSE ~key END FROM counted
			UNION ALL SELECT %[5]s FROM all_keys WHERE many
		) AS terms), '{}')`, facts, id, maxValues, maxKeys, hash(manyTerm))
}

// hash is a literal text as a term.
func hash(text string) string { return "hashtextextended('" + text + "', 0)" }

// maxTerm is how many characters of a key and of a value can be asked for: 200.
// The terms of image_search are made of these; equality and patterns compare as
// many, so that they say the same. It bounds what a pattern takes: to match eight
// stars with 200 characters takes microseconds, and with 256 kB seconds.
const maxTerm = 200

// buildTimeKeys are labels with the time of building. Their values stand in no terms:
// nobody asks for them, and no two images have the same. Of annotations, only the
// first is left out.
var buildTimeKeys = []string{"org.opencontainers.image.created", "org.label-schema.build-date", "build-date"}

// isBuildTime reports whether terms may lack the values of a label or annotation.
func isBuildTime(key string) bool { return slices.Contains(buildTimeKeys, key) }

// termOf returns the term of image_search that every image has for which t is
// true, "" if there is none; exact says that t is true for all that have it.
func termOf(t query.Term) (term string, exact bool) {
	key := string(t.Field) + ":" + termText(t.Name)
	switch {
	case isGlob(t.Name):
		return "", false
	case !t.Valued, t.Value != "" && strings.Trim(t.Value, "*") == "": // any value
		return key, true
	case isGlob(t.Value), isBuildTime(t.Name):
		return key, false
	}
	return key + pg.Separator + termText(t.Value), true
}

// termText returns text as far as terms hold it.
func termText(text string) string {
	runes := []rune(indexer.CleanText(text))
	return string(runes[:min(len(runes), maxTerm)])
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
