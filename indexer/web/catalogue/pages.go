package catalogue

import (
	"bytes"
	"io"
	"net/http"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// pageSize is how many repositories or tags a page lists: 50. In the predecessor, a
// repository of thousands of tags made pages of megabytes.
const pageSize = 50

// A page holds what the layout shows, and the content.
type page struct {
	Title   string
	Query   string // in the search box
	Login   bool   // whether people can sign in; set by render
	Account bool   // whether it is about accounts
	Main    any    // passed to the template of the page
}

// html answers with the named template, executed with the page that build returns.
func (s *Catalogue) html(w http.ResponseWriter, r *http.Request, template string,
	build func(answer.Book) (page, error)) error {
	return s.htmlAs(w, r, s.pageForm(), template, build)
}

func (s *Catalogue) pageForm() answer.Form {
	return answer.Form{ContentType: "text/html; charset=utf-8", MaxAge: s.config.MaxAge, Gzip: true}
}

func (s *Catalogue) htmlAs(w http.ResponseWriter, r *http.Request, as answer.Form, template string,
	build func(answer.Book) (page, error)) error {
	return s.answerer.Answer(w, r, as, func(b answer.Book, out io.Writer) error {
		p, err := build(b)
		if err != nil {
			return err
		}
		return s.render(out, template, p)
	})
}

// fixed answers with a page that does not depend on the book.
func (s *Catalogue) fixed(w http.ResponseWriter, r *http.Request, template string, p page) error {
	var body bytes.Buffer
	if err := s.render(&body, template, p); err != nil {
		return err
	}
	as := s.pageForm()
	return answer.Fixed(w, r, as.ContentType, answer.CacheControl(as.MaxAge), &answer.Document{Plain: body.Bytes()})
}

// Reference serves the page of a repository, or of a manifest in it.
func (s *Catalogue) Reference(w http.ResponseWriter, r *http.Request) error {
	text, slash := cutSlash(r.PathValue("reference"))
	ref, err := indexer.ParseReference(text)
	if err != nil {
		return err
	}
	if slash {
		redirectTo(w, r, "/r/"+text)
		return nil
	}
	if ref.Tag == "" && ref.Digest == "" {
		return s.orMissing(w, s.repositoryPage(w, r, ref.Repository))
	}
	return s.orMissing(w, s.manifestPage(w, r, ref))
}
