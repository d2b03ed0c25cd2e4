package web

import (
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
)

// pageSize is how many repositories or tags a page lists: 50. A repository of
// thousands of tags made pages of megabytes in the predecessor.
const pageSize = 50

// A page is what the layout shows around the content.
type page struct {
	Title string
	Query string // in the search box
	Main  any    // for the template of the page
}

// html answers with the page of the template that is named, filled by what build
// gives.
func (s *server) html(w http.ResponseWriter, r *http.Request, template string, build func(Book) (page, error)) error {
	return s.htmlAs(w, r, s.pageForm(), template, build)
}

func (s *server) pageForm() form {
	return form{contentType: "text/html; charset=utf-8", maxAge: s.MaxAgeHTML}
}

func (s *server) htmlAs(w http.ResponseWriter, r *http.Request, as form, template string, build func(Book) (page, error)) error {
	return s.answer(w, r, as, func(b Book, out io.Writer) error {
		p, err := build(b)
		if err != nil {
			return err
		}
		return s.render(out, template, p)
	})
}

// tellPage tells an error as a page.
func (s *server) tellPage(w http.ResponseWriter, code int, text string) {
	var b strings.Builder
	err := s.render(&b, "error", page{Title: http.StatusText(code), Main: text})
	if err != nil {
		tellText(w, code, text)
		return
	}
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, b.String())
}

// A catalogueView is the start page: repositories by name, or, if something was
// typed, the results of the search.
type catalogueView struct {
	Query        string
	Total        int
	Results      []indexer.Result
	Repositories []indexer.Repository
	Empty        bool   // there is nothing in the book at all
	Host         string // of commands
	Back, More   string // addresses of the pages before and after; "" if there is none
}

func (s *server) cataloguePage(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	if strings.TrimSpace(v.Get("q")) != "" {
		return s.searchPage(w, r)
	}
	after := v.Get("after")
	if after != "" && !indexer.IsRepository(after) {
		return invalid("after", "%q is no repository name", cut(after, 64))
	}
	return s.html(w, r, "catalogue", func(b Book) (page, error) {
		list, err := b.Repositories(r.Context(), after, pageSize+1)
		if err != nil {
			return page{}, err
		}
		view := catalogueView{Repositories: list, Host: s.host, Empty: after == "" && len(list) == 0}
		if after != "" {
			view.Back = "/"
		}
		if len(list) > pageSize {
			view.Repositories = list[:pageSize]
			view.More = "/?after=" + url.QueryEscape(list[pageSize-1].Name)
		}
		return page{Title: "Catalogue", Main: view}, nil
	})
}

func (s *server) searchPage(w http.ResponseWriter, r *http.Request) error {
	v := r.URL.Query()
	n := min(max(number(v.Get("page"), 1), 1), lastPage(pageSize))
	q, err := indexer.ParseQuery(v.Get("q"), time.Now())
	if err != nil {
		return err
	}
	q = q.Page(pageSize, (n-1)*pageSize)
	return s.htmlAs(w, r, s.pageForm().of(q), "catalogue", func(b Book) (page, error) {
		var found indexer.Results
		err := s.metrics.timed("page", func() (err error) {
			found, err = b.Search(r.Context(), q)
			return err
		})
		if err != nil {
			return page{}, err
		}
		view := catalogueView{Query: q.Text, Total: found.Total, Results: found.Items, Host: s.host}
		address := func(n int) string { return "/?q=" + url.QueryEscape(q.Text) + "&page=" + strconv.Itoa(n) }
		if n > 1 {
			view.Back = address(n - 1)
		}
		if n*pageSize < found.Total && n < lastPage(pageSize) {
			view.More = address(n + 1)
		}
		return page{Title: "Search", Query: q.Text, Main: view}, nil
	})
}

// referencePage shows a repository, or a manifest in it.
func (s *server) referencePage(w http.ResponseWriter, r *http.Request) error {
	ref, err := indexer.ParseReference(r.PathValue("reference"))
	if err != nil {
		return err
	}
	if ref.Tag == "" && ref.Digest == "" {
		return s.repositoryPage(w, r, ref.Repository)
	}
	return s.manifestPage(w, r, ref)
}

type repositoryView struct {
	indexer.Repository
	TagList    []indexer.Tag
	Pull       string
	Back, More string
}

func (s *server) repositoryPage(w http.ResponseWriter, r *http.Request, name string) error {
	after := r.URL.Query().Get("after")
	if after != "" && !indexer.IsTag(after) {
		return invalid("after", "%q is no tag", cut(after, 64))
	}
	return s.html(w, r, "repository", func(b Book) (page, error) {
		repository, err := b.Repository(r.Context(), name)
		if err != nil {
			return page{}, err
		}
		list, err := b.Tags(r.Context(), name, after, pageSize+1)
		if err != nil {
			return page{}, err
		}
		view := repositoryView{Repository: repository, TagList: list, Pull: s.host + "/" + name}
		if after != "" {
			view.Back = "/r/" + name
		}
		if len(list) > pageSize {
			view.TagList = list[:pageSize]
			view.More = "/r/" + name + "?after=" + url.QueryEscape(list[pageSize-1].Name)
		}
		return page{Title: name, Main: view}, nil
	})
}

// publicHost is the host that pull commands name. Without one in the
// configuration it is a word to be replaced: the Host of a request would be
// right for that client only, and the page is for every client of a cache.
func publicHost(publicURL string) string {
	if u, err := url.Parse(publicURL); err == nil && u.Host != "" {
		return u.Host
	}
	return "HOST"
}
