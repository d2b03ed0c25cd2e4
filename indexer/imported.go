package indexer

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// An ImportedTime says when something was created, as another system knew: a repository, a
// manifest, or a tag that shows a manifest.
type ImportedTime struct {
	Repository string
	Tag        string        // "": not a tag
	Digest     digest.Digest // "": the repository
	CreatedAt  time.Time
}
