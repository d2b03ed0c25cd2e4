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

// An errorView says what did not work, and what to do about it.
type errorView struct {
	Code    int
	Problem string
	Advice  string
	Here    *choice  // what does exist of what was asked for
	Reason  string   // why a tag that is there shows nothing
	Near    []string // repositories that may have been meant
	Spaces  []string // namespaces, the same
}

// advices say what somebody can do who sees a code.
var advices = map[int]string{
	http.StatusBadRequest:          "The address is not one that this catalogue gives. Look for the name in the search above.",
	http.StatusNotFound:            "It may have been deleted, or never have been pushed here. Look for it in the search above.",
	http.StatusServiceUnavailable:  "Try again in a moment; if it stays so, the operator's log says why.",
	http.StatusInternalServerError: "The operator's log says why. Trying again may help.",
}

// failure answers with a page that says why there is no other. No cache keeps it.
func (s *Catalogue) failure(w http.ResponseWriter, code int, template string, p page) error {
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

// TellError tells an error as a page.
func (s *Catalogue) TellError(w http.ResponseWriter, code int, text string) {
	view := errorView{Code: code, Problem: text, Advice: advices[code]}
	if s.failure(w, code, "error", page{Title: http.StatusText(code), Main: view}) != nil {
		answer.TellText(w, code, text)
	}
}

// A missing is an ErrNotFound that knows what is near.
type missing struct {
	error
	view errorView
}

func (m *missing) Unwrap() error { return m.error }

// orMissing answers an error that is a missing; any other is left to the caller.
func (s *Catalogue) orMissing(w http.ResponseWriter, err error) error {
	var m *missing
	if !errors.As(err, &m) {
		return err
	}
	m.view.Code, m.view.Problem, m.view.Advice = http.StatusNotFound, answer.Told(m), advices[http.StatusNotFound]
	return s.failure(w, http.StatusNotFound, "error", page{Title: http.StatusText(http.StatusNotFound), Main: m.view})
}

// maxNear is how many names are suggested in place of one that is not there: 5.
const maxNear = 5

// nearby adds to an ErrNotFound what is near the reference that was asked for.
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

// problemOfTag says why a tag that the registry lists shows nothing, "" if it
// lists none of that name.
func problemOfTag(r *http.Request, b answer.Book, ref indexer.Reference) (string, error) {
	tags, err := b.Tags(r.Context(), ref.Repository, before(ref.Tag), 1)
	if err != nil || len(tags) == 0 || tags[0].Name != ref.Tag {
		return "", err
	}
	return tags[0].Problem, nil
}

// nearNames gives repositories that may be meant by a name: those with its
// words, or with those of its last component, as they are or mended.
func nearNames(r *http.Request, b answer.Book, name string) ([]string, error) {
	for _, text := range []string{name, path.Base(name)} {
		q := query.Plain(text)
		names, err := namesFound(r, b, q)
		if err != nil || len(names) > 0 {
			return names, err
		}
		mended, err := b.Correct(r.Context(), q)
		if err != nil {
			return nil, err
		}
		if q, err = query.Parse(mended, time.Now()); mended == "" || err != nil {
			continue
		}
		if names, err = namesFound(r, b, q); err != nil || len(names) > 0 {
			return names, err
		}
	}
	return nil, nil
}

// namesFound gives the names of the best that a query finds.
func namesFound(r *http.Request, b answer.Book, q query.Query) (names []string, err error) {
	results, err := b.Search(r.Context(), q.Page(maxNear, 0))
	for _, i := range results.Items {
		names = append(names, i.Name)
	}
	return names, err
}

// missingNamespace says that nothing is in a namespace, and which begin like it.
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
		if len(name)-end == 3 { // what differs in more letters is another word
			break
		}
	}
	return m
}
