// Package catalogue serves the web pages and what belongs to them: style sheets, a
// script, an Atom feed, live updates and the OpenSearch description.
package catalogue

import (
	"html/template"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/cache"
	"github.com/portbook/portbook/indexer/deliver"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// A Config configures the pages.
type Config struct {
	Answerer *answer.Answerer
	// PublicURL is where clients reach the registry: an absolute URL, or "/" for the
	// host that answered the request.
	PublicURL string
	// MaxAge and MaxAgeIndex are how long a cache may serve pages and data without
	// revalidation.
	MaxAge, MaxAgeIndex time.Duration
	// Login finds out who is signed in; nil: nobody can sign in.
	Login *login.Login
	// Webhooks are those that who oversees their pattern manages; nil: nobody does.
	Webhooks *deliver.Webhooks
	// Jobs has the leader run jobs; nil on a reader.
	Jobs Jobs
	// Stopping is closed when the program is about to exit; nil means never.
	Stopping <-chan struct{}
	// Operations are described on the API page.
	Operations []answer.Operation
	// The fields below are shown on the settings and status pages.
	Version, Revision string
	LogLevel          string
	Proxies           bool // whether /v2/ is proxied to the registry
	Assertions        bool // whether /assert is served
	// Writes reports that this program also scans. FetchAll is the time from the start
	// of one scan to the start of the next; 0 disables periodic scans. On a reader both
	// are zero: only the program that scans knows them.
	Writes   bool
	FetchAll time.Duration
	// Levels says how far what is protected is kept; the status page shows it.
	Levels func() []indexer.ProtectionLevel
}

// A Catalogue serves the web pages.
type Catalogue struct {
	config     Config
	answerer   *answer.Answerer
	site       site // used in pull commands
	pages      map[string]*template.Template
	assets     map[string]asset
	facetCache *cache.Versioned[indexer.Facets]
	live       *answer.Places // limits the open event streams
}

// New returns the pages configured by c.
func New(c Config) *Catalogue {
	return &Catalogue{
		config: c, answerer: c.Answerer, site: siteOf(c.PublicURL), pages: parsePages(), assets: readAssets(),
		facetCache: newFacetCache(), live: answer.NewPlaces(maxLive, maxLiveEach),
	}
}
