package indexer

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// A PastRepository is a repository as it was at a time in the past, as far as it is known.
// Names, tags and digests come from the history of tags. What a manifest says of itself is
// known only if the book still has the manifest.
type PastRepository struct {
	Name        string
	Title       string // of the leading tag
	Description string
	Tags        int
	Leading     string        // the leading tag: see Repository; "" if there was none
	Digest      digest.Digest // that the leading tag showed
	MovedAt     time.Time     // the last move of a tag until then; zero if none is kept

	// Incomplete reports that the book no longer has some of the manifests that a search
	// would have looked at, or that there are too many tags to look at all. Then more
	// conditions may have matched.
	Incomplete bool
}

// PastResults are the repositories that matched a query at a time in the past.
type PastResults struct {
	Items []PastRepository
	// Next is the name after which the next page begins; "" if all repositories were looked
	// at. A page that ends early, because time was up, has fewer items than its limit.
	Next string
	// Incomplete reports that some repositories, also of those that did not match, could
	// not be looked at as a whole.
	Incomplete bool
}
