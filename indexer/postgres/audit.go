package postgres

import (
	"context"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// recordQuery adds a row to audit.
const recordQuery = `
	INSERT INTO audit (event, actor, token, source, target, outcome, request, detail)
	VALUES ($1, $2, $3, $4, $5, CASE WHEN $6 THEN 'refused' ELSE 'done' END, $7, $8)`

// record adds a record of what the actor of ctx did, in a transaction.
func record(ctx context.Context, tx pgx.Tx, r access.Record) error {
	a := access.ActorOf(ctx)
	_, err := tx.Exec(ctx, recordQuery, r.Event, indexer.CleanText(a.Name), a.Token, a.Source, indexer.CleanText(r.Target),
		r.Refused, indexer.RequestOf(ctx), indexer.CleanText(r.Detail))
	return err
}

// Record adds a record of what the actor of ctx did.
func (s *Store) Record(ctx context.Context, r access.Record) error {
	err := s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error { return record(ctx, tx, r) })
	return pg.Wrap("audit", err)
}

// Audit returns records, the latest first.
func (s *Store) Audit(ctx context.Context, q access.AuditQuery) (all []access.Record, err error) {
	const columns = "id, at, event, actor, token, source, target, outcome = 'refused' AS refused, request, detail"
	sel := pg.Builder.Select(columns).From("audit").OrderBy("id DESC").Suffix("LIMIT ?", q.Limit)
	for column, value := range map[string]string{"actor": q.Actor, "target": q.Target, "event": string(q.Event)} {
		if value != "" {
			sel = sel.Where(sq.Eq{column: indexer.CleanText(value)})
		}
	}
	if q.Before > 0 {
		sel = sel.Where("id < ?", q.Before)
	}
	type row struct {
		ID                                  int64
		At                                  time.Time
		Event, Actor, Token, Source, Target string
		Refused                             bool
		Request, Detail                     string
	}
	rows, err := pg.Selected[row](ctx, s.pool, sel)
	for _, r := range rows {
		all = append(all, access.Record{
			ID: r.ID, At: r.At, Event: access.Event(r.Event),
			Actor:  access.Actor{Name: r.Actor, Token: r.Token, Source: r.Source},
			Target: r.Target, Refused: r.Refused, Request: r.Request, Detail: r.Detail,
		})
	}
	return all, pg.Wrap("audit", err)
}
