package pg

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// A Pending is a transaction with statements that were not sent yet. Flush sends
// them in one round trip: the function that queues a statement may leave that to a
// later one, which needs a result.
type Pending struct {
	pgx.Batch
	Tx pgx.Tx
}

// Flush sends the statements that were queued since the last Flush, and runs what
// was to be done with their results.
func (p *Pending) Flush(ctx context.Context) error {
	if p.Len() == 0 {
		return nil
	}
	batch := p.Batch
	p.Batch = pgx.Batch{}
	return p.Tx.SendBatch(ctx, &batch).Close()
}
