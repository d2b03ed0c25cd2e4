package api

import (
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

type repositoriesAnswer struct {
	Repositories []string          `json:"repositories"`
	Count        *int              `json:"count,omitempty" doc:"number of repositories on all pages; absent with at, because only the page is known"`
	At           *answer.Timestamp `json:"at,omitempty" doc:"the requested time, if any"`
}

func (s *API) repositories(w http.ResponseWriter, r asked) error {
	at, err := r.at()
	if err != nil {
		return err
	}
	after, limit := r.values.Get("after"), r.number("limit", maxNames)
	return s.json(w, r, query.Query{}, func(b answer.Book) (any, string, error) {
		names, a, err := s.names(r, b, at, after, limit+1)
		if err != nil {
			return nil, "", err
		}
		next := ""
		if len(names) > limit {
			names = names[:limit]
			next = r.page("after", names[limit-1])
		}
		a.Repositories = append([]string{}, names...)
		return a, next, nil
	})
}

func (s *API) names(r asked, b answer.Book, at time.Time, after string,
	limit int) (names []string, a repositoriesAnswer, err error) {
	if !at.IsZero() {
		if err := answer.KnownAt(r.Context(), b, at); err != nil {
			return nil, a, err
		}
		a.At = &answer.Timestamp{Time: at}
		names, err = b.RepositoriesAt(r.Context(), at, after, limit)
		return names, a, err
	}
	count, err := b.CountRepositories(r.Context())
	if err != nil {
		return nil, a, err
	}
	a.Count = &count
	names, err = b.Names(r.Context(), after, limit)
	return names, a, err
}

// maxNames is the maximum and the default number of repository names in one answer:
// 10,000, so that a client without paging receives all names of all but the largest
// registries. They take 400 KB.
const maxNames = 10_000
