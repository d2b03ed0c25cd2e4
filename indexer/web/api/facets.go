package api

import (
	"net/http"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

type facetsAnswer struct {
	Query   string  `json:"query" doc:"as it was read"`
	Counted int     `json:"counted" doc:"repositories that were looked at: at most 500, the best of the query"`
	All     bool    `json:"all" doc:"whether those are all that the query finds; if not, every count is a lower bound"`
	Facets  []facet `json:"facets"`
}

type facet struct {
	Name   string       `json:"name" doc:"a field of the query language"`
	Values []facetValue `json:"values" doc:"most first, at most 20"`
}

type facetValue struct {
	Value string `json:"value"`
	Count int    `json:"count" doc:"repositories that the query finds with this value as one more condition"`

	CountIsFloor bool `json:"count_is_floor" doc:"whether there may be more than count: not everything was looked at"`
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
		return facetsAnswer{Query: q.Text, Counted: found.Counted, All: found.All, Facets: answer.Map(found.Facets, facetOf)}, "", err
	})
}

func facetOf(f indexer.Facet) facet {
	return facet{string(f.Name), answer.Map(f.Values, func(v indexer.FacetValue) facetValue {
		return facetValue{Value: v.Value, Count: v.Count, CountIsFloor: v.AtLeast}
	})}
}
