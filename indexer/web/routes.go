package web

import (
	"net/http"
	"strings"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/catalogue"
	"github.com/portbook/portbook/indexer/web/clients"
	"github.com/portbook/portbook/indexer/web/login"
)

// A mux is a ServeMux that records its patterns.
type mux struct {
	serve    http.ServeMux
	patterns []string // in the order of Handle
}

// Handle registers h for a pattern.
func (m *mux) Handle(pattern string, h http.Handler) {
	m.patterns = append(m.patterns, pattern)
	m.serve.Handle(pattern, h)
}

// routes returns all routes, in the order of doc/api.md; those below /api/v1 have
// their own mux.
func (s *server) routes() (pages, api *mux) {
	pages, api = &mux{}, &mux{}
	s.clientRoutes(pages)
	s.apiRoutes(api)
	s.registryRoutes(pages)
	if s.WebUI {
		s.pageRoutes(pages)
	} else {
		pages.Handle("GET /", s.answerer.Handle(nothingHere, answer.WriteErrorText))
	}
	handleHealth(pages, s.Ready, s.Version, s.Log)
	pages.Handle("POST /events", s.answerer.Handle(s.events, answer.WriteErrorText))
	pages.Handle("POST /assert", s.answerer.Handle(s.clients.Assert, answer.WriteErrorJSON))
	return pages, api
}

// managementRoutes are the management API and the jobs of the registry of Deploys.app. They have
// their own mux, because net/http answers other methods and paths as clients know it.
func (s *server) managementRoutes() *mux {
	m := &mux{}
	for _, r := range append(s.clients.Management(), s.clients.Internal()...) {
		m.Handle(r.Pattern, r.Handler)
	}
	return m
}

// registryRoutes are the parts of the registry's API that the registry does not have, or
// cannot restrict to what a client may see.
func (s *server) registryRoutes(m *mux) {
	handle := func(pattern string, needs func(*http.Request) access.Access, f answer.HandlerFunc) {
		if s.Login != nil && s.Login.Signer != nil {
			f = s.Login.Requires(needs, f)
		}
		m.Handle(pattern, s.answerer.Handle(s.answerer.Reading(f), answer.WriteErrorRegistry))
	}
	handle("GET /v2/{name}/referrers/{digest}", login.Pull, s.clients.Referrers)
	if s.ExperimentalOCI {
		handle("GET /v2/{name}/_oci/tags", login.Pull, s.clients.ExtensionTags)
		handle("GET /v2/{name}/_oci/tag-history/{tag}", login.Pull, s.clients.ExtensionHistory)
		m.Handle("GET /v2/_oci/ext/discover", s.answerer.Handle(s.clients.ExtensionDiscover, answer.WriteErrorRegistry))
	}
	if s.Protection.Keeper != nil {
		m.Handle("GET /v2-allowed", s.answerer.Handle(s.protector.allowed, answer.WriteErrorRegistry))
	}
	if s.Login == nil || s.Login.Signer == nil {
		return
	}
	handle("GET /v2/_catalog", login.Catalogue, s.clients.Catalog)
	for _, method := range []string{"GET", "POST"} {
		m.Handle(method+" /auth/token", s.answerer.Handle(s.answerer.Reading(s.Login.Token), answer.WriteErrorRegistry))
	}
}

func (s *server) clientRoutes(m *mux) {
	handle, reading, c := s.answerer.Handle, s.answerer.Reading, s.clients
	m.Handle("GET /v1/_ping", handle(c.Ping, answer.WriteErrorText))
	search := reading(c.Search)
	if s.Login != nil && s.Login.Signer != nil {
		search = s.Login.Searches(search)
	}
	m.Handle("GET /v1/search", handle(search, answer.WriteErrorText))
	m.Handle("GET /v0/search", handle(reading(c.PackageSearch), answer.WriteErrorJSON))
	for _, route := range c.PackageRoutes() {
		f := route.Serve
		if route.Reads {
			f = reading(f)
		}
		m.Handle(route.Pattern, handle(f, clients.WriteErrorPackage))
	}
	for _, method := range []string{"GET", "POST"} {
		m.Handle(method+" /index/static", handle(reading(c.Index(false)), clients.WriteErrorFlatpak))
		m.Handle(method+" /index/dynamic", handle(reading(c.Index(true)), clients.WriteErrorFlatpak))
	}
}

