package web

import (
	"net/http"

	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/catalogue"
	"github.com/portbook/portbook/indexer/web/clients"
)

// routes gives every route, in the order of doc/api.md; those below /api/v1 apart.
func (s *server) routes() (mux, api *http.ServeMux) {
	mux, api = http.NewServeMux(), http.NewServeMux()
	s.clientRoutes(mux)
	s.apiRoutes(api)
	mux.Handle("GET /v2/{name}/referrers/{digest}", s.answerer.Handle(s.answerer.Reading(s.clients.Referrers), answer.TellRegistry))
	if s.WebUI {
		s.pageRoutes(mux)
	} else {
		mux.Handle("GET /", s.answerer.Handle(nothingHere, answer.TellText))
	}
	handleHealth(mux, s.Ready, s.Version, s.Log)
	mux.Handle("POST /events", s.answerer.Handle(s.events, answer.TellText))
	mux.Handle("POST /assert", s.answerer.Handle(s.clients.Assert, answer.TellJSON))
	return mux, api
}

func (s *server) clientRoutes(mux *http.ServeMux) {
	handle, reading, c := s.answerer.Handle, s.answerer.Reading, s.clients
	mux.Handle("GET /v1/_ping", handle(c.Ping, answer.TellText))
	mux.Handle("GET /v1/search", handle(reading(c.Search), answer.TellText))
	mux.Handle("GET /v0/search", handle(reading(c.PackageSearch), answer.TellJSON))
	for _, method := range []string{"GET", "POST"} {
		mux.Handle(method+" /index/static", handle(reading(c.Index(false)), clients.TellFlatpak))
		mux.Handle(method+" /index/dynamic", handle(reading(c.Index(true)), clients.TellFlatpak))
	}
}

func (s *server) apiRoutes(mux *http.ServeMux) {
	handle := s.answerer.Handle
	for _, r := range s.api.Routes() {
		mux.Handle("GET "+r.Path, handle(r.Serve, answer.TellProblem))
	}
	mux.Handle("GET /api/v1/openapi.json", handle(s.api.OpenAPI, answer.TellProblem))
	mux.Handle("GET /api/v1", http.RedirectHandler("/api/v1/", http.StatusMovedPermanently))
	mux.Handle("GET /api/v1/{$}", handle(s.catalogue.API, s.catalogue.TellError))
	mux.Handle("/", handle(noEndpoint(mux), answer.TellProblem))
}

func (s *server) pageRoutes(mux *http.ServeMux) {
	c := s.catalogue
	page := func(f func(http.ResponseWriter, *http.Request) error) http.Handler {
		return s.answerer.Handle(f, c.TellError)
	}
	read := func(f func(http.ResponseWriter, *http.Request) error) http.Handler {
		return page(s.answerer.Reading(f))
	}
	plain := func(f func(http.ResponseWriter, *http.Request) error) http.Handler {
		return s.answerer.Handle(f, answer.TellText)
	}
	mux.Handle("GET /{$}", read(c.List))
	mux.Handle("GET /n/{namespace}", read(c.Namespace))
	mux.Handle("GET /r/{reference...}", read(c.Reference))
	mux.Handle("GET /compare", read(c.Compare))
	mux.Handle("GET /opensearch.xml", plain(c.OpenSearch))
	mux.Handle("GET /status", read(c.Status))
	mux.Handle("GET /settings", page(c.Settings))
	mux.Handle("GET /repositories", page(catalogue.Repositories))
	mux.Handle("GET /activity", read(c.Activity))
	mux.Handle("GET /activity.atom", plain(s.answerer.Reading(c.ActivityFeed)))
	mux.Handle("GET /storage", read(c.Storage))
	mux.Handle("GET /live", plain(c.Live))
	mux.Handle("GET /static/{name}", plain(c.Static))
	mux.Handle("GET /", page(catalogue.WithoutSlash(mux)))
}

func nothingHere(_ http.ResponseWriter, _ *http.Request) error {
	return answer.ErrNothingHere
}

func (s *server) events(w http.ResponseWriter, r *http.Request) error {
	if s.Events == nil {
		return answer.ErrNothingHere
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
			return answer.Refuse(http.StatusMethodNotAllowed, "%.16s is not for this address: it takes GET and HEAD", r.Method)
		}
		return answer.Refuse(http.StatusNotFound, "there is no such address: /api/v1/ lists them")
	}
}
