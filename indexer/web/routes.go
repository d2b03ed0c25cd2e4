package web

import "net/http"

// routes gives every route, in the order of doc/api.md; those below /api/v1 apart.
func (s *server) routes() (mux, api *http.ServeMux) {
	mux, api = http.NewServeMux(), http.NewServeMux()
	s.clientRoutes(mux)
	s.apiRoutes(api)
	mux.Handle("GET /v2/{name}/referrers/{digest}", s.answerer.handle(s.answerer.reading(s.clients.referrers), tellRegistry))
	if s.WebUI {
		s.pageRoutes(mux)
	} else {
		mux.Handle("GET /", s.answerer.handle(nothingHere, tellText))
	}
	handleHealth(mux, s.Ready, s.Version, s.Log)
	mux.Handle("POST /events", s.answerer.handle(s.events, tellText))
	mux.Handle("POST /assert", s.answerer.handle(s.clients.assert, tellJSON))
	return mux, api
}

func (s *server) clientRoutes(mux *http.ServeMux) {
	handle, reading, c := s.answerer.handle, s.answerer.reading, s.clients
	mux.Handle("GET /v1/_ping", handle(c.ping, tellText))
	mux.Handle("GET /v1/search", handle(reading(c.search), tellText))
	mux.Handle("GET /v0/search", handle(reading(c.packageSearch), tellJSON))
	for _, method := range []string{"GET", "POST"} {
		mux.Handle(method+" /index/static", handle(reading(c.index(false)), tellFlatpak))
		mux.Handle(method+" /index/dynamic", handle(reading(c.index(true)), tellFlatpak))
	}
}

func (s *server) apiRoutes(mux *http.ServeMux) {
	handle := s.answerer.handle
	for _, r := range s.api.routes() {
		mux.Handle("GET "+r.Path, handle(r.Serve, tellProblem))
	}
	mux.Handle("GET /api/v1/openapi.json", handle(s.api.openAPIDocument, tellProblem))
	mux.Handle("GET /api/v1", http.RedirectHandler("/api/v1/", http.StatusMovedPermanently))
	mux.Handle("GET /api/v1/{$}", handle(s.catalogue.apiPage, s.catalogue.tellPage))
	mux.Handle("/", handle(noEndpoint(mux), tellProblem))
}

func (s *server) pageRoutes(mux *http.ServeMux) {
	c := s.catalogue
	page := func(f func(http.ResponseWriter, *http.Request) error) http.Handler {
		return s.answerer.handle(f, c.tellPage)
	}
	read := func(f func(http.ResponseWriter, *http.Request) error) http.Handler {
		return page(s.answerer.reading(f))
	}
	plain := func(f func(http.ResponseWriter, *http.Request) error) http.Handler {
		return s.answerer.handle(f, tellText)
	}
	mux.Handle("GET /{$}", read(c.cataloguePage))
	mux.Handle("GET /n/{namespace}", read(c.namespacePage))
	mux.Handle("GET /r/{reference...}", read(c.referencePage))
	mux.Handle("GET /compare", read(c.comparePage))
	mux.Handle("GET /opensearch.xml", plain(c.openSearchPage))
	mux.Handle("GET /status", read(c.statusPage))
	mux.Handle("GET /settings", page(c.settingsPage))
	mux.Handle("GET /repositories", page(repositoriesPage))
	mux.Handle("GET /activity", read(c.activityPage))
	mux.Handle("GET /activity.atom", plain(s.answerer.reading(c.activityFeed)))
	mux.Handle("GET /storage", read(c.storagePage))
	mux.Handle("GET /live", plain(c.tellNews))
	mux.Handle("GET /static/{name}", plain(c.static))
	mux.Handle("GET /", page(withoutSlash(mux)))
}

func nothingHere(_ http.ResponseWriter, _ *http.Request) error {
	return errNothingHere
}

func (s *server) events(w http.ResponseWriter, r *http.Request) error {
	if s.Events == nil {
		return errNothingHere
	}
	s.Events.ServeHTTP(w, r)
	return nil
}

// noEndpoint answers what no endpoint of api takes: another method, or another
// address.
func noEndpoint(api *http.ServeMux) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		get := *r
		get.Method = http.MethodGet
		if _, pattern := api.Handler(&get); r.Method != http.MethodHead && pattern != r.Pattern {
			w.Header().Set("Allow", "GET, HEAD")
			return refuse(http.StatusMethodNotAllowed, "%.16s is not for this address: it takes GET and HEAD", r.Method)
		}
		return refuse(http.StatusNotFound, "there is no such address: /api/v1/ lists them")
	}
}
