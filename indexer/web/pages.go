package web

import (
	"io"
	"net/http"
	"net/url"
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
	return form{contentType: "text/html; charset=utf-8", maxAge: s.MaxAgeHTML, gzip: true}
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

// referencePage shows a repository, or a manifest in it.
func (s *server) referencePage(w http.ResponseWriter, r *http.Request) error {
	ref, err := indexer.ParseReference(r.PathValue("reference"))
	if err != nil {
		return err
	}
	if ref.Tag == "" && ref.Digest == "" {
		return s.orMissing(w, s.repositoryPage(w, r, ref.Repository))
	}
	return s.orMissing(w, s.manifestPage(w, r, ref))
}

type statusView struct {
	indexer.Status
	Scans []scanView
}

type scanView struct {
	What string
	*indexer.Scan
}

// statusPage is the one page that no version of the catalogue stands for: tasks
// come and go while nothing changes that a reader sees elsewhere. So it has no
// ETag and is not stored.
func (s *server) statusPage(w http.ResponseWriter, r *http.Request) error {
	var status indexer.Status
	var fresh indexer.Freshness
	err := s.readSince(r, func(b Book, f indexer.Freshness) (err error) {
		fresh = f
		status, err = b.Status(r.Context())
		return err
	})
	if err != nil {
		return err
	}
	tellFreshness(w.Header(), fresh)
	status.OldestDue = status.OldestDue.Round(time.Second)
	var body strings.Builder
	view := statusView{Status: status, Scans: []scanView{{"Last scan", status.LastScan}, {"Running scan", status.Running}}}
	if err := s.render(&body, "status", page{Title: "Status", Main: view}); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	return write(w, []byte(body.String()))
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
