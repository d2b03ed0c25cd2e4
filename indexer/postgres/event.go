package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// Receive stores events and enqueues their tasks in one transaction, and returns how
// many events were new. An event that was stored before has no effect. New ones are recorded
// in audit, if Config.Reports says so.
//
// An event from an unknown registry instance means that the registry was restarted
// and lost its undelivered events, so Receive requests a scan.
func (s *Store) Receive(ctx context.Context, events []indexer.Event) (fresh int, err error) {
	err = s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error {
		fresh = 0
		stored, err := storeEvents(ctx, tx, events)
		if err != nil {
			return err
		}
		var asks []indexer.Ask
		var news []indexer.Event
		instances := map[string]bool{}
		for _, e := range events {
			if !stored[e.ID] {
				continue
			}
			stored[e.ID] = false // one request may contain it twice
			fresh++
			news = append(news, e)
			asks = append(asks, asksOf(e)...)
			instances[e.Instance] = e.Instance != ""
		}
		pending := &pg.Pending{Tx: tx}
		queueAsk(&pending.Batch, asks)
		queueReports(&pending.Batch, s.config.Reports, news)
		s.queuePushes(&pending.Batch, news)
		return meet(ctx, pending, instances)
	})
	return fresh, pg.Wrap("receive events", err)
}

// eventAge and eventAhead are how long before and after it is received an event may say that
// it happened; of any other, the time is not believed.
const (
	eventAge   = 7 * 24 * time.Hour
	eventAhead = time.Hour
)

// storeEvents stores events and returns the ids of those that were new.
//
// The registry sends an event again with the same time, and the key of the table is
// both id and time. If the time is missing or too far from now to have a partition
// (more than 7 days ago or 1 hour ahead), now is stored instead. It differs each
// time, so such an id is looked up in all partitions.
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
		batch.Queue(q, e.ID, pg.TimeOrNull(e.At), e.Action, e.Repository, e.Tag, pg.DigestBytes(e.Digest),
			e.MediaType, e.Actor, e.UserAgent, e.Instance)
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

// asksOf returns what to read because of an event: its tag, or its manifest if the
// event names no tag.
func asksOf(e indexer.Event) []indexer.Ask {
	a := indexer.Ask{Repository: e.Repository, Priority: indexer.PriorityEvent}
	switch {
	case e.Tag != "":
		a.Reference, a.Hint = indexer.TagOrDigest(e.Tag), e.Digest
	case e.Digest != "":
		a.Reference = indexer.TagOrDigest(e.Digest)
	default:
		return nil
	}
	return []indexer.Ask{a}
}

// maxInstances is the maximum number of registry instances that are kept, the
// newest: 1,000. A registry that restarts five times a day has 900 within
// keepInstances. If made-up instances push out a real one, its next event requests
// one more scan.
const maxInstances = 1000

// meet stores instances, and requests a scan if one of them is new. It flushes
// pending statements.
func meet(ctx context.Context, pending *pg.Pending, instances map[string]bool) error {
	var met int64
	for id, named := range instances {
		if !named {
			continue
		}
		const q = "INSERT INTO registry_instance (id) VALUES ($1) ON CONFLICT DO NOTHING"
		pending.Queue(q, id).Exec(func(tag pgconn.CommandTag) error {
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
