package web

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/portbook/portbook/indexer/web/answer"
)

// withAPI passes requests below /api/v1 to api, and all others to others.
func withAPI(api, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == answer.APIPrefix || strings.HasPrefix(r.URL.Path, answer.APIPrefix+"/") {
			api.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}

// withManagement passes requests below /internal, and those below /api that are not below
// /api/v1, to management, and all others to others.
func withManagement(management, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		ours := path == answer.APIPrefix || strings.HasPrefix(path, answer.APIPrefix+"/")
		if !ours && strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/internal/") {
			management.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}

var (
	// repositoryPath captures the name of a repository and the rest of the path. No
	// name has a component "-" (distribution-spec 1.1, "Pulling manifests").
	repositoryPath = regexp.MustCompile(`^(/api/v1/repositories/)(.+?)(/-/.*)?$`)
	referrersPath  = regexp.MustCompile(`^(/v2/)(.+)(/referrers/[^/]*)$`)
	// No component of a name begins with an underscore.
	extensionPath = regexp.MustCompile(`^(/v2/)(.+)(/_oci/(?:tags|tag-history/[^/]*))$`)
)

func asksReferrers(r *http.Request) bool { return referrersPath.MatchString(r.URL.Path) }

// asksExtension reports whether a request is for an extension that the registry does not have.
func asksExtension(r *http.Request) bool {
	return r.URL.Path == "/v2/_oci/ext/discover" || extensionPath.MatchString(r.URL.Path)
}

// withNames makes the name of a repository one segment of the path, because the
// wildcards of ServeMux match segments: /team/app becomes /team%2Fapp, which is also
// what clients generated from the OpenAPI document send.
func withNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, form := range []*regexp.Regexp{repositoryPath, referrersPath, extensionPath} {
			if part := form.FindStringSubmatch(r.URL.Path); part != nil {
				u := *r.URL
				u.RawPath = part[1] + url.PathEscape(part[2]) + (&url.URL{Path: part[3]}).EscapedPath()
				r.URL = &u
			}
		}
		next.ServeHTTP(w, r)
	})
}
