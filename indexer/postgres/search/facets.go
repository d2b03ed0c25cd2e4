package search

import (
	"cmp"
	"context"
	"slices"

	sq "github.com/Masterminds/squirrel"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// facetNames are the facets that are counted, in the order shown.
var facetNames = []indexer.FactKind{
	indexer.FactNamespace, indexer.FactOS, indexer.FactArchitecture, indexer.FactType, indexer.FactLicence,
	indexer.FactLabel,
}

// maxFacetValues is the maximum number of values of a facet that are returned: 20, as
// many as a page can show.
const maxFacetValues = 20

// maxFacetImages is the maximum number of images that are read for the facets of a
// query about images: 20,000, about 100 ms, at 40 images a repository.
const maxFacetImages = 20_000

// ofImageFacets are the facets whose values come from the images of a repository.
var ofImageFacets = []indexer.FactKind{indexer.FactOS, indexer.FactArchitecture, indexer.FactType, indexer.FactLabel}

// Facets counts the values of each facet among the repositories that q selects. It
// counts the MaxFaceted most relevant of them, whatever the order and page of q. The
// facet of labels has only the keys that the image of a leading tag has.
func (rd *Reader) Facets(ctx context.Context, q query.Query) (indexer.Facets, error) {
	q.Sort, q.Limit, q.Offset, q.After = query.SortRelevance, indexer.MaxFaceted+1, 0, ""
	s := newSearch(q)
	images := s.images
	ids, err := rd.found(ctx, s)
	if err != nil {
		return indexer.Facets{}, pg.Wrap("facets", err)
	}
	best := ids[:min(len(ids), indexer.MaxFaceted)]
	facets := indexer.Facets{Counted: len(best), All: len(best) == len(ids)}
	counts, err := rd.countFacts(ctx, best, images)
	facets.Facets = facetsOf(counts, !facets.All)
	return facets, pg.Wrap("facets", err)
}

// A factCount is the number of repositories with a fact.
type factCount struct {
	Fact    indexer.Fact
	N       int
	AtLeast bool
}

// countFacts counts the facts of repositories. Choosing a value adds a condition on
// the same image to the query; so if the query has conditions on images, only the
// images that fulfil them count.
func (rd *Reader) countFacts(ctx context.Context, ids []int32, images []query.Clause) ([]factCount, error) {
	counts, err := pg.Collect[factCount](ctx, rd.db, rowFactsQuery, ids, len(images) == 0)
	tooManyKeys := func(c factCount) bool { return c.Fact == manyTerm }
	if err != nil || len(images) == 0 && !slices.ContainsFunc(counts, tooManyKeys) {
		return counts, err
	}
	counts = slices.DeleteFunc(counts, tooManyKeys)
	of := ofImageFacets
	if len(images) == 0 {
		of = []indexer.FactKind{indexer.FactLabel} // the rows have all other facts
	}
	replaced := func(c factCount) bool { return slices.Contains(of, c.Fact.Kind()) }
	var labels []string
	for _, c := range counts {
		if c.Fact.Kind() == indexer.FactLabel {
			labels = append(labels, string(c.Fact))
		}
	}
	found, err := rd.countImageFacts(ctx, ids, images, labels)
	found = slices.DeleteFunc(found, func(c factCount) bool { return !replaced(c) })
	return append(slices.DeleteFunc(counts, replaced), found...), err
}

// isLabel holds for a fact of FactLabel.
const isLabel = "starts_with(fact, '" + string(indexer.FactLabel) + ":')"

// rowFactsQuery counts the facts in the search rows of repositories, and their
// namespaces as another fact. If $2 is true, a label counts if any image of the
// repository has the key, and manyTerm counts the repositories with too many keys for
// their row. If $2 is false, a label counts if it is in the facts. OFFSET 0 keeps
// Postgres from reading other rows.
var rowFactsQuery = `
	WITH found AS MATERIALIZED (
		SELECT s.name, s.facts, s.terms FROM unnest($1::int[]) AS found (repository_id)
		CROSS JOIN LATERAL (SELECT s.name, s.facts, s.terms FROM repository_search s WHERE s.repository_id = found.repository_id OFFSET 0) AS s
	), facts AS MATERIALIZED (
		SELECT fact, count(*)::int AS n FROM (
			SELECT unnest(facts || CASE WHEN strpos(name, '/') > 0 THEN ` + sqlFact(indexer.FactNamespace, "split_part(name, '/', 1)") + ` END) AS fact FROM found
		) AS facts
		WHERE fact IS NOT NULL GROUP BY fact
	), label AS MATERIALIZED (
		SELECT fact, hashtextextended(fact, 0) AS term FROM facts WHERE ` + isLabel + `
		UNION ALL SELECT '` + manyTerm + `', ` + hash(manyTerm) + `
	)
	SELECT fact, n, false AS at_least FROM facts WHERE NOT ($2 AND ` + isLabel + `)
	UNION ALL
	SELECT label.fact, count(*)::int, false FROM found CROSS JOIN unnest(found.terms) AS has (term) JOIN label USING (term) WHERE $2 GROUP BY label.fact`

// countImageFacts counts the repositories with each fact, and with each of labels,
// among the images that fulfil clauses.
func (rd *Reader) countImageFacts(
	ctx context.Context, ids []int32, clauses []query.Clause, labels []string,
) ([]factCount, error) {
	const q = `
		WITH looked AS MATERIALIZED (
			SELECT i.* FROM unnest(?::int[]) AS found (repository_id)
			CROSS JOIN LATERAL (SELECT * FROM image_search i WHERE i.repository_id = found.repository_id OFFSET 0) AS i LIMIT ?
		), matching AS MATERIALIZED (
			SELECT i.repository_id, i.facts, i.keys FROM looked i WHERE (?)
		), label AS MATERIALIZED (
			SELECT fact, hashtextextended(fact, 0) AS key FROM unnest(?::text[]) AS fact
		), facts AS ( -- most images of a repository say the same
			SELECT DISTINCT m.repository_id, unnest(m.facts) AS fact FROM (SELECT DISTINCT repository_id, facts FROM matching) m
		), keys AS (
			SELECT DISTINCT m.repository_id, unnest(m.keys) AS key FROM (SELECT DISTINCT repository_id, keys FROM matching) m
		)
		SELECT fact, count(*)::int AS n, (SELECT count(*) FROM looked) >= ? AS at_least FROM (
			SELECT fact FROM facts UNION ALL SELECT label.fact FROM keys JOIN label USING (key)
		) AS has GROUP BY fact`
	sql, args, err := pg.Statement(q, ids, maxFacetImages, append(sq.And{sq.Expr("true")}, imageConditions(clauses)...), labels, maxFacetImages)
	if err != nil {
		return nil, err
	}
	return pg.Collect[factCount](ctx, rd.db, sql, args...)
}

// facetsOf returns the facets that have a value, each with its most frequent values
// first. If atLeast is true, all counts are lower bounds.
func facetsOf(facts []factCount, atLeast bool) []indexer.Facet {
	values := map[indexer.FactKind][]indexer.FacetValue{}
	for _, f := range facts {
		value := indexer.FacetValue{Value: f.Fact.Value(), Count: f.N, AtLeast: atLeast || f.AtLeast}
		values[f.Fact.Kind()] = append(values[f.Fact.Kind()], value)
	}
	var facets []indexer.Facet
	for _, name := range facetNames {
		if values := mostFirst(values[name]); len(values) > 0 {
			facets = append(facets, indexer.Facet{Name: name, Values: values})
		}
	}
	return facets
}

func mostFirst(values []indexer.FacetValue) []indexer.FacetValue {
	slices.SortFunc(values, func(a, b indexer.FacetValue) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	return values[:min(len(values), maxFacetValues)]
}
