package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

// An asked is a request with checked parameters.
type asked struct {
	*http.Request
	values url.Values
	body   any // a zero value of the type of the body; nil: none
}

// number returns a numeric parameter, or standard if it is absent.
func (r asked) number(name string, standard int) int {
	return answer.Number(r.values.Get(name), standard)
}

// query parses the parameter q. Its error is a *query.Error.
func (r asked) query() (query.Query, error) {
	return query.Parse(r.values.Get("q"), time.Now())
}

// at returns the time from the parameter at, zero for now.
func (r asked) at() (time.Time, error) { return answer.ParseAt(r.values.Get("at")) }

// repository returns the repository name in the path.
func (r asked) repository() (string, error) {
	name := r.PathValue("name")
	if !indexer.IsRepository(name) {
		return "", indexer.InvalidRepository(name)
	}
	return name, nil
}

// reference returns the name and the tag or digest in the path.
func (r asked) reference() (ref indexer.Reference, err error) {
	if ref.Repository, err = r.repository(); err != nil {
		return ref, err
	}
	which, err := indexer.ParseTagOrDigest(r.PathValue("reference"))
	return which.In(ref.Repository), err
}

// digest returns the digest in the path.
func (r asked) digest() (digest.Digest, error) { return indexer.ParseDigest(r.PathValue("digest")) }

// page returns the address of r with one parameter changed, for the next page.
func (r asked) page(name, value string) string {
	next := url.Values{}
	for k, v := range r.values {
		if k != "min_version" { // not needed: the next page has the same or a later state
			next[k] = v
		}
	}
	next.Set(name, value)
	return r.URL.EscapedPath() + "?" + next.Encode()
}

// json answers with the result of build. next is the address of the next page, for
// the Link field; "" if there is none.
func (s *API) json(w http.ResponseWriter, r asked, q query.Query,
	build func(answer.Book) (content any, next string, err error)) error {
	as := s.jsonForm().Of(q)
	return s.jsonAs(w, r, &as, build)
}

func (s *API) jsonForm() answer.Form {
	return answer.Form{ContentType: "application/json", MaxAge: s.config.MaxAge, Gzip: true}
}

// jsonAs is json with a form that build may change.
func (s *API) jsonAs(w http.ResponseWriter, r asked, as *answer.Form,
	build func(answer.Book) (content any, next string, err error)) error {
	var next string
	as.Headers = func(h http.Header) {
		if next != "" {
			h.Set("Link", "<"+next+`>; rel="next"`)
		}
	}
	return s.answerer.AnswerAs(w, r.Request, as, func(b answer.Book, out io.Writer) (err error) {
		var content any
		if content, next, err = build(b); err != nil {
			return err
		}
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false) // the answer is never HTML
		return e.Encode(content)
	})
}
