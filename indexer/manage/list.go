package manage

import (
	"context"

	"github.com/portbook/portbook/indexer"
)

// Operation returns an operation, or ErrNotFound.
func (m *Manager) Operation(ctx context.Context, id int64) (indexer.Operation, error) {
	return m.Store.Operation(ctx, id)
}

// Operations returns operations, the latest first.
func (m *Manager) Operations(ctx context.Context, q indexer.OperationQuery) ([]indexer.Operation, error) {
	return m.Store.Operations(ctx, q)
}

// Trash returns what can be restored, the latest first.
func (m *Manager) Trash(ctx context.Context, q indexer.TrashQuery) ([]indexer.Trash, error) {
	return m.Store.Trash(ctx, q)
}

// TrashByID returns manifests of the trash in order of id. Those that do not exist are left out.
func (m *Manager) TrashByID(ctx context.Context, ids []int64) ([]indexer.Trash, error) {
	return m.Store.TrashByID(ctx, ids)
}
