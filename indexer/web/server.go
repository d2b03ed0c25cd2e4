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
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/query"
)

// A Book is one consistent state of the catalogue: everything asked of it
// within one ReadFunc belongs to the Version it tells. A Book is used by one
// goroutine at a time.
type Book interface {
	Version(ctx context.Context) (indexer.Version, error)

	// Search gives one page of the repositories that q selects, best first.
	Search(ctx context.Context, q query.Query) (indexer.Results, error)
	// Repositories gives those that have a tag, by name, after the one named.
	Repositories(ctx context.Context, after string, limit int) ([]indexer.Repository, error)
	// Repository gives ErrNotFound if there is none of that name.
	Repository(ctx context.Context, name string) (indexer.Repository, error)
	// Tags gives tags in bytewise order of name, after the one named.
	Tags(ctx context.Context, repository, after string, limit int) ([]indexer.Tag, error)
	// Versions gives the tags of repositories that look like versions, in no order.
	Versions(ctx context.Context, repositories []string) (map[string][]string, error)
	// Manifest reads by tag or digest; it gives ErrNotFound if there is none.
	Manifest(ctx context.Context, ref indexer.Reference) (indexer.Manifest, error)
	TagsOf(ctx context.Context, repository string, d digest.Digest) ([]string, error)
	// Referrers returns one page of what belongs to a manifest.
	Referrers(ctx context.Context, q indexer.ReferrerQuery) (indexer.ReferrerPage, error)
	// Images gives the repositories that hold an image q selects, by name.
	Images(ctx context.Context, q query.Images) ([]indexer.RepositoryImages, error)
	// ImagesState names what Images gives, and is quicker: of one epoch, what has
	// the same name is the same.
	ImagesState(ctx context.Context, q query.Images) (string, error)
	Status(ctx context.Context) (indexer.Status, error)
	// Overview counts what is in the book, and says when it is looked after.
	Overview(ctx context.Context) (indexer.Overview, error)

	// Freshness is the catalogue version of this state and when the last whole
	// scan ended.
	Freshness(ctx context.Context) (indexer.Freshness, error)
	// Facets counts what q selects.
	Facets(ctx context.Context, q query.Query) (indexer.Facets, error)
	// Suggest completes what is being typed: repositories by the beginning of
	// their name or last path component, best first.
	Suggest(ctx context.Context, text string, limit int) ([]indexer.Suggestion, error)
	// Correct gives the text of a query with a misspelt word mended that finds
	// something, "" if there is none.
	Correct(ctx context.Context, q query.Query) (string, error)
	// Near is Correct of one mistake in a word. It does not look whether the text is a
	// query that finds something.
	Near(ctx context.Context, q query.Query) (string, error)
	// Names gives those of repositories that have a tag, in order, after the one
	// named.
	Names(ctx context.Context, after string, limit int) ([]string, error)
	// CountRepositories is how many repositories have a tag.
	CountRepositories(ctx context.Context) (int, error)
	// History gives moves of tags, latest first, older than before (0: from the
	// latest). tag "" is all of the repository's; repository "" is everybody's.
	History(ctx context.Context, repository, tag string, before int64, limit int) ([]indexer.Move, error)
	// HistoryAt gives the id than which all moves that were seen until a time are
	// older, 0 if none was seen later.
	HistoryAt(ctx context.Context, at time.Time) (int64, error)
	// RepositoriesAt and TagsAt are as the history tells that it was at a time. A
	// tag has Name, Digest and MovedAt, and the rest if the book still holds the
	// manifest.
	RepositoriesAt(ctx context.Context, at time.Time, after string, limit int) ([]string, error)
	TagsAt(ctx context.Context, repository string, at time.Time, after string, limit int) ([]indexer.Tag, error)
	// Uses says where a digest stands, in order of repository and digest, after
	// the two named.
	Uses(ctx context.Context, d digest.Digest, afterRepository string, afterDigest digest.Digest, limit int) ([]indexer.Use, error)

	// Storage, NamespaceStorage and RepositoryStorage are what is stored, as it was
	// last counted; CountedAt is zero before the first time. Namespaces come most
	// bytes first, or the one named alone; repositories in the order asked for.
	Storage(ctx context.Context) (indexer.Storage, error)
	NamespaceStorage(ctx context.Context, name *string, limit int) ([]indexer.NamespaceStorage, error)
	RepositoryStorage(ctx context.Context, q indexer.StorageQuery) ([]indexer.RepositoryStorage, error)

	// AllManifests gives those of all repositories, in order of repository and
	// digest, after the two named. It ends early where bodies are large, and with
	// an empty slice only at the end.
	AllManifests(ctx context.Context, afterRepository string, afterDigest digest.Digest, limit int) ([]indexer.Manifest, error)
	// AllTags gives those of all repositories, in order of repository and name,
	// after the two named.
	AllTags(ctx context.Context, afterRepository, afterTag string, limit int) ([]indexer.TagOf, error)
}

