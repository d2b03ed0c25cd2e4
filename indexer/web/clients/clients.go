// Package clients answers the clients of other protocols: docker search, package
// search, flatpak, the referrers of OCI, and /assert for integration tests.
package clients

import (
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

// A Config says what clients are answered, besides the book.
type Config struct {
	Answerer *answer.Answerer
	// PublicURL is where clients reach the registry: an absolute URL, or "/"
	// for the host that answered. It is the Registry field of flatpak's index.
	PublicURL string
	// MaxAge is how long a cache may serve an answer without asking again.
	MaxAge time.Duration
	// FlatpakOwners say from where flatpaks are served that stand in more than one
	// repository; for others the first seen counts.
	FlatpakOwners []indexer.FlatpakOwner
	// Assertions says whether there is /assert.
	Assertions bool
}

// A Clients answers the clients of other protocols.
type Clients struct {
	config   Config
	answerer *answer.Answerer
	indexes  answer.Documents // flatpak's
	making   *answer.Turns    // to make one
	owners   flatpakOwners
}

// New returns the answers that c describes.
func New(c Config) *Clients {
	return &Clients{
		config: c, answerer: c.Answerer, making: answer.TurnsOf(maxMaking, maxMakingEach), owners: ownersOf(c.FlatpakOwners),
	}
}
