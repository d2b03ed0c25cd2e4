package catalogue

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

// An errorView says what failed and what to do about it.
type errorView struct {
	Code    int
	Problem string
	Advice  string
	Request string   // the id by which the operator finds the request in the log
	Here    *choice  // the part of the request that exists
	Reason  string   // why an existing tag shows nothing
	Near    []string // repositories that may have been meant
	Spaces  []string // namespaces that may have been meant
}

// advices say what a user can do about a status code.
var advices = map[int]string{
	http.StatusBadRequest:          "This address is not valid. Use the search box above.",
	http.StatusNotFound:            "It may have been deleted, or it was never pushed here. Use the search box above.",
	http.StatusForbidden:           "An administrator can grant you more.",
	http.StatusConflict:            "Go back, and choose something else.",
	http.StatusServiceUnavailable:  "Try again in a moment. If the problem persists, the operator's log has the cause.",
	http.StatusInternalServerError: "Trying again may help. The operator's log has the cause.",
}

// unstored answers with a page that no cache stores.
func (s *Catalogue) unstored(w http.ResponseWriter, code int, template string, p page) error {
	var b strings.Builder
	if err := s.render(&b, template, p); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if code == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write([]byte(b.String()))
	return nil
}

// loginAdvice says how to log in.
func (s *Catalogue) loginAdvice() string {
	if s.config.Login != nil && s.config.Login.Accounts != nil {
		return "Sign in at /account. A program sends a name with a password or a token."
	}
	return "Send a token, as the password of any name."
}

// WriteErrorPage shows an error as a page.
func (s *Catalogue) WriteErrorPage(w http.ResponseWriter, code int, text string) {
	view := errorView{Code: code, Problem: text, Advice: advices[code]}
	if code == http.StatusUnauthorized {
		view.Advice = s.loginAdvice()
	}
	if code >= http.StatusInternalServerError {
		view.Request = w.Header().Get(answer.RequestField)
	}
	if s.unstored(w, code, "error", page{Title: http.StatusText(code), Main: view}) != nil {
		answer.WriteErrorText(w, code, text)
	}
}

// A missing is an ErrNotFound with suggestions.
type missing struct {
	error
	view errorView
}

func (m *missing) Unwrap() error { return m.error }

// orMissing answers an error that is a missing and returns any other error.
func (s *Catalogue) orMissing(w http.ResponseWriter, err error) error {
	var m *missing
	if !errors.As(err, &m) {
		return err
	}
	m.view.Code, m.view.Problem, m.view.Advice = http.StatusNotFound, answer.ErrorText(m), advices[http.StatusNotFound]
	return s.unstored(w, http.StatusNotFound, "error", page{Title: http.StatusText(http.StatusNotFound), Main: m.view})
}

// maxNear is how many names are suggested for one that does not exist: 5.
const maxNear = 5

// nearby adds suggestions for ref to an ErrNotFound.
func nearby(r *http.Request, b answer.Book, ref indexer.Reference, err error) error {
	if !errors.Is(err, indexer.ErrNotFound) {
		return err
	}
	m := &missing{error: err}
	if ref.Tag != "" || ref.Digest != "" {
		_, err := b.Repository(r.Context(), ref.Repository)
		if err == nil {
			m.view.Here = &choice{Text: ref.Repository, Address: "/r/" + ref.Repository}
			if m.view.Reason, err = problemOfTag(r, b, ref); err != nil {
				return err
			}
			return m
		}
		if !errors.Is(err, indexer.ErrNotFound) {
			return err
		}
	}
	if m.view.Near, err = nearNames(r, b, ref.Repository); err != nil {
		return err
	}
	return m
}

// problemOfTag returns why a tag that the registry lists shows nothing, "" if it lists
// no such tag.
func problemOfTag(r *http.Request, b answer.Book, ref indexer.Reference) (string, error) {
	tags, err := b.Tags(r.Context(), ref.Repository, indexer.TextBefore(ref.Tag), 1)
	if err != nil || len(tags) == 0 || tags[0].Name != ref.Tag {
		return "", err
	}
	return tags[0].Problem, nil
}

// nearNames returns repositories that may be meant by a name: those with its words, or
// with the words of its last component, as written or corrected.
func nearNames(r *http.Request, b answer.Book, name string) ([]string, error) {
	for _, text := range []string{name, path.Base(name)} {
		q := query.Plain(text)
		names, err := namesFound(r, b, q)
		if err != nil || len(names) > 0 {
			return names, err
		}
		corrected, err := b.Correct(r.Context(), q)
		if err != nil {
			return nil, err
		}
		if q, err = query.Parse(corrected, time.Now()); corrected == "" || err != nil {
			continue
		}
		if names, err = namesFound(r, b, q); err != nil || len(names) > 0 {
			return names, err
		}
	}
	return nil, nil
}

// namesFound returns the names of the best matches of a query.
func namesFound(r *http.Request, b answer.Book, q query.Query) (names []string, err error) {
	results, err := b.Search(r.Context(), q.Page(maxNear, 0))
	for _, i := range results.Items {
		names = append(names, i.Name)
	}
	return names, err
}

// missingNamespace returns an ErrNotFound that suggests namespaces with a similar
// beginning.
func missingNamespace(r *http.Request, b answer.Book, name string) error {
	m := &missing{error: fmt.Errorf("namespace %q: %w", name, indexer.ErrNotFound)}
	for end := len(name); end > 0 && len(m.view.Spaces) == 0; end-- {
		suggestions, err := b.Suggest(r.Context(), "namespace:"+name[:end], maxNear)
		if err != nil {
			return err
		}
		for _, s := range suggestions {
			m.view.Spaces = append(m.view.Spaces, s.Name)
		}
		if len(name)-end == 3 { // names that differ in more letters are not similar
			break
		}
	}
	return m
}
