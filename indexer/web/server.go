// Package web is everything over HTTP that readers of the book see: docker
// search, flatpak's registry index, the API and its description, the referrers
// that the registry does not have, the catalogue for people, and, where there is
// no other front, the way through to the registry.
//
// It promises that an answer is of one state of the catalogue, that its ETag
// names that state, and that a cache which follows RFC 9111 never serves an
// answer of another. It never tells a client more of an error than its kind
// and the text written for it.
//
// It holds no SQL and no rule of the field: what is found, and in what order,
// the Book decides. Who may ask is left to whoever mounts the handler; all of
// it is anonymous.
package web

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/api"
	"github.com/portbook/portbook/indexer/web/catalogue"
	"github.com/portbook/portbook/indexer/web/clients"
)

// A Config says what the handler serves, and from where. Only Read is needed.
type Config struct {
	Read    answer.ReadFunc
	Log     *slog.Logger          // nil: no log
	Metrics prometheus.Registerer // nil: no metrics

	// PublicURL is where clients reach the registry: an absolute URL, or "/"
	// for the host that answered. It is the Registry field of flatpak's index.
	PublicURL string
	// MaxAgeIndex and MaxAgeHTML are how long a cache may serve data and pages
	// without asking again. Under a second means it asks every time, and
	// mostly hears 304.
	MaxAgeIndex, MaxAgeHTML time.Duration

	// FlatpakOwners say from where flatpaks are served that stand in more than one
	// repository; for others the first seen counts.
	FlatpakOwners []indexer.FlatpakOwner

	// Asker tells who makes a request; nil: every request is made by Everyone. Its error
	// refuses the request.
	Asker func(*http.Request) (indexer.Asker, error)

	WebUI          bool
	AssertEndpoint bool

	RegistryProxy *url.URL     // where /v2/ goes; nil: of /v2/ only the referrers are ours
	Events        http.Handler // what takes POST /events; nil on a reader: 404

	// Connections is how many connections to the database Read may use at once; 0:
	// no route and no client is kept from using them all.
	Connections int

	// Ready says why the program cannot serve just now, or nil. A nil Ready is
	// always ready.
	Ready func(context.Context) error

	// Stopping is closed when the program is about to end: what else would go on
	// until the client goes ends then. nil: it never is.
	Stopping <-chan struct{}

	// Version of the program. It is part of every ETag, because a new program
	// may write the same state of the catalogue differently.
	Version string
	// Settings are what the book's answers depend on besides the book, in any
	// form. They are part of every ETag.
	Settings string
	// Revision of the source that the program was built from; "" if unknown.
	Revision string
	// Writes says that this program scans too: FetchAll after the beginning of a
	// scan the next one begins, 0: none does by itself. Of a reader both are zero:
	// only who scans knows.
	Writes   bool
	FetchAll time.Duration
	// Jobs returns the states of the leader's jobs in this process; nil on a reader.
	Jobs func() []indexer.Job
	// LogLevel and Address are what /api/v1/config tells of the configuration.
	LogLevel, Address string
}

// New gives the handler of everything that readers see.
func New(c Config) http.Handler {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	// The API has a mux of its own, because it answers every method in its own
	// shape of errors.
	pages, api := newServer(c).routes()
	ours := guard(withNames(withAPI(&api.serve, &pages.serve)))
	requests := newRequests(c.Metrics)
	if c.RegistryProxy == nil {
		return count(requests, ours)
	}
	// Ahead of the mux, which would redirect a path it finds unclean: what
	// goes to the registry goes untouched.
	return count(requests, withRegistry(newProxy(c.RegistryProxy, c.Log), ours))
}

// A server has one part for each audience.
type server struct {
	Config
	answerer  *answer.Answerer
	api       *api.API
	clients   *clients.Clients
	catalogue *catalogue.Catalogue
}

func newServer(c Config) *server {
	a := answer.New(answer.Config{
		Read: c.Read, Log: c.Log, Metrics: c.Metrics, Connections: c.Connections, Asker: c.Asker,
		Build: c.Version + "\x00" + c.PublicURL + "\x00" + c.Settings + "\x00" + catalogue.Hash(),
	})
	s := &server{Config: c, answerer: a}
	s.clients = clients.New(clients.Config{
		Answerer: a, PublicURL: c.PublicURL, MaxAge: c.MaxAgeIndex, FlatpakOwners: c.FlatpakOwners, Assertions: c.AssertEndpoint,
	})
	s.api = api.New(api.Config{
		Answerer: a, Log: c.Log, MaxAge: c.MaxAgeIndex, MaxAgeHTML: c.MaxAgeHTML, Others: clients.Operations(),
		Version: c.Version, Revision: c.Revision, LogLevel: c.LogLevel, Address: c.Address,
	})
	s.catalogue = catalogue.New(catalogue.Config{
		Answerer: a, PublicURL: c.PublicURL, MaxAge: c.MaxAgeHTML, MaxAgeIndex: c.MaxAgeIndex, Stopping: c.Stopping,
		Operations: s.api.Operations(), Version: c.Version, Revision: c.Revision, LogLevel: c.LogLevel,
		Proxies: c.RegistryProxy != nil, Assertions: c.AssertEndpoint, Writes: c.Writes, FetchAll: c.FetchAll,
		Jobs: c.Jobs,
	})
	return s
}
