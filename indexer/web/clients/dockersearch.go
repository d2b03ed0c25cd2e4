package clients

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

// Ping answers the request that docker sends before it searches.
//
// Docker accepts any answer; only the header matters. "false" says that this is not a
// standalone registry of the first protocol, where every request carried Basic
// credentials. Without the header, docker 20.10 to 28.5 sends "Authorization: Basic
// Og==", an empty name and password, with a search over https by a user who has not
// logged in, and a shared cache must not store the answer to that (RFC 9111, 3.5). For
// a user who has logged in, docker still sends the credentials with the search.
func (s *Clients) Ping(w http.ResponseWriter, _ *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Docker-Registry-Standalone", "false")
	return answer.Write(w, []byte("true"))
}

// dockerSearchAnswer is the answer of GET /v1/search, as in the Docker Registry API
// since version 1.4.
type dockerSearchAnswer struct {
	Query      string               `json:"query"`
	NumResults int                  `json:"num_results"` // on all pages
	NumPages   int                  `json:"num_pages"`   // that can be requested
	Page       int                  `json:"page"`        // from 1
	PageSize   int                  `json:"page_size"`
	Results    []dockerSearchResult `json:"results"` // never null
	// Asked is the original query if it finds nothing; Query is then a similar query
	// that finds something, and the other fields are about Query.
	Asked string `json:"asked,omitempty"`
}

// A dockerSearchResult has the repository name without a host: podman adds the host and
// would show it twice. StarCount must be a JSON integer, or docker and podman refuse
// the whole answer.
type dockerSearchResult struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	StarCount   int    `json:"star_count"`
	IsOfficial  bool   `json:"is_official"`
	IsAutomated bool   `json:"is_automated"`
	IsTrusted   bool   `json:"is_trusted"`
}

// Notes before the descriptions of results for another query than the user's. docker
// and podman show nothing else of an answer, and 45 characters of a description.
const (
	saysNear  = "Did you mean %.20s? "
	saysWords = "(Read as words.) "
)

// dockerSearch serves docker search and podman search. It refuses only requests with
// at=: after any refusal podman silently lists the catalogue instead. If a query finds
// nothing, the results of a similar query are sent, with a note.
func (s *Clients) dockerSearch(w http.ResponseWriter, r *http.Request) error {
	q, page, note := dockerQuery(r)
	as := answer.Form{ContentType: "application/json", MaxAge: s.config.MaxAge, ByAgent: s.config.Logins}.Of(q)
	return s.answerer.Answer(w, r, as, func(b answer.Book, out io.Writer) error {
		var found indexer.Results
		err := s.answerer.Timed("docker", func() (err error) {
			found, err = b.Search(r.Context(), q)
			return err
		})
		if err != nil {
			return err
		}
		a := dockerAnswer(q, page, found, note)
		if found.Total == 0 && len(q.Clauses) > 0 {
			near, err := s.nearAnswer(r, b, q, page)
			if err != nil {
				return err
			}
			if near != nil {
				a = *near
			}
		}
		return json.NewEncoder(out).Encode(a)
	})
}

// nearAnswer returns the results of a query similar to q, nil if there are none.
func (s *Clients) nearAnswer(r *http.Request, b answer.Book, q query.Query, page int) (*dockerSearchAnswer, error) {
	text, err := b.Near(r.Context(), q)
	if err != nil || text == "" {
		return nil, err
	}
	near, err := query.Parse(text, time.Now())
	if err != nil {
		return nil, nil // we made it, but it does not parse: there is no similar query
	}
	near = near.Page(q.Limit, q.Offset)
	found, err := b.Search(r.Context(), near)
	if err != nil || found.Total == 0 {
		return nil, err
	}
	a := dockerAnswer(near, page, found, fmt.Sprintf(saysNear, near.Text))
	a.Asked = q.Text
	return &a, nil
}

// dockerQuery reads q, n and page, and returns a note if q was read as words. If n is
// absent, not a number, or less than 1, the default is used: the Docker Registry API
// allows 1 to 100, docker treats a limit of 0 as the default, and 1 result would be
// wrong for a user who asked for none or for all. A larger n is reduced to the maximum:
// podman sends any n that its user types.
func dockerQuery(r *http.Request) (q query.Query, page int, note string) {
	v := r.URL.Query()
	n := min(answer.Number(v.Get("n"), answer.DefaultPage), query.MaxPage)
	if n < 1 {
		n = answer.DefaultPage
	}
	page = min(max(answer.Number(v.Get("page"), 1), 1), answer.LastPage(n))
	q, err := query.Parse(v.Get("q"), time.Now())
	if err != nil {
		q, note = query.Plain(v.Get("q")), saysWords
	}
	return q.Page(n, (page-1)*n), page, note
}

// dockerAnswer returns a page of results of q, with note before each description.
func dockerAnswer(q query.Query, page int, found indexer.Results, note string) dockerSearchAnswer {
	// We cut the list to n: docker prints all results it receives.
	items := found.Items[:min(len(found.Items), q.Limit)]
	a := dockerSearchAnswer{
		Query:      q.Text,
		NumResults: found.Total,
		// Bounded, so that a client that requests every page comes to an end.
		NumPages: min((found.Total+q.Limit-1)/q.Limit, answer.LastPage(q.Limit)),
		Page:     page,
		PageSize: q.Limit,
		Results:  make([]dockerSearchResult, len(items)),
	}
	for i, item := range items {
		a.Results[i] = dockerSearchResult{
			Name:        item.Name,
			Description: answer.OneLine(note+item.Description, answer.MaxDescription),
			StarCount:   item.Stars,
			IsOfficial:  item.Official,
		}
	}
	return a
}
