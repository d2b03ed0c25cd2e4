package api

import (
	"net/http"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

type facetsAnswer struct {
	Query   string  `json:"query" doc:"the query as it was parsed"`
	Counted int     `json:"counted" doc:"number of repositories that were counted, the best results first"`
	All     bool    `json:"all" doc:"whether these are all results of the query; if not, every count is a lower bound"`
	Facets  []facet `json:"facets"`
}

type facet struct {
	Name   string       `json:"name" doc:"a field of the query language"`
	Values []facetValue `json:"values" doc:"at most 20 values, highest count first"`
}

type facetValue struct {
	Value string `json:"value"`
	Count int    `json:"count" doc:"number of repositories that the query finds with this value as one more condition"`

	CountIsFloor bool `json:"count_is_floor" doc:"whether there may be more repositories than count, because not all were counted"`
}

func (s *API) facets(w http.ResponseWriter, r asked) error {
	q, err := r.query()
	if err != nil {
		return orWrong(w, err)
	}
	return s.json(w, r, q, func(b answer.Book) (any, string, error) {
		var found indexer.Facets
		err := s.answerer.Timed("facets", func() (err error) {
			found, err = b.Facets(r.Context(), q)
			return err
		})
		facets := answer.Map(found.Facets, facetOf)
		return facetsAnswer{Query: q.Text, Counted: found.Counted, All: found.All, Facets: facets}, "", err
	})
}

func facetOf(f indexer.Facet) facet {
	return facet{string(f.Name), answer.Map(f.Values, func(v indexer.FacetValue) facetValue {
		return facetValue{Value: v.Value, Count: v.Count, CountIsFloor: v.AtLeast}
	})}
}
