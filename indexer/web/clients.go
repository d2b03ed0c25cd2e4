package web

import (
	"time"

	"github.com/portbook/portbook/indexer"
)

// A clientServerConfig says what clients are answered, besides the book.
type clientServerConfig struct {
	Answerer *answerer
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

// A clientServer answers the clients of other protocols.
type clientServer struct {
	config   clientServerConfig
	answerer *answerer
	indexes  documents // flatpak's
	making   *turns    // to make one
	owners   flatpakOwners
}

func newClientServer(c clientServerConfig) *clientServer {
	return &clientServer{
		config: c, answerer: c.Answerer, making: turnsOf(maxMaking, maxMakingEach), owners: ownersOf(c.FlatpakOwners),
	}
}
