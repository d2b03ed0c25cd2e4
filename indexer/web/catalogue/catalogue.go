// Package catalogue is the pages for people, with what they need: styles, a script, a
// feed, live updates and the description of the search for browsers.
package catalogue

import (
	"html/template"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// A Config says what the pages show, besides the book.
type Config struct {
	Answerer *answer.Answerer
	// PublicURL is where clients reach the registry: an absolute URL, or "/"
	// for the host that answered.
	PublicURL string
	// MaxAge and MaxAgeIndex are how long a cache may serve pages and data without
	// asking again.
	MaxAge, MaxAgeIndex time.Duration
	// Stopping is closed when the program is about to end; nil: it never is.
	Stopping <-chan struct{}
	// Operations are what the page of the API describes.
	Operations []answer.Operation
	// The rest is what the pages of settings and status tell.
	Version, Revision string
	LogLevel          string
	Proxies           bool // whether /v2/ is passed on to the registry
	Assertions        bool // whether there is /assert
	// Writes says that this program scans too: FetchAll after the beginning of a
	// scan the next one begins, 0: none does by itself. Of a reader both are zero:
	// only who scans knows.
	Writes   bool
	FetchAll time.Duration
	// Jobs returns the states of the leader's jobs in this process; nil on a reader.
	Jobs func() []indexer.Job
}

// A Catalogue answers with pages for people.
type Catalogue struct {
	config   Config
	answerer *answer.Answerer
	site     site // of pull commands
	pages    map[string]*template.Template
	assets   map[string]asset
	counted  counted
	live     *answer.Places // of open pages
}

// New returns the pages that c describes.
func New(c Config) *Catalogue {
	return &Catalogue{
		config: c, answerer: c.Answerer, site: siteOf(c.PublicURL), pages: parsePages(), assets: readAssets(),
		live: answer.NewPlaces(maxLive, maxLiveEach),
	}
}
