package search

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// maxSuggestions is the maximum number of suggestions that Suggest returns: 20, more
// than anybody reads while typing.
const maxSuggestions = 20

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

// namesFrom returns repositories whose name may be meant by the typed text: the one with
// exactly that name, those whose last path component begins with it, and those whose
// name does. '~' is greater than every character of a name.
func (rd *Reader) namesFrom(ctx context.Context, typed string, limit int) ([]string, error) {
	if typed == "" || limit == 0 {
		return nil, nil
	}
	st, err := rd.state(ctx)
	if err != nil {
		return nil, err
	}
	if st != nil {
		return st.Names(rd.visible, typed, limit), nil
	}
	const q = `
		SELECT name FROM (
			SELECT s.repository_id, s.name, s.pulls, s.updated_at, CASE WHEN s.name = typed.text THEN 0 WHEN s.basename = typed.text THEN 1
				WHEN s.basename > typed.text AND s.basename < typed.up_to THEN 2
				WHEN s.name > typed.text AND s.name < typed.up_to THEN 3 END AS class
			FROM repository_search s, (VALUES (?::text, ?::text)) AS typed (text, up_to) WHERE ? AND ` + isShownRow + `
		) AS s WHERE class IS NOT NULL ORDER BY class, pulls DESC, updated_at DESC, repository_id DESC LIMIT ?`
	return planned(ctx, rd, pgx.RowTo[string], q, typed, typed+"~", rd.sees("s.name"), limit)
}

// namespacesFrom returns the namespaces that begin with the typed text, up to the next
// slash after it.
func (rd *Reader) namespacesFrom(ctx context.Context, typed string, limit int) ([]string, error) {
	st, err := rd.state(ctx)
	if err != nil {
		return nil, err
	}
	if st != nil {
		return st.Namespaces(rd.visible, typed, limit), nil
	}
	const q = `
		SELECT DISTINCT left(s.name, ?::int + strpos(substr(s.name, ?::int + 1), '/') - 1) AS namespace
		FROM repository_search s WHERE s.name >= ? AND s.name < ? AND strpos(substr(s.name, ?::int + 1), '/') > 0 AND ? AND ` + isShownRow + `
		ORDER BY namespace LIMIT ?`
	n := utf8.RuneCountInString(typed)
	return planned(ctx, rd, pgx.RowTo[string], q, n, n, typed, typed+"~", n, rd.sees("s.name"), limit)
}

// valuesFrom returns the values of a field that begin with the typed text: fixed ones,
// then those of facts, those of the most repositories first.
func (rd *Reader) valuesFrom(ctx context.Context, f query.Field, typed string, limit int) ([]string, error) {
	fixed := append([]string{}, query.FieldValues(f)...)
	values := slices.DeleteFunc(slices.Clone(fixed), func(x string) bool { return !strings.HasPrefix(x, typed) })
	values = values[:min(len(values), limit)]
	switch f {
	case query.FieldOS, query.FieldArchitecture, query.FieldPlatform, query.FieldType:
	default:
		return values, nil
	}
	kind := factFields[f]
	st, err := rd.state(ctx)
	if err != nil {
		return nil, err
	}
	if st != nil {
		stored := st.Values(rd.visible, kind, typed, limit+len(fixed))
		stored = slices.DeleteFunc(stored, func(x string) bool { return slices.Contains(fixed, x) })
		return append(values, stored...)[:min(limit, len(values)+len(stored))], nil
	}
	const q = `
		SELECT value FROM repository_search s
		CROSS JOIN unnest(s.facts) AS fact CROSS JOIN substr(fact, ?::int) AS value
		WHERE ? AND ` + isShownRow + ` AND starts_with(fact, ?) AND value <> ALL(?::text[])
		GROUP BY value ORDER BY count(*) DESC, value LIMIT ?`
	stored, err := planned(ctx, rd, pgx.RowTo[string], q, len(kind.Fact(""))+1, rd.sees("s.name"),
		string(kind.Fact(typed)), fixed, limit-len(values))
	return append(values, stored...), err
}