// A ReadFunc runs f in one read-only snapshot and returns the error of f. It is
// safe for concurrent use. It may run f again, on another snapshot, if the first
// was lost: what f does must begin anew, and f must write to no response.
type ReadFunc func(ctx context.Context, f func(Book) error) error

// A Config says what the handler serves, and from where. Only Read is needed.
type Config struct {
	Read    ReadFunc
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
	// LogLevel and Address are what /api/v1/config tells of the configuration.
	LogLevel, Address string
}

// timeout is how long a request may take from its header to the end of its
// answer: 30 s. The largest answer, flatpak's index of 5,000 tags, is 5 MB
// and takes well under a second to make, so 30 s is for slow readers (170 kB/s
// does); a request that sends or reads nothing holds a connection no longer.
// Uploads through /v2/ have no such limit: a layer may take hours.
const timeout = 30 * time.Second

// budget is how long a request may take to read the book: 5 s, from when it begins
// to read, or has waited for its min_version, to the last row. It includes the wait
// for a connection, all statements and all attempts, so that a client which asks
// for much holds a connection no longer than that. The slowest question to a book
// of a million repositories takes a tenth of it.
const budget = 5 * time.Second

type server struct {
	Config
	build   string // tells apart programs and configurations that write different bytes
	site    site   // of pull commands
	pages   map[string]*template.Template
	assets  map[string]asset
	metrics metrics
	counted counted
	indexes documents // flatpak's
	making  *turns    // to make one
	owners  flatpakOwners
	openAPI []byte

	turns    *turns    // to read the book
	versions *versions // of the book, as they come
	waiters  *places   // of requests that wait for a version
	live     *places   // of open pages
	dumps    *places
}

// New gives the handler of everything that readers see.
func New(c Config) http.Handler {
	s := newServer(c)
	mux := http.NewServeMux()

	mux.Handle("GET /v1/_ping", s.handle(s.ping, tellText))
	mux.Handle("GET /v1/search", s.handle(s.reading(s.search), tellText))
	mux.Handle("GET /v0/search", s.handle(s.reading(s.packageSearch), tellJSON))

	for _, method := range []string{"GET", "POST"} {
		mux.Handle(method+" /index/static", s.handle(s.reading(s.index(false)), tellFlatpak))
		mux.Handle(method+" /index/dynamic", s.handle(s.reading(s.index(true)), tellFlatpak))
	}

	api := http.NewServeMux()
	for _, e := range s.endpoints() {
		serve := e.serve
		if e.book && !e.streams {
			serve = s.reading(serve)
		}
		api.Handle("GET "+apiPrefix+e.path, s.handle(serve, tellProblem))
	}
	api.Handle("GET /api/v1/openapi.json", s.handle(s.openAPIDocument, tellProblem))
	api.Handle("GET /api/v1", http.RedirectHandler("/api/v1/", http.StatusMovedPermanently))
	api.Handle("GET /api/v1/{$}", s.handle(s.apiPage, s.tellPage))
	api.Handle("/", s.handle(noEndpoint(api), tellProblem))

	mux.Handle("GET /v2/{name}/referrers/{digest}", s.handle(s.reading(s.referrers), tellRegistry))

	if c.WebUI {
		mux.Handle("GET /{$}", s.handle(s.reading(s.cataloguePage), s.tellPage))
		mux.Handle("GET /n/{namespace}", s.handle(s.reading(s.namespacePage), s.tellPage))
		mux.Handle("GET /r/{reference...}", s.handle(s.reading(s.referencePage), s.tellPage))
		mux.Handle("GET /compare", s.handle(s.reading(s.comparePage), s.tellPage))
		mux.Handle("GET /opensearch.xml", s.handle(s.openSearchPage, tellText))
		mux.Handle("GET /status", s.handle(s.reading(s.statusPage), s.tellPage))
		mux.Handle("GET /settings", s.handle(s.settingsPage, s.tellPage))
		mux.Handle("GET /repositories", s.handle(repositoriesPage, s.tellPage))
		mux.Handle("GET /activity", s.handle(s.reading(s.activityPage), s.tellPage))
		mux.Handle("GET /activity.atom", s.handle(s.reading(s.activityFeed), tellText))
		mux.Handle("GET /storage", s.handle(s.reading(s.storagePage), s.tellPage))
		mux.Handle("GET /live", s.handle(s.tellNews, tellText))
		mux.Handle("GET /static/{name}", s.handle(s.static, tellText))
		mux.Handle("GET /", s.handle(withoutSlash(mux), s.tellPage))
	} else {
		mux.Handle("GET /", s.handle(nothingHere, tellText))
	}

	handleHealth(mux, c.Ready, c.Version, s.Log)

	mux.Handle("POST /events", s.handle(s.events, tellText))
	mux.Handle("POST /assert", s.handle(s.assert, tellJSON))

	// The API has a mux of its own, because it answers every method in its own
	// shape of errors.
	ours := guard(withNames(withAPI(api, mux)))
	if c.RegistryProxy == nil {
		return s.count(ours)
	}
	// Ahead of the mux, which would redirect a path it finds unclean: what
	// goes to the registry goes untouched.
	return s.count(withRegistry(newProxy(c.RegistryProxy, s.Log), ours))
}

