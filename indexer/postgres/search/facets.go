package search

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/memory"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/query"
)

// maxFacetValues is the maximum number of values of a facet that are returned: 20, as
// many as a page can show.
const maxFacetValues = 20

// The most repositories, and the most images of a query about images, whose facts are
// counted: 10,000 and 20,000, about half a second each.
const (
	maxFaceted     = 10_000
	maxFacetImages = 100_000
)

// Facets counts the values of each facet among the repositories that q selects, whatever
// the order and page of q. The facet of labels has only the keys that the image of a
// leading tag has. If q has conditions on images that the copy in memory cannot decide, or
// if there is no copy, only the most relevant repositories are counted.
func (rd *Reader) Facets(ctx context.Context, q query.Query) (indexer.Facets, error) {
	facets, err := rd.facets(ctx, q)
	return facets, pg.Wrap("facets", err)
}

func (rd *Reader) facets(ctx context.Context, q query.Query) (indexer.Facets, error) {
	q.Sort, q.After = query.SortRelevance, ""
	st, err := rd.state(ctx)
	if err != nil {
		return indexer.Facets{}, err
	}
	if st != nil {
		if facets, known, err := rd.facetsCopy(ctx, st, q); known || err != nil {
			return facets, err
		}
	}
	return rd.facetsAmong(ctx, q, maxFaceted, nil)
}

// facetsAmong counts the values of each facet among the most relevant repositories that q
// selects, at most a number of them. If ids is not nil, those are the repositories.
func (rd *Reader) facetsAmong(ctx context.Context, q query.Query, most int, ids []int32) (indexer.Facets, error) {
	s := rd.compile(q)
	if ids != nil {
		s.where = sq.And{sq.Expr("s.repository_id = ANY(?)", ids)}
	}
	has, images := rowFacts, sq.Expr("false")
	if len(s.images) > 0 {
		has, images = imageFacts, sq.Expr("?", imageConditions(s.images))
	}
	counts, err := planned(ctx, rd, pgx.RowToStructByName[factCount], fmt.Sprintf(facetsQuery, s.from(), has),
		s.where, s.order(), most, images, maxFacetImages, maxFacetImages)
	if err != nil {
		return indexer.Facets{}, err
	}
	facets := indexer.Facets{Counted: counts[0].Counted, All: counts[0].Counted < most}
	facets.Facets = facetsOf(counts, !facets.All)
	return facets, nil
}

// A factCount is the number of repositories with a fact.
type factCount struct {
	Fact    indexer.Fact
	N       int
	AtLeast bool // not all images were counted
	Counted int  // repositories among which the fact was counted
}

// facetsQuery counts the facts of the repositories that a search finds. The part of it
// that differs selects which repository has which fact, and which keys: rowFacts or
// imageFacts. It returns at least one row.
//
// Choosing a value adds a condition on the same image to the query; so if the query has
// conditions on images, only the images that fulfil them count. A label is offered if
// the image of a leading tag has the key, and counts if any image has it.
var facetsQuery = `
	WITH found AS MATERIALIZED (
		SELECT s.repository_id, s.name, s.facts, s.terms FROM %s WHERE ? ORDER BY ? LIMIT ?
	), matching AS MATERIALIZED (
		SELECT i.repository_id, i.facts, i.keys FROM found JOIN image_search i USING (repository_id) WHERE ? LIMIT ?
	), fact AS (
		SELECT repository_id, fact FROM found, unnest(facts) AS fact
	), %s, label AS (
		SELECT fact, hashtextextended(fact, 0) AS key FROM fact WHERE starts_with(fact, 'label:') GROUP BY fact
	), has (fact, of_image) AS (
		SELECT ` + sqlFact(indexer.FactNamespace, "split_part(name, '/', 1)") + `, false FROM found WHERE strpos(name, '/') > 0
		UNION ALL SELECT fact, false FROM fact WHERE starts_with(fact, 'licence:')
		UNION ALL SELECT fact, true FROM image_fact WHERE NOT starts_with(fact, 'label:')
		UNION ALL SELECT label.fact, true FROM image_key JOIN label USING (key)
	)
	SELECT COALESCE(fact, '') AS fact, COALESCE(n, 0) AS n, COALESCE(of_image AND many, false) AS at_least, counted
	FROM (SELECT (SELECT count(*) FROM found)::int AS counted, (SELECT count(*) FROM matching) = ? AS many) AS looked
	LEFT JOIN (SELECT fact, of_image, count(*)::int AS n FROM has GROUP BY fact, of_image) AS counts ON true`

// rowFacts takes the facts and keys from the rows of the repositories. Only those with
// too many keys for their row need the rows of their images.
var rowFacts = `image_fact AS (
		SELECT fact FROM fact WHERE NOT starts_with(fact, 'licence:')
	), image_key AS (
		SELECT unnest(terms) AS key FROM found WHERE NOT terms @> ARRAY[` + hash(memory.ManyKeys) + `]
		UNION ALL SELECT key FROM (
			SELECT DISTINCT i.repository_id, unnest(i.keys) AS key FROM found JOIN image_search i USING (repository_id)
			WHERE found.terms @> ARRAY[` + hash(memory.ManyKeys) + `]) AS many
	)`

// imageFacts takes the facts and keys from the images that fulfil the query.
const imageFacts = `image_fact AS (
		SELECT fact FROM (SELECT DISTINCT repository_id, unnest(facts) AS fact FROM matching) AS once
	), image_key AS (
		SELECT key FROM (SELECT DISTINCT repository_id, unnest(keys) AS key FROM matching) AS once
	)`

// facetsOf returns the facets that have a value, each with its most frequent values
// first. If atLeast is true, all counts are lower bounds.
func facetsOf(facts []factCount, atLeast bool) []indexer.Facet {
	values := map[indexer.FactKind][]indexer.FacetValue{}
	for _, f := range facts {
		value := indexer.FacetValue{Value: f.Fact.Value(), Count: f.N, AtLeast: atLeast || f.AtLeast}
		values[f.Fact.Kind()] = append(values[f.Fact.Kind()], value)
	}
	var facets []indexer.Facet
	for _, name := range memory.FacetKinds {
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
