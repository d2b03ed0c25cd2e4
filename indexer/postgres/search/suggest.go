package search

import (
	"context"
	"fmt"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

const (
	// maxSuggestions is the maximum number of suggestions that Suggest returns: 20, more
	// than anybody reads while typing.
	maxSuggestions = 20
	// suggestRows is the maximum number of repositories of a tier that are compared:
	// 1,000, 2 ms. If more in the last tier begin with one letter, the first by name are
	// taken; after the next letter the others are found.
	suggestRows = 1000
	// namespaceSteps is the maximum number of steps from one namespace to the next: 200, 2
	// ms. Each repository without a namespace costs a step too.
	namespaceSteps = 200
)

// Suggest completes the end of text, best first. A word is completed to a repository
// whose name, or last path component, begins with it, or to the name of a field; the
// value of a field is completed if its values are known. Text that cannot be
// completed is no error.
func (rd *Reader) Suggest(ctx context.Context, text string, limit int) ([]indexer.Suggestion, error) {
	c, ok := query.CutLast(text)
	if !ok {
		return nil, nil
	}
	suggestions, err := rd.complete(ctx, c, min(max(limit, 1), maxSuggestions))
	return suggestions, pg.Wrap("suggest", err)
}

func (rd *Reader) complete(ctx context.Context, c query.Completion, limit int) ([]indexer.Suggestion, error) {
	value := strings.ToLower(indexer.CleanText(c.Value))
	repositories := func(names []string, err error) ([]indexer.Suggestion, error) {
		var suggestions []indexer.Suggestion
		for _, n := range names {
			suggestions = append(suggestions, indexer.Suggestion{Text: c.With(n), Name: n})
		}
		return suggestions, err
	}
	switch c.Field {
	case query.FieldText:
		fields := query.FieldsFrom(value)
		fields = fields[:min(len(fields), limit)]
		suggestions, err := repositories(rd.namesFrom(ctx, value, limit-len(fields)))
		for _, f := range fields {
			suggestions = append(suggestions, indexer.Suggestion{Text: c.With(f + ":")})
		}
		return suggestions, err
	case query.FieldRepository:
		return repositories(rd.namesFrom(ctx, value, limit))
	case query.FieldNamespace:
		return repositories(rd.namespacesFrom(ctx, value, limit))
	}
	values, err := rd.valuesFrom(ctx, c.Field, value, limit)
	var suggestions []indexer.Suggestion
	for _, x := range values {
		suggestions = append(suggestions, indexer.Suggestion{Text: c.With(x)})
	}
	return suggestions, err
}

// namesQuery selects the repository with exactly the typed name, then, tier by tier,
// those whose last path component begins with it and those whose name begins with it.
// Postgres stops as soon as there are enough.
var namesQuery = func() string {
	const (
		base = `
		UNION ALL (SELECT name FROM (
				SELECT name, basename, pulls, updated_at FROM repository_search
				WHERE tier = %[1]d AND basename >= $1 AND basename < $2 ORDER BY basename LIMIT %[2]d) AS typed
			WHERE name <> $1 ORDER BY basename <> $1, pulls DESC, updated_at DESC, name LIMIT $3)`
		whole = `
		UNION ALL (SELECT name FROM (
				SELECT name, basename, pulls, updated_at FROM repository_search
				WHERE tier = %[1]d AND name >= $1 AND name < $2 ORDER BY name LIMIT %[2]d) AS typed
			WHERE name <> $1 AND NOT (basename >= $1 AND basename < $2) ORDER BY pulls DESC, updated_at DESC, name LIMIT $3)`
	)
	q := "SELECT name FROM (SELECT name FROM repository_search WHERE name = $1"
	for tier := range 3 {
		q += fmt.Sprintf(base, tier, suggestRows) + fmt.Sprintf(whole, tier, suggestRows)
	}
	return q + ") AS best LIMIT $3"
}()

// namesFrom returns repositories whose name may be meant by the typed text. '~' is
// greater than every character of a name.
func (rd *Reader) namesFrom(ctx context.Context, typed string, limit int) ([]string, error) {
	if typed == "" || limit == 0 {
		return nil, nil
	}
	return pg.Column[string](ctx, rd.db, namesQuery, typed, typed+"~", limit)
}

// namespacesFrom steps from namespace to namespace in the index of names: the first
// name after those in "team/" is at or after "team0", and the first after the name
// "app" is at or after "app!".
func (rd *Reader) namespacesFrom(ctx context.Context, typed string, limit int) ([]string, error) {
	const q = `
		WITH RECURSIVE step (name, namespace, n) AS (
			SELECT NULL::text COLLATE "C", NULL::text COLLATE "C", 0
			UNION ALL
			SELECT next.name, NULLIF(left(next.name, length($1) + strpos(substr(next.name, length($1) + 1), '/') - 1), left(next.name, length($1) - 1)), n + 1
			FROM step CROSS JOIN LATERAL (
				SELECT s.name FROM repository_search s
				WHERE s.name >= COALESCE(step.namespace || '0', step.name || '!', $1) AND s.name < $2 ORDER BY s.name LIMIT 1
			) AS next
			WHERE n < $4
		)
		SELECT namespace FROM step WHERE namespace IS NOT NULL LIMIT $3`
	return pg.Column[string](ctx, rd.db, q, typed, typed+"~", limit, namespaceSteps)
}

// knownValues is the maximum number of values of a dictionary with the typed prefix
// that are looked up: 100, about 10 ms. Dictionaries keep every value that was ever
// pushed, so pushes can make them large.
const knownValues = 100

// valuesFrom returns the values of a field that begin with the typed text: fixed
// ones, then those of dictionaries that an image has, oldest first, because common
// values were mostly stored first.
func (rd *Reader) valuesFrom(ctx context.Context, f query.Field, typed string, limit int) ([]string, error) {
	var values []string
	for _, x := range query.FieldValues(f) {
		if strings.HasPrefix(x, typed) {
			values = append(values, x)
		}
	}
	known := map[query.Field]string{
		query.FieldOS:           "SELECT lower(os) AS value, id FROM platform",
		query.FieldArchitecture: "SELECT lower(architecture) AS value, id FROM platform",
		query.FieldPlatform:     "SELECT lower(concat_ws('/', os, architecture, NULLIF(variant, ''))) AS value, id FROM platform",
		query.FieldType:         "SELECT lower(name) AS value, id FROM media_type",
	}[f]
	if known == "" {
		return values[:min(len(values), limit)], nil
	}
	q := fmt.Sprintf(`
		SELECT value FROM (
			SELECT value FROM (%s) AS known WHERE starts_with(value, $1) GROUP BY value ORDER BY min(id) LIMIT %d
		) AS known WHERE %s LIMIT $2`, known, knownValues, anyHas(sqlFact(factFields[f], "known.value")))
	stored, err := pg.Column[string](ctx, rd.db, q, typed, limit)
	values = append(values, stored...)
	return values[:min(len(values), limit)], err
}

// anyHas returns the condition that any repository has a fact, tier by tier. It
// counts in the last tier, for the reason given at Reader.knows.
func anyHas(fact string) string {
	tier := func(selected string, n int) string {
		return fmt.Sprintf("(SELECT %s FROM repository_search s WHERE s.tier = %d AND s.terms @> ARRAY[hashtextextended(%s, 0)]", selected, n, fact)
	}
	return "COALESCE(" + tier("true", 0) + " LIMIT 1), " + tier("true", 1) + " LIMIT 1), " + tier("count(*) > 0", 2) + "))"
}
