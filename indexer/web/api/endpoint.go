package api

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

// An endpoint is one route below /api/v1, as it is served and as the OpenAPI
// document describes it. It takes the parameters that it names and no other: one
// that is misspelt must not be passed over, and a cache shall not keep an answer
// under a thousand addresses.
type endpoint struct {
	path    string // as OpenAPI writes it: {name} may hold slashes
	id      string // of the operation; unique
	summary string
	takes   []answer.Parameter // of the query
	gives   any                // a zero value of what is answered, as JSON
	media   string             // if it is not JSON
	streams bool               // whether it sends while it reads, and has a time limit of its own
	book    bool               // whether it is an answer of a state of the book, which takes min_version too
	f       func(http.ResponseWriter, asked) error
}

// operation describes e.
func (e endpoint) operation() answer.Operation {
	return answer.Operation{
		Route: answer.APIPrefix + e.path, ID: e.id, Summary: e.summary, Takes: e.takes, Gives: e.gives, Media: e.media, Book: e.book, Errors: answer.ProblemErrors,
	}
}

// serve checks the parameters before it asks f.
func (e endpoint) serve(w http.ResponseWriter, r *http.Request) error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return answer.Invalid("the query of the address", "cannot be read: %s", err)
	}
	for name, given := range values {
		p, known := e.parameter(name)
		switch {
		case !known:
			return answer.Invalid("parameter", "%.64q is none of this address: it takes %s", name, e.names())
		case len(given) > 1:
			return answer.Invalid("parameter", "%q is given %d times: give it once", name, len(given))
		case given[0] != indexer.CleanText(given[0]) && name != "q": // in a query it is a word like another
			return answer.Invalid(name, "is %.64q: it has bytes that are no text", given[0])
		case given[0] != "":
			if err := checkParameter(p, given[0]); err != nil {
				return err
			}
		}
	}
	return e.f(w, asked{r, values})
}

func (e endpoint) parameter(name string) (answer.Parameter, bool) {
	for _, p := range e.operation().Parameters() {
		if p.Name == name {
			return p, true
		}
	}
	return answer.Parameter{}, false
}

func (e endpoint) names() string {
	var names []string
	for _, p := range e.operation().Parameters() {
		names = append(names, p.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// checkParameter reports what is wrong with the value of a parameter.
func checkParameter(p answer.Parameter, value string) error {
	if p.OneOf != nil {
		for _, v := range p.OneOf {
			if v == value {
				return nil
			}
		}
		return answer.Invalid(p.Name, "is %.64q: write one of %s", value, strings.Join(p.OneOf, ", "))
	}
	if n, err := strconv.Atoi(value); p.Max > 0 && (err != nil || n < 1 || n > p.Max) {
		return answer.Invalid(p.Name, "is %.64q: write a number from 1 to %d", value, p.Max)
	}
	return nil
}

// orWrong tells an error of a query, and gives any other back.
func orWrong(w http.ResponseWriter, err error) error {
	var wrong *query.Error
	if !errors.As(err, &wrong) {
		return err
	}
	answer.TellWrong(w, wrong)
	return nil
}
