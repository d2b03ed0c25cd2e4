package manage

import (
	"context"

	"github.com/portbook/portbook/indexer"
)

// Await returns an operation when it is over, or when ctx ends, like Do, but waits longer than
// Config.Wait.
func (m *Manager) Await(ctx context.Context, o indexer.Operation) (indexer.Operation, error) {
	patient := &Manager{Config: m.Config}
	patient.Wait = 0
	return patient.wait(ctx, o)
}

// Unlist takes a repository that has no manifest any more out of its project, although it still
// has blobs.
func (m *Manager) Unlist(ctx context.Context, repository string) error {
	return m.Store.UnlistLoose(ctx, repository)
}
