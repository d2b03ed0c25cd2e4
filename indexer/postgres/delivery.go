package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/deliver"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// claimWebhook claims a webhook with something due. A webhook that is not enabled or rests after
// a failure is still sent pings.
const claimWebhook = `
	UPDATE webhook w SET claims = w.claims + 1, leased_until = now() + $1 * interval '1 second'
	WHERE w.id = (
		SELECT o.id FROM webhook o WHERE (o.leased_until IS NULL OR o.leased_until <= now()) AND (
			o.enabled AND (o.rest_until IS NULL OR o.rest_until <= now()) AND EXISTS (
				SELECT FROM webhook_delivery d WHERE d.webhook_id = o.id AND d.state = 'waiting' AND d.next_at <= now())
			OR EXISTS (SELECT FROM webhook_delivery d WHERE d.webhook_id = o.id AND d.state = 'waiting' AND d.type = 'ping'))
		LIMIT 1 FOR UPDATE SKIP LOCKED
	)
	RETURNING ` + webhookColumns + `, w.claims, w.secret, CASE WHEN w.old_until > now() THEN w.old_secret END AS old_secret,
		COALESCE(extract(epoch FROM now() - w.failing_since), 0)::float8 AS failing_for,
		w.enabled AND (w.rest_until IS NULL OR w.rest_until <= now()) AS open`

// dueDeliveries selects the deliveries of webhook $1 that are due, in the order in which they are
// sent. If $2, all are; else only pings.
const dueDeliveries = "SELECT " + deliveryColumns + ` FROM webhook_delivery d
	WHERE d.webhook_id = $1 AND d.state = 'waiting' AND d.next_at <= now() AND ($2 OR d.type = 'ping')
	ORDER BY d.next_at, d.id LIMIT $3`

type claimedWebhook struct {
	webhookRow
	Claims            int64
	Secret, OldSecret []byte
	FailingFor        float64
	Open              bool
}

// ClaimWebhook implements deliver.Store.
func (s *Store) ClaimWebhook(ctx context.Context, lease time.Duration, limit int) (c deliver.Claim, err error) {
	err = s.begin(ctx, func(tx pgx.Tx, _ cluster) error {
		found, err := pg.Collect[claimedWebhook](ctx, tx, claimWebhook, lease.Seconds())
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return indexer.ErrNotFound
		}
		r := found[0]
		rows, err := pg.Collect[deliveryRow](ctx, tx, dueDeliveries, r.ID, r.Open, limit)
		if err != nil {
			return err
		}
		c = deliver.Claim{
			Number: r.Claims, Sealed: r.Secret, SealedOld: r.OldSecret,
			FailingFor: time.Duration(r.FailingFor * float64(time.Second)),
		}
		for _, d := range rows {
			c.Deliveries = append(c.Deliveries, d.delivery())
		}
		c.Webhook, err = r.webhook()
		return err
	})
	return c, pg.Wrap("claim a webhook", err)
}

// endAttempt renews the lease of webhook $1 for the claim $2, and stores how it fares; a ping
// says nothing of that. It returns whether the claim may go on: not if the webhook was changed.
const endAttempt = `
	UPDATE webhook w SET leased_until = now() + $3 * interval '1 second',
		failures = CASE WHEN $4 THEN w.failures WHEN $5 = '' THEN 0 ELSE w.failures + 1 END,
		failing_since = CASE WHEN $4 THEN w.failing_since WHEN $5 <> '' THEN COALESCE(w.failing_since, now()) END,
		rest_until = CASE WHEN $4 THEN w.rest_until WHEN $5 <> '' THEN now() + $6 * interval '1 second' END,
		missing_since = CASE WHEN $7 <> '' AND w.enabled THEN COALESCE(w.missing_since, now()) ELSE w.missing_since END,
		problem = CASE WHEN w.enabled THEN $7 ELSE w.problem END,
		enabled = w.enabled AND $7 = ''
	WHERE w.id = $1 AND w.claims = $2
	RETURNING (w.enabled OR $4) AND w.url = $8 AND w.secret = $9`

const endDelivery = `
	UPDATE webhook_delivery SET state = $2, attempts = attempts + 1, tried_at = now(), status = $3, reason = $4, took = $5,
		next_at = now() + $6 * interval '1 second', ended_at = CASE WHEN $2 <> 'waiting' THEN now() END
	WHERE id = $1 AND state = 'waiting'`

// EndAttempt implements deliver.Store.
func (s *Store) EndAttempt(
	ctx context.Context, c deliver.Claim, d deliver.Delivery, r deliver.Result, lease time.Duration,
) error {
	goesOn := false
	err := s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error {
		same, err := pg.Column[bool](ctx, tx, endAttempt, c.Webhook.ID, c.Number, lease.Seconds(), d.Type == deliver.Ping,
			r.Reason, r.Rest.Seconds(), r.Pause, c.Webhook.URL, c.Sealed)
		if err != nil {
			return err
		}
		if len(same) == 0 {
			return indexer.ErrNotFound
		}
		goesOn = same[0]
		_, err = tx.Exec(ctx, endDelivery, d.ID, r.State, r.Status, r.Reason, r.Took.Milliseconds(), r.Next.Seconds())
		if err != nil || r.Pause == "" {
			return err
		}
		paused := webhookRecord(access.WebhookPause, c.Webhook)
		paused.Detail += ": " + r.Pause
		return record(access.WithActor(ctx, access.Actor{Name: access.Ourselves}), tx, paused)
	})
	if err == nil && !goesOn && r.Pause == "" {
		if err := s.ReleaseWebhook(ctx, c); err != nil {
			return err
		}
		err = indexer.ErrNotFound
	}
	return pg.Wrap(fmt.Sprintf("delivery %d", d.ID), err)
}

