package postgres

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/deliver"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A hearer is a webhook that may hear of what a transaction changes.
type hearer struct {
	ID      int64
	Pattern string
	Events  []string
}

// hearersOf selects the webhooks for which events are queued, of those that have one of the
// patterns $1. Without webhooks, it is all that a push costs more.
const hearersOf = `
	SELECT id, pattern, events FROM webhook WHERE enabled AND missing_since IS NULL AND pattern = ANY($1)`

// outgoing are the events of one transaction, and who hears of them. A webhook that is made
// while the transaction runs may miss them.
type outgoing struct {
	hearers []hearer
	events  []deliver.Event
}

// queueHearers queues a statement that reads who may hear of what happens in repositories.
func (o *outgoing) queueHearers(batch *pgx.Batch, repositories []string) {
	var patterns []string
	for _, name := range repositories {
		for _, p := range access.PatternsOf(name) {
			patterns = append(patterns, p.String())
		}
	}
	slices.Sort(patterns)
	pg.Queue(batch, &o.hearers, hearersOf, slices.Compact(patterns))
}

// heard reports whether anybody may hear.
func (o *outgoing) heard() bool { return len(o.hearers) > 0 }

// add adds an event.
func (o *outgoing) add(e deliver.Event) {
	if o.heard() {
		o.events = append(o.events, e)
	}
}

// A newDelivery is a row of webhook_delivery.
type newDelivery struct {
	WebhookID  int64
	Event      string
	Type       string
	Subject    string
	Data       string
	HappenedAt time.Time
}

var addDeliveries = `
	INSERT INTO webhook_delivery (webhook_id, event, type, subject, data, happened_at)
	SELECT webhook_id, event, type, subject, data::json, happened_at FROM ` + pg.Unnest[newDelivery]("d", 1)

// store queues the events for those who hear of them.
func (o *outgoing) store(ctx context.Context, tx pgx.Tx) error {
	var rows []newDelivery
	for _, h := range o.hearers {
		pattern, err := access.ParsePattern(h.Pattern)
		if err != nil {
			continue // no push may fail by it
		}
		for _, e := range o.events {
			if !slices.Contains(h.Events, string(e.Type)) || !pattern.Includes(e.Scope) {
				continue
			}
			row, err := deliveryOf(h.ID, e)
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, addDeliveries, pg.Arrays(rows)...)
	return err
}

func deliveryOf(webhook int64, e deliver.Event) (newDelivery, error) {
	data, err := json.Marshal(e.Data)
	return newDelivery{webhook, e.ID, string(e.Type), e.Subject(), string(data), e.At}, err
}

// tell queues events in a transaction, for all webhooks that hear of them. Call it late in the
// transaction, under the locks that order what the events tell.
func tell(ctx context.Context, tx pgx.Tx, events ...deliver.Event) error {
	o := outgoing{events: events}
	var patterns []string
	for _, e := range events {
		patterns = append(patterns, access.PatternsIncluding(e.Scope)...)
	}
	var err error
	if o.hearers, err = pg.Collect[hearer](ctx, tx, hearersOf, patterns); err != nil {
		return err
	}
	return o.store(ctx, tx)
}

// Tell queues events for all webhooks that hear of them.
func (s *Store) Tell(ctx context.Context, events ...deliver.Event) error {
	err := s.begin(ctx, func(tx pgx.Tx, _ cluster) error { return tell(ctx, tx, events...) })
	return pg.Wrap("events for webhooks", err)
}

// A recordedMove is a move that was added to the history.
type recordedMove struct {
	ID                   int64
	Repository, Tag      string
	SeenBy               string
	FromDigest, ToDigest []byte
	SeenAt               time.Time
}

// event returns what a move tells.
func (m recordedMove) event() deliver.Event {
	kind := deliver.Moved
	switch {
	case m.ToDigest == nil:
		kind = deliver.Deleted
	case m.FromDigest == nil:
		kind = deliver.Pushed
	}
	e := deliver.NewEvent(kind, deliver.Data{
		Repository: m.Repository, Tag: m.Tag, Digest: pg.DigestFrom(m.ToDigest), Previous: pg.DigestFrom(m.FromDigest),
		Move: m.ID, SeenBy: string(indexer.SeenBy(m.SeenBy)),
	})
	e.At = m.SeenAt
	return e
}
