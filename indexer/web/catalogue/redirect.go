package catalogue

import (
	"net/http"
	"net/url"

	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

// Repositories is the list of all at the address that other catalogues have it
// at.
func Repositories(w http.ResponseWriter, r *http.Request) error {
	v := url.Values{"sort": {string(query.SortName)}}
	for name, values := range r.URL.Query() {
		v[name] = values
	}
	http.Redirect(w, r, "/?"+v.Encode(), http.StatusFound)
	return nil
}

// WithoutSlash sends who writes a slash at the end of a page's address to the
// page, and tells all others that nothing is there.
func WithoutSlash(mux *http.ServeMux) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		path, slash := cutSlash(r.URL.Path)
		if !slash {
			return answer.ErrNothingHere
		}
		asked := &http.Request{Method: r.Method, Host: r.Host, URL: &url.URL{Path: path}}
		if _, pattern := mux.Handler(asked); pattern == "" || pattern == "GET /" {
			return answer.ErrNothingHere
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
