package search_test

import (
	"testing"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/postgrestest"
)

type shelf struct{ postgrestest.Shelf }

var (
	now     = postgrestest.Now
	made    = postgrestest.Made
	listing = postgrestest.Listing
	parsed  = postgrestest.Parsed
)

func newShelf(t *testing.T) shelf { return shelf{postgrestest.New(t)} }

// stock returns a filled shelf, and one of its images.
func stock(t *testing.T) (s shelf, nginx indexer.Manifest) {
	s = newShelf(t)
	return s, s.Stock()
}