func newServer(c Config) *server {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{
		Config:  c,
		build:   c.Version + "\x00" + c.PublicURL + "\x00" + c.Settings + "\x00" + embeddedHash(),
		site:    siteOf(c.PublicURL),
		pages:   parsePages(),
		assets:  readAssets(),
		metrics: newMetrics(c.Metrics),
		making:  turnsOf(maxMaking, maxMakingEach),
		owners:  ownersOf(c.FlatpakOwners),
		turns:   newTurns(c.Connections),
		waiters: newPlaces(maxWaiters, maxWaitersEach),
		live:    newPlaces(maxLive, maxLiveEach),
		dumps:   newPlaces(maxDumps, maxDumpsEach),
	}
	s.versions = newVersions(s.lookAtVersion)
	s.openAPI = s.describe()
	return s
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

// guard gives every answer the headers that keep a browser from doing anything
// but showing it, and every request its deadline.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "+
			"form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		setDeadline(w, timeout)
		next.ServeHTTP(w, r)
	})
}

// setDeadline ends reading and writing at d from now. The server lifts both at
// the end of the request (net/http of Go 1.26, conn.serve). A deadline that
// passes while the handler works also cancels the request's context.
func setDeadline(w http.ResponseWriter, d time.Duration) {
	end := time.Now().Add(d)
	c := http.NewResponseController(w)
	// Both only fail on a writer that has no connection, as in a test.
	_ = c.SetReadDeadline(end)
	_ = c.SetWriteDeadline(end)
}

// A teller writes an error in the form that the clients of a route read.
type teller func(w http.ResponseWriter, code int, text string)

// reading is f for a request that reads the book: it waits for the version that the
// request asks for, holding no connection, and then has its budget.
func (s *server) reading(f func(http.ResponseWriter, *http.Request) error) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		if err := s.awaitVersion(r); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(r.Context(), budget)
		defer cancel()
		return f(w, r.WithContext(ctx))
	}
}

// read runs f on one state of the book, when it is the turn of this client and
// this kind of request. The context must have a deadline: that of reading, or a longer one of
// what streams.
func (s *server) read(ctx context.Context, r *http.Request, f func(Book) error) error {
	if _, limited := ctx.Deadline(); !limited {
		return fmt.Errorf("%s reads the book without a time limit", r.Pattern)
	}
	done, err := s.turns.take(ctx, r.Pattern, clientOf(r))
	if err != nil {
		return err
	}
	defer done()
	return s.Read(ctx, f)
}

// handle runs f and turns its error into a response: an error of a kind the
// client can act on is shown, any other is logged and shown as a bare 500. f
// must not have written anything when it returns an error.
func (s *server) handle(f func(http.ResponseWriter, *http.Request) error, tell teller) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := f(w, r)
		if err == nil {
			return
		}
		ctx := r.Context()
		code, text := http.StatusInternalServerError, "internal error"
		var refused *refusal
		switch {
		case errors.As(err, &refused):
			code, text = refused.code, refused.text
		case errors.Is(err, indexer.ErrNotFound):
			code, text = http.StatusNotFound, told(err)
		case errors.Is(err, indexer.ErrInvalid):
			code, text = http.StatusBadRequest, told(err)
		case ctx.Err() != nil:
			// Mostly the client has gone, and reads nothing of this. But our
			// deadline cancels too, and silence would be a 200 without a body.
			code, text = http.StatusServiceUnavailable, "took too long"
		case errors.Is(err, indexer.ErrTooSlow), errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, indexer.ErrUnavailable):
			code, text = http.StatusServiceUnavailable, "it took too long and was stopped: ask for less, or for something rarer"
			s.Log.WarnContext(ctx, "request too slow", "path", r.URL.Path, "query", r.URL.RawQuery, "error", err)
		case errors.Is(err, indexer.ErrUnavailable):
			// The text may name hosts and users of the database: for the log.
			code, text = http.StatusServiceUnavailable, "unavailable, try again"
			s.Log.WarnContext(ctx, "request unavailable", "path", r.URL.Path, "error", err)
		default:
			s.Log.ErrorContext(ctx, "request failed", "path", r.URL.Path, "error", err)
		}
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		if code == http.StatusServiceUnavailable {
			h.Set("Retry-After", "1")
		}
		for _, name := range []string{"ETag", "Vary", "Content-Encoding", "Content-Length", "Link", "Last-Modified"} {
			h.Del(name)
		}
		tell(w, code, text)
	})
}

func tellText(w http.ResponseWriter, code int, text string) {
	http.Error(w, text, code)
}

// tellFlatpak never says 500: flatpak repeats a request that was answered 500
// six times at once, and one that was answered 503 once (seen of 1.14.10).
func tellFlatpak(w http.ResponseWriter, code int, text string) {
	if code == http.StatusInternalServerError {
		code = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	tellText(w, code, text)
}
