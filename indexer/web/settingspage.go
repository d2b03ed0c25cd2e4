package web

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/portbook/portbook/indexer/query"
)

// A settingView is a setting, as doc/configuration.md names it, or what else tells
// programs apart.
type settingView struct{ Name, Value, Meaning string }

// settingsPage tells of the configuration what anybody may know, one by one: what
// is added to it later is not told by accident. Addresses on which we listen,
// where registry and database are, and all users stay out.
func (s *server) settingsPage(w http.ResponseWriter, r *http.Request) error {
	var body bytes.Buffer
	if err := s.render(&body, "settings", page{Title: "Settings", Main: s.settings()}); err != nil {
		return err
	}
	return fixed(w, r, "text/html; charset=utf-8", cacheControl(s.MaxAgeHTML), &document{plain: body.Bytes()})
}

func (s *server) settings() []settingView {
	list := []settingView{
		{"version", orNone(s.Version), "of the program"},
		{"revision", orNone(s.Revision), "of the source that it was built from"},
		{"role", s.role(), "a writer scans and takes events, a reader answers only"},
		{"registry.public_url", s.publicAddress(), "where clients find the registry"},
		{"components.registry_proxy", yesNo(s.RegistryProxy != nil), "whether this indexer passes /v2/ on to the registry"},
		{"components.assert_endpoint", yesNo(s.AssertEndpoint), "whether integration tests may ask at /assert"},
		{"cache.max_age_index", duration(s.MaxAgeIndex), "how long a cache may keep data without asking again"},
		{"cache.max_age_html", duration(s.MaxAgeHTML), "how long it may keep pages"},
		{"log.level", orNone(s.LogLevel), "what is logged"},
	}
	if s.Writes {
		every := span(s.FetchAll)
		if s.FetchAll == 0 {
			every = "0: no scan begins by itself"
		}
		list = append(list, settingView{"interval.fetch_all", every, "how long after the beginning of a scan the next one begins"})
	}
	return list
}

func (s *server) role() string {
	if s.Writes {
		return "writer"
	}
	return "reader"
}

// publicAddress is what commands on pages say anyway.
func (s *server) publicAddress() string {
	if u, err := url.Parse(s.PublicURL); err == nil && u.Host != "" {
		return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
	}
	return "where your browser shows this page to be"
}

func orNone(text string) string {
	if text == "" {
		return "not said"
	}
	return text
}

func yesNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

func duration(d time.Duration) string {
	if d < time.Second {
		return "0 s: it asks each time"
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + " s"
}

// repositoriesPage is the list of all at the address that other catalogues have it
// at.
func repositoriesPage(w http.ResponseWriter, r *http.Request) error {
	v := url.Values{"sort": {string(query.SortName)}}
	for name, values := range r.URL.Query() {
		v[name] = values
	}
	http.Redirect(w, r, "/?"+v.Encode(), http.StatusFound)
	return nil
}

// withoutSlash sends who writes a slash at the end of a page's address to the
// page, and tells all others that nothing is there.
func withoutSlash(mux *http.ServeMux) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		path, slash := cutSlash(r.URL.Path)
		if !slash {
			return errNothingHere
		}
		asked := &http.Request{Method: r.Method, Host: r.Host, URL: &url.URL{Path: path}}
		if _, pattern := mux.Handler(asked); pattern == "" || pattern == "GET /" {
			return errNothingHere
		}
		redirectTo(w, r, path)
		return nil
	}
}

// cutSlash takes slashes off the end of a path of something.
func cutSlash(path string) (string, bool) {
	end := len(path)
	for end > 1 && path[end-1] == '/' {
		end--
	}
	return path[:end], end > 0 && end < len(path)
}

// redirectTo sends to another path of ours with the same query.
func redirectTo(w http.ResponseWriter, r *http.Request, path string) {
	http.Redirect(w, r, (&url.URL{Path: path, RawQuery: r.URL.RawQuery}).String(), http.StatusMovedPermanently)
}
