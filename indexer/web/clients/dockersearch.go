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

// Ping answers what docker asks before it searches.
//
// Any answer is enough for it; only the header matters. "false" says that this
// is no standalone registry of the first protocol, whose every request carried
// Basic credentials: without it docker sends "Authorization: Basic Og==", an
// empty name and password, with a search over https by somebody who has not
// logged in (docker 20.10 to 28.5), and a shared cache must not store the
// answer to that (RFC 9111, 3.5). Somebody who has logged in still sends the
// credentials with the search; we do not read them.
func (s *Clients) Ping(w http.ResponseWriter, _ *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Docker-Registry-Standalone", "false")
	return answer.Write(w, []byte("true"))
}

// dockerSearchAnswer is the answer of GET /v1/search, as the Docker Registry
// API has it since version 1.4.
type dockerSearchAnswer struct {
	Query      string               `json:"query"`
	NumResults int                  `json:"num_results"` // of all pages
	NumPages   int                  `json:"num_pages"`   // that can be asked for
	Page       int                  `json:"page"`        // from 1
	PageSize   int                  `json:"page_size"`
	Results    []dockerSearchResult `json:"results"` // never null
	// Asked is what was asked for, if that finds nothing and Query is one like it that
	// finds something. The rest is of Query.
	Asked string `json:"asked,omitempty"`
}

// A dockerSearchResult has a bare repository name: podman puts the host before
// it, and would have it twice. StarCount must be a JSON integer, or docker and
// podman refuse the whole answer.
type dockerSearchResult struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	StarCount   int    `json:"star_count"`
	IsOfficial  bool   `json:"is_official"`
	IsAutomated bool   `json:"is_automated"`
	IsTrusted   bool   `json:"is_trusted"`
}

// What stands before the descriptions of results that were not asked for as such, since
// docker and podman show nothing else of an answer. They show 45 characters of it.
const (
	saysNear  = "Did you mean %.20s? "
	saysWords = "(Read as words.) "
)

// dockerSearch answers docker search and podman search. It refuses nothing but at=:
// to podman any refusal means to list the catalogue instead, and to say nothing.
// Where a query finds nothing, what a query like it finds is sent, and says so.
func (s *Clients) dockerSearch(w http.ResponseWriter, r *http.Request) error {
	q, page, note := dockerQuery(r)
	as := answer.Form{ContentType: "application/json", MaxAge: s.config.MaxAge}.Of(q)
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

// nearAnswer answers with what a query like q finds, nil if there is none.
func (s *Clients) nearAnswer(r *http.Request, b answer.Book, q query.Query, page int) (*dockerSearchAnswer, error) {
	text, err := b.Near(r.Context(), q)
	if err != nil || text == "" {
		return nil, err
	}
	near, err := query.Parse(text, time.Now())
	if err != nil {
		return nil, nil // ours, and no query: nothing is near
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

// dockerQuery reads q, n and page, and returns what must be said of how q was read. An
// n that is absent, no number, or less than 1 is the default: the Docker Registry API
// has it from 1 to 100, docker takes a limit of 0 for the default, and 1 result for
// somebody who asked for none, or for all, would be untrue. One that is too large is
// brought to the most: podman sends any n that its user types.
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

// dockerAnswer returns a page of what q finds, with a note before each description.
func dockerAnswer(q query.Query, page int, found indexer.Results, note string) dockerSearchAnswer {
	// We cut to n ourselves: docker prints as many as it is sent.
	items := found.Items[:min(len(found.Items), q.Limit)]
	a := dockerSearchAnswer{
		Query:      q.Text,
		NumResults: found.Total,
		// A client that asks for every page must come to an end.
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
