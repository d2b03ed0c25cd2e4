// Package clients serves the clients of other protocols: docker search, package search,
// flatpak, OCI referrers, and /assert for integration tests.
package clients

import (
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
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
}

// A Clients serves the clients of other protocols.
type Clients struct {
	config   Config
	answerer *answer.Answerer
	indexes  answer.Documents // of flatpak
	making   *answer.Turns    // limits the indexes made at the same time
	owners   flatpakOwners
}

// New returns the Clients configured by c.
func New(c Config) *Clients {
	return &Clients{
		config: c, answerer: c.Answerer, indexes: answer.NewDocuments(),
		making: answer.TurnsOf(maxMaking, maxMakingEach), owners: ownersOf(c.FlatpakOwners),
	}
}
