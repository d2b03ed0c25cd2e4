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
	// maxValues is the maximum number of values of one label or annotation among the terms
	// of a repository: 4. A key with more, such as a version or revision, has another
	// value in each image; it is looked up among the images.
	maxValues = 4
	// maxKeys is the maximum number of keys among the terms of a repository: 1,000, a
	// hundred times what build tools set. It limits a row to 40 KB, whatever is pushed.
	maxKeys = 1000
)

// manyTerm replaces the terms of a repository's images if they have more than maxKeys
// keys. If a key has more than maxValues values, ~hash(key) is stored instead of
// them.
const manyTerm = "many:"

// termsOf returns an expression for the terms of a repository: its facts, and the
// terms of its images within the limits above. facts and id are expressions.
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

// hash returns an expression for the hash of a literal text, as terms store it.
func hash(text string) string { return "hashtextextended('" + text + "', 0)" }

// maxTerm is the maximum number of characters of a key and of a value that queries
// compare: 200. The terms of image_search are made of that many, and equality and
// patterns compare that many, so that all agree. It limits the time of a pattern: to
// match eight stars against 200 characters takes microseconds, against 256 kB seconds.
const maxTerm = 200

// buildTimeKeys are labels with the time of the build. Terms leave out their values,
// because nobody searches for them and every image has another one. Of annotations,
// only the first key is left out.
var buildTimeKeys = []string{"org.opencontainers.image.created", "org.label-schema.build-date", "build-date"}

// isBuildTime reports whether terms may leave out the values of a label or
// annotation.
func isBuildTime(key string) bool { return slices.Contains(buildTimeKeys, key) }

// termOf returns the term of image_search that every image has that fulfils t, or ""
// if there is none. exact reports whether all images with the term fulfil t.
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

// termText returns text cut off to maxTerm characters, as terms have it.
func termText(text string) string {
	runes := []rune(indexer.CleanText(text))
	return string(runes[:min(len(runes), maxTerm)])
}

// imageHas returns the condition that image_search AS i has a key or term, as termOf
// returns them.
func imageHas(term string) sq.Sqlizer {
	if strings.Contains(term, pg.Separator) {
		return sq.Expr("i.pairs @> ARRAY[hashtextextended(?, 0)]", term)
	}
	return sq.Expr("i.keys @> ARRAY[hashtextextended(?, 0)]", term)
}