func (s *server) apiRoutes(m *mux) {
	handle := s.answerer.Handle
	for _, r := range s.api.Routes() {
		m.Handle(r.Method+" "+r.Path, handle(r.Serve, answer.WriteErrorProblem))
	}
	m.Handle("GET /api/v1/openapi.json", handle(s.api.OpenAPI, answer.WriteErrorProblem))
	m.Handle("GET /api/v1", http.RedirectHandler("/api/v1/", http.StatusMovedPermanently))
	m.Handle("GET /api/v1/{$}", handle(s.catalogue.API, s.catalogue.WriteErrorPage))
	m.Handle("/", handle(noEndpoint(&m.serve), answer.WriteErrorProblem))
}

func (s *server) pageRoutes(m *mux) {
	c := s.catalogue
	page := func(f answer.HandlerFunc) http.Handler {
		return s.answerer.Handle(f, c.WriteErrorPage)
	}
	read := func(f answer.HandlerFunc) http.Handler {
		return page(s.answerer.Reading(f))
	}
	plain := func(f answer.HandlerFunc) http.Handler {
		return s.answerer.Handle(f, answer.WriteErrorText)
	}
	m.Handle("GET /{$}", read(c.List))
	m.Handle("GET /n/{namespace}", read(c.Namespace))
	m.Handle("GET /r/{reference...}", read(c.Reference))
	m.Handle("GET /compare", read(c.Compare))
	m.Handle("GET /opensearch.xml", plain(c.OpenSearch))
	m.Handle("GET /status", read(c.Status))
	m.Handle("GET /settings", page(c.Settings))
	m.Handle("GET /repositories", page(catalogue.Repositories))
	m.Handle("GET /activity", read(c.Activity))
	m.Handle("GET /activity.atom", plain(s.answerer.Reading(c.ActivityFeed)))
	m.Handle("GET /storage", read(c.Storage))
	if s.Login != nil && s.Login.Accounts != nil {
		s.accountRoutes(m, page, read)
		s.manageRoutes(m, page, read)
	}
	m.Handle("GET /live", plain(c.Live))
	m.Handle("GET /static/{name}", plain(c.Static))
	m.Handle("GET /", page(catalogue.WithoutSlash(&m.serve)))
}

// A wrapper makes a handler of a page.
type wrapper func(answer.HandlerFunc) http.Handler

// accountRoutes registers the pages about accounts.
func (s *server) accountRoutes(m *mux, page, read wrapper) {
	c := s.catalogue
	m.Handle("GET /account", read(c.Account))
	m.Handle("GET /account/audit", read(c.Audit))
	m.Handle("POST /account/sign-in", read(c.SignIn))
	m.Handle("GET /account/sign-in/{provider}", page(c.BeginSignIn)) // not read: providers take longer
	m.Handle("GET /account/callback/{provider}", page(c.CompleteSignIn))
	m.Handle("POST /account/sign-out", read(c.SignOut))
	m.Handle("POST /account/tokens", read(s.Login.LimitWrites(s.Login.Person, c.AddToken)))
	m.Handle("POST /account/tokens/{id}/revoke", read(c.RevokeToken))
	m.Handle("POST /account/password", read(c.ChangePassword))
	const user = "/account/users/{account}"
	m.Handle("GET /account/users", read(c.Users))
	m.Handle("POST /account/users", read(c.AddUser))
	m.Handle("GET "+user, read(c.User))
	m.Handle("POST "+user+"/change", read(c.ChangeUser))
	m.Handle("POST "+user+"/password", read(c.SetUserPassword))
	m.Handle("POST "+user+"/delete", read(c.DeleteUser))
	m.Handle("POST "+user+"/tokens", read(c.AddUserToken))
	m.Handle("POST "+user+"/tokens/{id}/revoke", read(c.RevokeUserToken))
	m.Handle("GET /account/grants", read(c.Grants))
	m.Handle("POST /account/grants", read(s.Login.LimitWrites(s.Login.Person, c.AddGrant)))
	m.Handle("POST /account/grants/remove", read(c.RemoveGrant))
}

