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
// document describes it. It accepts only the parameters that it lists: a misspelt
// one must not be ignored, and a cache must not store one answer under a thousand
// addresses.
type endpoint struct {
	method  string // "": GET
	path    string // as OpenAPI writes it; {name} may contain slashes
	id      string // ID of the operation; unique
	summary string
	takes   []answer.Parameter // in the query
	body    any                // a zero value of the type of the JSON body; nil: none
	codes   []int              // status codes of answers that are no errors; nil: 200
	gives   any                // a zero value of the type of the JSON answer
	media   string             // media type, if not JSON
	streams bool               // whether it sends while it reads, with its own time limit
	urgent  bool               // whether the limit of changes does not apply: it takes rights away, or has its own limits
	book    bool               // whether it reads the book, so that it also takes min_version
	f       func(http.ResponseWriter, asked) error
}

// operation returns the description of e for the OpenAPI document.
func (e endpoint) operation() answer.Operation {
	return answer.Operation{
		Method: e.method, Route: answer.APIPrefix + e.path, ID: e.id, Summary: e.summary, Takes: e.takes,
		Body: e.body, Codes: e.codes, Gives: e.gives,
		Media: e.media, Book: e.book, Errors: answer.ProblemErrors,
	}
}

// serve checks the parameters and then calls f.
func (e endpoint) serve(w http.ResponseWriter, r *http.Request) error {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return answer.Invalid("the query string", "cannot be parsed: %s", err)
	}
	for name, given := range values {
		p, known := e.parameter(name)
		switch {
		case !known:
			return answer.Invalid("parameter", "%.64q is unknown: this address takes %s", name, e.names())
		case len(given) > 1:
			return answer.Invalid("parameter", "%q is given %d times: give it once", name, len(given))
		case given[0] != indexer.CleanText(given[0]) && name != "q": // a query treats them as a word
			return answer.Invalid(name, "is %.64q: write UTF-8 without NUL", given[0])
		case given[0] != "":
			if err := checkParameter(p, given[0]); err != nil {
				return err
			}
		}
	}
	return e.f(w, asked{r, values, e.body})
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

// checkParameter returns an error if the value of a parameter is invalid.
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

// orWrong writes an error of a query to the client, and returns any other error.
func orWrong(w http.ResponseWriter, err error) error {
	var wrong *query.Error
	if !errors.As(err, &wrong) {
		return err
	}
	answer.WriteQueryError(w, wrong)
	return nil
}
