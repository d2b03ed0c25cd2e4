package catalogue

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

// A past says on a page that it shows the past.
type past struct {
	At  time.Time
	Now string // the address of the present
}

// address returns the address of a path at the time of p.
func (p past) address(path string, more url.Values) string {
	v := url.Values{"at": {p.At.Format(time.RFC3339Nano)}}
	for name, values := range more {
		if values[0] != "" {
			v[name] = values
		}
	}
	return path + "?" + v.Encode()
}

// Of returns the address of a repository, or of a tag in it, at the time of p.
func (p past) Of(repository, tag string) string {
	if tag != "" {
		repository += ":" + tag
	}
	return p.address("/r/"+repository, nil)
}

// A pastListView lists repositories as they were.
type pastListView struct {
	past
	Query      string
	Results    []indexer.PastRepository
	Incomplete bool
	Back, More string
	Ended      bool // whether the page ended early: there may be results on the next one
}

// listAt serves the repositories that a query found at a time, by name.
func (s *Catalogue) listAt(w http.ResponseWriter, r *http.Request, text, when string) error {
	at, err := answer.ParsePageAt(when)
	if err != nil {
		return err
	}
	q, err := query.Parse(text, at) // ages are those of then
	var wrong *query.Error
	if errors.As(err, &wrong) {
		return s.wrongQuery(w, text, wrong)
	}
	if err != nil {
		return err
	}
	after := r.URL.Query().Get("after")
	if after != "" && !indexer.IsRepository(after) {
		return answer.Invalid("after", "is %.64q, which is not a repository name", after)
	}
	q = q.Page(pageSize, 0)
	q.Sort, q.After = query.SortName, after
	return s.htmlAs(w, r, s.pageForm().Of(q), "pastlist", func(b answer.Book) (page, error) {
		if err := answer.KnownAt(r.Context(), b, at); err != nil {
			return page{}, err
		}
		found, err := b.SearchAt(r.Context(), q, at)
		view := pastListView{past: past{at, listing{path: "/"}.with(q.Text, "", 1, "")}, Query: q.Text,
			Results: found.Items, Incomplete: found.Incomplete, Ended: len(found.Items) < q.Limit}
		if found.Next != "" {
			view.More = view.address("/", url.Values{"q": {q.Text}, "after": {found.Next}})
		}
		if after != "" {
			view.Back = view.address("/", url.Values{"q": {q.Text}})
		}
		return page{Title: "The past", Query: q.Text, Main: view}, err
	})
}

// A pastRepositoryView is a repository as it was.
type pastRepositoryView struct {
	indexer.PastRepository
	past
	Space      string
	TagList    []indexer.Tag
	Filter     string
	Back, More string
}

// repositoryAt serves a repository as it was at a time, with its tags in bytewise order.
func (s *Catalogue) repositoryAt(w http.ResponseWriter, r *http.Request, name string, filter tagFilter,
	when string) error {
	at, err := answer.ParsePageAt(when)
	switch {
	case err != nil:
		return err
	case filter.Platform != "":
		return answer.Invalid("platform", "cannot be filtered in the past: leave it out")
	}
	return s.html(w, r, "pastrepository", func(b answer.Book) (page, error) {
		view := pastRepositoryView{past: past{at, "/r/" + name}, Filter: filter.Tag}
		view.Space = indexer.Repository{Name: name}.Namespace()
		err := answer.KnownAt(r.Context(), b, at)
		if err != nil {
			return page{}, err
		}
		view.PastRepository, err = b.RepositoryAt(r.Context(), name, at)
		if errors.Is(err, indexer.ErrNotFound) {
			return page{}, answer.Refuse(http.StatusNotFound,
				"there was no repository %q with a tag at %s, as far as the history of tags shows", name, at.Format(time.RFC3339))
		}
		if err != nil {
			return page{}, err
		}
		return page{Title: name, Main: &view}, view.readTags(r, b, filter)
	})
}

// readTags reads a page of the tags that begin with the filter.
func (v *pastRepositoryView) readTags(r *http.Request, b answer.Book, filter tagFilter) error {
	if filter.Tag != "" && !indexer.IsTag(filter.Tag) {
		return nil // no tag begins with it
	}
	list, err := b.TagsAt(r.Context(), v.Name, v.At, "", max(filter.After, indexer.TextBefore(filter.Tag)), pageSize+1)
	if filter.After != "" {
		v.Back = v.address("/r/"+v.Name, url.Values{"tag": {filter.Tag}})
	}
	for i, t := range list {
		if !strings.HasPrefix(t.Name, filter.Tag) {
			list = list[:i]
			break
		}
	}
	if len(list) > pageSize {
		list = list[:pageSize]
		v.More = v.address("/r/"+v.Name, url.Values{"tag": {filter.Tag}, "after": {list[pageSize-1].Name}})
	}
	v.TagList = list
	return err
}

// A pastManifestView is a manifest that a tag showed.
type pastManifestView struct {
	indexer.Manifest
	past
	Asked indexer.Reference
	What  string
	Space string
	Tags  []string // that showed it then
	Moves []indexer.Move
}

// manifestAt serves what a tag or digest named at a time. The manifest itself never changes,
// so the page leads to that of its digest.
func (s *Catalogue) manifestAt(w http.ResponseWriter, r *http.Request, ref indexer.Reference, when string) error {
	at, err := answer.ParsePageAt(when)
	if err != nil {
		return err
	}
	return s.html(w, r, "pastmanifest", func(b answer.Book) (page, error) {
		m, tags, err := answer.ManifestAt(r.Context(), b, ref, at)
		if err != nil {
			return page{}, err
		}
		view := pastManifestView{Manifest: m, past: past{at, "/r/" + ref.String()}, Asked: ref, What: kindName(m),
			Space: indexer.Repository{Name: ref.Repository}.Namespace(), Tags: tags}
		if ref.Tag != "" {
			end, err := b.HistoryAt(r.Context(), at)
			if err != nil {
				return page{}, err
			}
			if view.Moves, err = b.History(r.Context(), ref.Repository, ref.Tag, end, maxMoves); err != nil {
				return page{}, err
			}
		}
		return page{Title: ref.String(), Main: view}, nil
	})
}