// manageRoutes registers the pages about what is stored, and how it is changed.
func (s *server) manageRoutes(m *mux, page, read wrapper) {
	c := s.catalogue
	m.Handle("GET /manage/change", page(c.Change)) // not read: the registry is asked for blobs
	m.Handle("POST /manage/change", page(c.MakeChange))
	m.Handle("GET /manage/history", read(c.TagHistory))
	m.Handle("GET /manage/operations", read(c.Operations))
	m.Handle("GET /manage/operations/{operation}", read(c.Operation))
	m.Handle("GET /manage/trash", read(c.Trash))
	m.Handle("GET /manage/yank", read(c.Yank(false)))
	m.Handle("POST /manage/yank", read(s.Login.LimitWrites(s.Login.Person, c.MakeYank(false))))
	m.Handle("GET /manage/deprecate", read(c.Yank(true)))
	m.Handle("POST /manage/deprecate", read(s.Login.LimitWrites(s.Login.Person, c.MakeYank(true))))
	m.Handle("GET /manage/protection", read(c.Protection))
	m.Handle("POST /manage/protection", read(s.Login.LimitWrites(s.Login.Person, c.AddProtection)))
	m.Handle("POST /manage/protection/remove", read(c.RemoveProtection))
	m.Handle("GET /manage/jobs", read(c.Jobs))
	m.Handle("POST /manage/jobs/{job}", read(c.RunJob))
	m.Handle("GET /manage/collect", read(c.Collect))
	m.Handle("POST /manage/collect/pause", read(c.PauseCollect))
	m.Handle("POST /manage/collect/resume", read(c.ResumeCollect))
	m.Handle("POST /manage/collect/retry", read(c.RetryCollect))
	m.Handle("GET /manage/retention", page(c.Retention)) // not read, as all about plans: some wait for one
	m.Handle("POST /manage/retention", page(s.Login.LimitWrites(s.Login.Person, c.AddRule)))
	m.Handle("POST /manage/retention/remove", page(c.RemoveRule))
	m.Handle("POST /manage/plans", page(s.Login.LimitWrites(s.Login.Person, c.MakePlan)))
	const plan = "/manage/plans/{plan}"
	m.Handle("GET "+plan, page(c.Plan))
	m.Handle("POST "+plan+"/apply", page(s.Login.LimitWrites(s.Login.Person, c.ApplyPlan)))
	m.Handle("POST "+plan+"/undo", page(s.Login.LimitWrites(s.Login.Person, c.UndoPlan)))
	if s.Webhooks != nil {
		changing := func(f answer.HandlerFunc) http.Handler { return read(s.Login.LimitWrites(s.Login.Person, f)) }
		const webhook = "/manage/webhooks/{id}"
		m.Handle("GET /manage/webhooks", read(c.Webhooks))
		m.Handle("POST /manage/webhooks", changing(c.AddWebhook))
		m.Handle("GET "+webhook, read(c.Webhook))
		m.Handle("POST "+webhook+"/change", changing(c.ChangeWebhook))
		m.Handle("POST "+webhook+"/enable", changing(c.EnableWebhook))
		m.Handle("POST "+webhook+"/rotate", changing(c.RotateWebhook))
		m.Handle("POST "+webhook+"/test", changing(c.TestWebhook))
		m.Handle("POST "+webhook+"/remove", read(c.RemoveWebhook))
		m.Handle("POST "+webhook+"/deliveries/{delivery}/redeliver", changing(c.Redeliver))
	}
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

// methodsOf returns the methods by which the address of a request can be reached, which matches
// no endpoint by its own method.
func methodsOf(api *http.ServeMux, r *http.Request) (allowed []string) {
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		other := *r
		other.Method = method
		if _, pattern := api.Handler(&other); pattern != r.Pattern {
			allowed = append(allowed, method)
		}
	}
	return allowed
}

// noEndpoint answers requests below /api/v1 that match no endpoint: 405 for a wrong
// method, 404 for an unknown address.
func noEndpoint(api *http.ServeMux) answer.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) error {
		if allowed := methodsOf(api, r); len(allowed) > 0 {
			list := strings.Join(allowed, ", ")
			w.Header().Set("Allow", list)
			return answer.Refuse(http.StatusMethodNotAllowed, "%.16s is not allowed here: use one of %s", r.Method, list)
		}
		return answer.Refuse(http.StatusNotFound, "there is no such address: /api/v1/ lists all addresses")
	}
}
