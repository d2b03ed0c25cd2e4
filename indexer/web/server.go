// Package web serves everything over HTTP that readers of the book use: docker
// search, flatpak's registry index, the API and its description, the referrers that
// the registry does not have, the web catalogue, and, where there is no other front,
// the proxy to the registry.
//
// An answer belongs to one state of the catalogue, and its ETag names that state. A
// cache that follows RFC 9111 never serves the answer of another state. Of an error,
// a client sees only its kind and the text written for clients.
//
// The package has no SQL and no rules of the domain: the Book decides what is found
// and in what order. Config.Login finds out who sends a request; without it, everybody
// sees everything.
package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/deliver"
	"github.com/portbook/portbook/indexer/errorreport"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/api"
	"github.com/portbook/portbook/indexer/web/catalogue"
	"github.com/portbook/portbook/indexer/web/clients"
	"github.com/portbook/portbook/indexer/web/login"
)

// A Config configures the handler. Only Read is required.
type Config struct {
	Read    answer.ReadFunc
	Log     *slog.Logger          // nil: no log
	Metrics prometheus.Registerer // nil: no metrics
	Reports *errorreport.Reporter // of panics and answers with a status of 5xx; nil: none

	// AccessLog says whether each request is logged.
	AccessLog bool

	// PublicURL is the address of the registry for clients: an absolute URL, or "/" for
	// the host of the request. It is the Registry field of flatpak's index.
	PublicURL string
	// MaxAgeIndex and MaxAgeHTML are how long a cache may serve data and pages without
	// revalidation. Below one second, a cache revalidates every time, and usually
	// receives 304.
	MaxAgeIndex, MaxAgeHTML time.Duration

	// FlatpakOwners define which repository serves a flatpak that is in more than one.
	// For other flatpaks, it is the repository where it was first seen.
	FlatpakOwners []indexer.FlatpakOwner

	// Asker returns the asker of a request. If it is nil, every asker is Everyone. If
	// it returns an error, the request is refused. It is not used if there is a Login.
	Asker func(*http.Request) (indexer.Asker, error)
	// Login finds out who sends a request, and gives clients tokens for the registry. If it
	// is nil, the registry itself decides who may use it.
	Login *login.Login

	// Webhooks are those that who oversees their pattern manages; nil: nobody does.
	Webhooks *deliver.Webhooks

	// Package configures the registry of packages of pesde.
	Package clients.PackageConfig

	WebUI          bool
	AssertEndpoint bool
	// ExperimentalOCI says whether extensions of the registry's API are served below /v2/.
	ExperimentalOCI bool

	RegistryProxy *url.URL     // the target of /v2/; nil: only the referrers are served below /v2/
	Protection    Protection   // what must stay as it is; its zero value protects nothing
	Events        http.Handler // handles POST /events; nil, as on a reader: 404

	// Changes does what clients ask to change, and Jobs has the leader run jobs; nil on a reader.
	Changes clients.Changer
	Jobs    clients.Jobs
	// InternalSecret is what requests below /internal/ have to know. Without it they are refused,
	// unless InternalOpen is true: then nobody has to know anything.
	InternalSecret string
	InternalOpen   bool

	// Connections is the number of database connections that Read may use at once. If
	// it is 0, neither a route nor a client has a limit.
	Connections int

	// Ready returns an error if the program cannot serve now. nil: always ready.
	Ready func(context.Context) error

	// Stopping is closed when the program is about to end. It ends requests that would
	// otherwise run until the client leaves. nil: never closed.
	Stopping <-chan struct{}

	// Version is the version of the program. It is part of every ETag, because a new
	// program may write the same state of the catalogue differently.
	Version string
	// Settings describes the configuration that the book's answers depend on, in any
	// form. It is part of every ETag.
	Settings string
	// Revision is the source revision from which the program was built; "" if unknown.
	Revision string
	// Writes says whether this program also scans. FetchAll is the time between the
	// starts of two full scans; 0: no scan starts by itself. On a reader both are
	// zero, because only the writer knows them.
	Writes   bool
	FetchAll time.Duration
	// LogLevel and Address are the settings that /api/v1/config shows.
	LogLevel, Address string
}

