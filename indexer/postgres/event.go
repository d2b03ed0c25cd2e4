package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// Receive stores events and the tasks that they ask for, in one transaction, and
// returns how many it had not stored before. Of an event that comes twice the
// second does nothing.
//
// An event from a registry process that never sent one before means that the
// registry was restarted, and that it lost the events it had not delivered: it
// asks for a scan.
func (s *Store) Receive(ctx context.Context, events []indexer.Event) (fresh int, err error) {
	err = s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error {
		fresh = 0
		stored, err := storeEvents(ctx, tx, events)
		if err != nil {
			return err
		}
		var asks []indexer.Ask
		instances := map[string]bool{}
		for _, e := range events {
			if !stored[e.ID] {
				continue
			}
			stored[e.ID] = false // the envelope may hold it twice
			fresh++
			asks = append(asks, asksOf(e)...)
			instances[e.Instance] = e.Instance != ""
		}
		pending := &pg.Pending{Tx: tx}
		queueAsk(&pending.Batch, asks)
		return meet(ctx, pending, instances)
	})
	return fresh, pg.Wrap("receive events", err)
}

// storeEvents returns the ids that were not stored before.
//
// The registry names the same time whenever it sends an event again, and the
// table's key is both. A time that is missing, or too far from now for there to
// be a partition (7 days, 1 hour), gives way to now, which differs each time:
// such an id is looked for at any time.
func storeEvents(ctx context.Context, tx pgx.Tx, events []indexer.Event) (map[string]bool, error) {
	const q = `
		INSERT INTO event (id, at, action, repository, tag, digest, media_type, actor, user_agent, instance)
		SELECT $1, COALESCE(usable.at, now()), $3, $4, $5, $6::bytea, $7, $8, $9, $10
		FROM (SELECT CASE WHEN $2::timestamptz BETWEEN now() - interval '7 days' AND now() + interval '1 hour' THEN $2 END) AS usable (at)
		WHERE usable.at IS NOT NULL OR NOT EXISTS (SELECT FROM event WHERE id = $1)
		ON CONFLICT DO NOTHING`
	batch := &pgx.Batch{}
	stored := map[string]bool{}
	for _, e := range events {
		batch.Queue(q, indexer.CleanText(e.ID), pg.TimeOrNull(e.At), indexer.CleanText(e.Action), e.Repository, e.Tag, pg.DigestBytes(e.Digest),
			indexer.CleanText(e.MediaType), indexer.CleanText(e.Actor), indexer.CleanText(e.UserAgent), indexer.CleanText(e.Instance))
	}
	results := tx.SendBatch(ctx, batch)
	for _, e := range events {
		tag, err := results.Exec()
		if err != nil {
			results.Close()
			return nil, err
		}
		if tag.RowsAffected() > 0 {
			stored[e.ID] = true
		}
	}
	return stored, results.Close()
}

// asksOf says where an event tells us to look: at the tag, and at the manifest
// where the event names no tag.
func asksOf(e indexer.Event) []indexer.Ask {
	a := indexer.Ask{Repository: e.Repository, Priority: indexer.PriorityEvent}
	switch {
	case e.Tag != "":
		a.Reference, a.Hint = e.Tag, e.Digest
	case e.Digest != "":
		a.Reference = e.Digest.String()
	default:
		return nil
	}
	return []indexer.Ask{a}
}

// maxInstances is how many instances are remembered, the newest: a registry that
// restarts five times a day comes to 900 in keepInstances. One that is forgotten
// because others were made up asks for another scan with its next event.
const maxInstances = 1000

// meet remembers instances, and asks for a scan if one of them is new. It flushes what
// is pending.
func meet(ctx context.Context, pending *pg.Pending, instances map[string]bool) error {
	var met int64
	for id, named := range instances {
		if !named {
			continue
		}
		const q = "INSERT INTO registry_instance (id) VALUES ($1) ON CONFLICT DO NOTHING"
		pending.Queue(q, indexer.CleanText(id)).Exec(func(tag pgconn.CommandTag) error {
			met += tag.RowsAffected()
			return nil
		})
	}
	if err := pending.Flush(ctx); err != nil || met == 0 {
		return err
	}
	const forget = `
		DELETE FROM registry_instance WHERE id IN (
			SELECT id FROM registry_instance ORDER BY first_seen_at DESC, id OFFSET $1 FOR UPDATE SKIP LOCKED)`
	if _, err := pending.Tx.Exec(ctx, forget, maxInstances); err != nil {
		return err
	}
	return requestScan(ctx, pending.Tx, byInstance)
}
