// Package clients serves the clients of other protocols: docker search, package search,
// flatpak, OCI referrers, the management API and the jobs of the registry of Deploys.app, and
// /assert for integration tests.
package clients

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// A Config configures the answers to clients.
type Config struct {
	Answerer *answer.Answerer
	// PublicURL is where clients reach the registry: an absolute URL, or "/" for the
	// host that answered the request. It is the Registry field of flatpak's index.
	PublicURL string
	// MaxAge is how long a cache may serve an answer without revalidation.
	MaxAge time.Duration
	// FlatpakOwners names the repositories that may serve a flatpak found in more than
	// one; for other flatpaks the first seen counts.
	FlatpakOwners []indexer.FlatpakOwner
	// Logins reports whether clients log in. Then podman is sent elsewhere to search: see
	// package login.
	Logins bool
	// Assertions reports whether /assert is served.
	Assertions bool
	// Login finds out who calls the management API; nil: everybody may read, and nobody change
	// anything.
	Login *login.Login
	// Changes does what the management API asks for; nil on a reader, which cannot.
	Changes Changer
	// Jobs has the leader run jobs; nil on a reader, which cannot.
	Jobs Jobs
	// InternalSecret is what a request for a job has to know. Without it, nobody may, unless
	// InternalOpen is true: then everybody may.
	InternalSecret string
	InternalOpen   bool
	// Package configures the registry of packages of pesde.
	Package PackageConfig
	// Log receives messages for the operator; nil: none.
	Log *slog.Logger
}

// A Clients serves the clients of other protocols.
type Clients struct {
	config   Config
	answerer *answer.Answerer
	indexes  answer.Documents // of flatpak
	making   *answer.Turns    // limits the indexes made at the same time
	owners   flatpakOwners
	changing *answer.Places // limits the changes that are waited for
	jobs     *answer.Places // limits the jobs that are waited for
	log      *slog.Logger

	publishing *answer.Turns // limits the archives in memory
	gits       *answer.Turns // limits the copies of the index that are served

	downloading *answer.Turns // limits the parts of packages in memory

	refusedAt atomic.Int64 // when a refused request for a job was last logged, in Unix nanoseconds
}

// At most maxChanging changes and maxJobs runs of jobs are waited for at once, for one client at
// most half of that. A request that waits has a goroutine, and asks the database twice a second.
const (
	maxChanging = 200
	maxJobs     = 20
)

// New returns the Clients configured by c.
func New(c Config) *Clients {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Clients{
		changing: answer.NewPlaces(maxChanging, maxChanging/2), jobs: answer.NewPlaces(maxJobs, maxJobs/2), log: c.Log,
		config: c, answerer: c.Answerer, indexes: answer.NewDocuments(),
		publishing: answer.TurnsOf(maxPublishing, maxPublishingEach), gits: answer.TurnsOf(maxGits, maxGitsEach),
		downloading: answer.TurnsOf(maxDownloading, maxDownloadingEach),
		making:      answer.TurnsOf(maxMaking, maxMakingEach), owners: ownersOf(c.FlatpakOwners),
	}
}
