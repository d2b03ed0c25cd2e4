package pg

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// A Pending is a transaction with queued statements that have not been sent. Flush
// sends them in one round trip. A function may leave its statements queued for a
// later function that needs a result.
type Pending struct {
	pgx.Batch
	Tx pgx.Tx
}

// Flush sends the statements queued since the last Flush, and runs the functions
// that handle their results.
func (p *Pending) Flush(ctx context.Context) error {
	if p.Len() == 0 {
		return nil
	}
	batch := p.Batch
	p.Batch = pgx.Batch{}
	return p.Tx.SendBatch(ctx, &batch).Close()
}
