package search

import (
	"fmt"
	"strings"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer/memory"
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
		) AS terms), '{}')`, facts, id, maxValues, maxKeys, hash(memory.ManyKeys))
}

// hash returns an expression for the hash of a literal text, as terms store it.
func hash(text string) string { return "hashtextextended('" + text + "', 0)" }

// imageHas returns the condition that image_search AS i has a key or term, as
// memory.TermOf returns them.
func imageHas(term string) sq.Sqlizer {
	if strings.Contains(term, memory.TermSeparator) {
		return sq.Expr("i.pairs @> ARRAY[hashtextextended(?, 0)]", term)
	}
	return sq.Expr("i.keys @> ARRAY[hashtextextended(?, 0)]", term)
}