// New returns the handler of all public routes.
func New(c Config) http.Handler {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	// The API has its own mux, because it answers every method in its own error format.
	s := newServer(c)
	pages, api := s.routes()
	others := withManagement(&s.managementRoutes().serve, withAPI(&api.serve, &pages.serve))
	// No page of another site may change anything in the name of who is signed in here.
	ours := guard(http.NewCrossOriginProtection().Handler(withNames(others)))
	o := &observer{requests: newRequests(c.Metrics), log: c.Log, access: c.AccessLog, reports: c.Reports, next: ours}
	// Before the mux, which would redirect a path that is not clean: requests to the registry
	// must not be changed.
	logins := c.Login != nil && c.Login.Signer != nil
	switch {
	case c.RegistryProxy != nil:
		o.next = withRegistry(s.protected(newProxy(c.RegistryProxy, c.Log)), ours, logins)
	case c.Protection.FrontToken != "" && c.Protection.Registry != nil:
		o.next = s.protector.withFront(withRegistry(s.protected(newProxy(c.Protection.Registry, c.Log)), ours, logins), ours)
	}
	return o
}

// A server has one part for each audience.
type server struct {
	Config
	answerer  *answer.Answerer
	api       *api.API
	clients   *clients.Clients
	catalogue *catalogue.Catalogue
	protector *protector
}

// protected returns a handler that passes requests to registry, except those that change what
// is protected.
func (s *server) protected(registry http.Handler) http.Handler {
	if s.Protection.Keeper == nil {
		return registry
	}
	s.protector.registry = registry
	return s.protector
}

func newServer(c Config) *server {
	if c.Login != nil {
		c.Asker = c.Login.Asker
	}
	a := answer.New(answer.Config{
		Read: c.Read, Log: c.Log, Metrics: c.Metrics, Connections: c.Connections, Asker: c.Asker,
		Build: c.Version + "\x00" + c.PublicURL + "\x00" + c.Settings + "\x00" + catalogue.Hash(),
	})
	s := &server{Config: c, answerer: a, protector: newProtector(c)}
	s.clients = clients.New(clients.Config{
		Answerer: a, PublicURL: c.PublicURL, MaxAge: c.MaxAgeIndex,
		FlatpakOwners: c.FlatpakOwners, Assertions: c.AssertEndpoint, Logins: c.Login != nil && c.Login.Signer != nil,
		Login: c.Login, Changes: c.Changes, Jobs: c.Jobs, Log: c.Log,
		InternalSecret: c.InternalSecret, InternalOpen: c.InternalOpen, Package: c.Package,
	})
	s.api = api.New(api.Config{
		Answerer: a, Log: c.Log, MaxAge: c.MaxAgeIndex, MaxAgeHTML: c.MaxAgeHTML, Others: clients.Operations(), Jobs: c.Jobs,
		Login: c.Login, Webhooks: c.Webhooks, Version: c.Version, Revision: c.Revision, LogLevel: c.LogLevel,
		Address: c.Address,
		Levels:  s.protector.levels,
	})
	s.catalogue = catalogue.New(catalogue.Config{
		Answerer: a, PublicURL: c.PublicURL, MaxAge: c.MaxAgeHTML, MaxAgeIndex: c.MaxAgeIndex, Stopping: c.Stopping,
		Login: c.Login, Webhooks: c.Webhooks, Jobs: c.Jobs,
		Operations: s.api.Operations(), Version: c.Version, Revision: c.Revision, LogLevel: c.LogLevel,
		Proxies: c.RegistryProxy != nil, Assertions: c.AssertEndpoint, Writes: c.Writes, FetchAll: c.FetchAll,
		Levels: s.protector.levels,
	})
	return s
}