// ReleaseWebhook implements deliver.Store.
func (s *Store) ReleaseWebhook(ctx context.Context, c deliver.Claim) error {
	const q = "UPDATE webhook SET leased_until = NULL WHERE id = $1 AND claims = $2"
	_, err := s.pool.Exec(ctx, q, c.Webhook.ID, c.Number)
	return pg.Wrap("release a webhook", err)
}

// TidiedWebhooks counts what TidyWebhooks did.
type TidiedWebhooks struct {
	Full, Told, Expired, Deleted int64
}

// TidyWebhooks counts what waits for each webhook. Where too much does, no more is queued; where
// that is over, the receiver is told that it has missed something. It gives up what has waited
// too long, and deletes old rows of the log.
func (s *Store) TidyWebhooks(ctx context.Context) (n TidiedWebhooks, err error) {
	steps := []struct {
		count *int64
		sql   string
		args  []any
	}{
		{new(int64), `
			UPDATE webhook w SET waiting = c.n FROM (
				SELECT o.id, (SELECT count(*) FROM webhook_delivery d WHERE d.webhook_id = o.id AND d.state = 'waiting')::int AS n
				FROM webhook o
			) AS c WHERE c.id = w.id AND c.n <> w.waiting`, nil},
		{&n.Full, "UPDATE webhook SET missing_since = now() WHERE missing_since IS NULL AND waiting > $1",
			[]any{deliver.MaxWaiting}},
		{&n.Expired, `
			UPDATE webhook_delivery SET state = 'failed', ended_at = now(),
				reason = CASE WHEN attempts = 0 THEN 'it was not delivered within three days: the webhook rested or was not enabled'
					ELSE reason END
			WHERE state = 'waiting' AND queued_at < now() - $1 * interval '1 second'`, []any{deliver.GiveUp.Seconds()}},
		{&n.Deleted, `
			DELETE FROM webhook_delivery d WHERE d.state <> 'waiting' AND d.ended_at < now() - $1 * interval '1 second'`,
			[]any{deliver.LogAge.Seconds()}},
		{&n.Deleted, `
			WITH first AS MATERIALIZED (
				SELECT w.id, (SELECT o.id FROM webhook_delivery o WHERE o.webhook_id = w.id AND o.state <> 'waiting'
					ORDER BY o.id DESC OFFSET $1 LIMIT 1) AS kept FROM webhook w
			)
			DELETE FROM webhook_delivery d USING first WHERE d.webhook_id = first.id AND d.state <> 'waiting' AND d.id < first.kept`,
			[]any{deliver.MaxLog - 1}},
		{&n.Deleted, `DELETE FROM webhook_delivery d WHERE NOT EXISTS (SELECT FROM webhook w WHERE w.id = d.webhook_id)`, nil},
	}
	for _, step := range steps {
		done, err := s.pool.Exec(ctx, step.sql, step.args...)
		if err != nil {
			return n, pg.Wrap("tidy webhooks", err)
		}
		*step.count += done.RowsAffected()
	}
	n.Told, err = s.tellMissed(ctx)
	return n, err
}

// tellMissed tells the webhooks for which events are queued again that they have missed some.
func (s *Store) tellMissed(ctx context.Context) (told int64, err error) {
	const over = `
		UPDATE webhook w SET missing_since = NULL FROM (
			SELECT id, missing_since FROM webhook WHERE enabled AND missing_since IS NOT NULL AND waiting <= $1 FOR UPDATE
		) AS was WHERE was.id = w.id RETURNING w.id, was.missing_since`
	type row struct {
		ID           int64
		MissingSince time.Time
	}
	err = s.begin(ctx, func(tx pgx.Tx, _ cluster) error {
		rows, err := pg.Collect[row](ctx, tx, over, deliver.MaxWaiting/2)
		if err != nil {
			return err
		}
		var added []newDelivery
		for _, r := range rows {
			since := r.MissingSince.UTC()
			d, err := deliveryOf(r.ID, deliver.NewEvent(deliver.Missed, deliver.Data{Webhook: r.ID, Since: &since}))
			if err != nil {
				return err
			}
			added = append(added, d)
		}
		told = int64(len(added))
		_, err = tx.Exec(ctx, addDeliveries, pg.Arrays(added)...)
		return err
	})
	return told, pg.Wrap("tell what was missed", err)
}

// webhookStatus returns how events are sent to webhooks.
func webhookStatus(ctx context.Context, db pg.Querier) (indexer.WebhookStatus, error) {
	const q = `
		SELECT count(*)::int AS "all", count(*) FILTER (WHERE problem <> '')::int AS paused,
			count(*) FILTER (WHERE enabled AND failures > 0)::int AS failing, COALESCE(sum(waiting), 0)::int AS waiting,
			COALESCE(max(extract(epoch FROM now() - oldest.queued_at)) FILTER (WHERE enabled), 0)::float8 AS oldest
		FROM webhook w LEFT JOIN LATERAL (
			SELECT d.queued_at FROM webhook_delivery d WHERE d.webhook_id = w.id AND d.state = 'waiting' ORDER BY d.id LIMIT 1
		) AS oldest ON true`
	type row struct {
		All, Paused, Failing, Waiting int
		Oldest                        float64
	}
	rows, err := pg.Collect[row](ctx, db, q)
	if err != nil || len(rows) == 0 {
		return indexer.WebhookStatus{}, pg.Wrap("webhooks", err)
	}
	r := rows[0]
	oldest := time.Duration(max(r.Oldest, 0) * float64(time.Second))
	return indexer.WebhookStatus{All: r.All, Paused: r.Paused, Failing: r.Failing, Waiting: r.Waiting, Oldest: oldest}, nil
}
