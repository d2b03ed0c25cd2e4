package catalogue

import (
	"net/http"
	"net/url"

	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
)

// Repositories redirects to the list of all repositories from the address that other
// catalogues use for it.
func Repositories(w http.ResponseWriter, r *http.Request) error {
	v := url.Values{"sort": {string(query.SortName)}}
	for name, values := range r.URL.Query() {
		v[name] = values
	}
	http.Redirect(w, r, "/?"+v.Encode(), http.StatusFound)
	return nil
}

// WithoutSlash redirects the address of a page with a slash at the end to the page, and
// returns answer.ErrNothingHere for all other addresses.
func WithoutSlash(mux *http.ServeMux) answer.HandlerFunc {
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

// cutSlash removes slashes from the end of a path other than "/".
func cutSlash(path string) (string, bool) {
	end := len(path)
	for end > 1 && path[end-1] == '/' {
		end--
	}
	return path[:end], end > 0 && end < len(path)
}

// redirectTo redirects to another of our paths with the same query.
func redirectTo(w http.ResponseWriter, r *http.Request, path string) {
	http.Redirect(w, r, (&url.URL{Path: path, RawQuery: r.URL.RawQuery}).String(), http.StatusMovedPermanently)
}
