package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/deliver"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A webhookRow is a row of webhook without its secrets.
type webhookRow struct {
	ID                                int64
	Name, URL, Pattern                string
	Events                            []string
	Enabled                           bool
	Problem, CreatedBy                string
	CreatedAt                         time.Time
	Waiting                           int
	MissingSince                      *time.Time
	Failures                          int
	FailingSince, RestUntil, OldUntil *time.Time
}

const webhookColumns = `w.id, w.name, w.url, w.pattern, w.events, w.enabled, w.problem, w.created_by, w.created_at, w.waiting,
	w.missing_since, w.failures, w.failing_since, w.rest_until,
	CASE WHEN w.old_until > now() THEN w.old_until END AS old_until`

func (r webhookRow) webhook() (deliver.Webhook, error) {
	w := deliver.Webhook{
		ID: r.ID, Name: r.Name, URL: r.URL, Enabled: r.Enabled, Problem: r.Problem, CreatedBy: r.CreatedBy,
		CreatedAt: r.CreatedAt, Waiting: r.Waiting, MissingSince: pg.TimeOrZero(r.MissingSince), Failures: r.Failures,
		FailingSince: pg.TimeOrZero(r.FailingSince), OldUntil: pg.TimeOrZero(r.OldUntil),
	}
	for _, t := range r.Events {
		w.Events = append(w.Events, deliver.Type(t))
	}
	var err error
	if w.Pattern, err = access.ParsePattern(r.Pattern); err != nil {
		return w, fmt.Errorf("the stored pattern of webhook %d: %s", r.ID, err) // not ErrInvalid: it is not the client's
	}
	return w, nil
}

func webhooksFrom(rows []webhookRow) (all []deliver.Webhook, err error) {
	for _, r := range rows {
		w, err := r.webhook()
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

// WebhookPage implements deliver.Directory.
func (s *Store) WebhookPage(ctx context.Context, q deliver.Query) ([]deliver.Webhook, error) {
	// As access.Pattern.Includes: what ends in * includes all that begins as it does.
	const within = `EXISTS (SELECT FROM unnest(?::text[]) AS own WHERE CASE WHEN right(own, 1) = '*'
		THEN starts_with(w.pattern, left(own, -1)) ELSE w.pattern = own END)`
	sel := pg.Builder.Select(webhookColumns).From("webhook w").Where("w.id > ?", q.After).
		Where(sq.Expr(within, texts(q.Within))).OrderBy("w.id").Suffix("LIMIT ?", q.Limit)
	rows, err := pg.Selected[webhookRow](ctx, s.pool, sel)
	if err != nil {
		return nil, pg.Wrap("webhooks", err)
	}
	return webhooksFrom(rows)
}

// Webhook implements deliver.Directory.
func (s *Store) Webhook(ctx context.Context, id int64) (deliver.Webhook, error) {
	r, err := one[webhookRow](ctx, s.pool, fmt.Sprintf("webhook %d", id),
		"SELECT "+webhookColumns+" FROM webhook w WHERE w.id = $1", id)
	if err != nil {
		return deliver.Webhook{}, err
	}
	return r.webhook()
}

// webhookRecord returns the record of what was done to a webhook. It has the host alone of its
// URL: the path may be known to few.
func webhookRecord(e access.Event, w deliver.Webhook) access.Record {
	return access.Record{Event: e, Target: fmt.Sprintf("webhook %d", w.ID), Detail: fmt.Sprintf("%s, to %s, of %s, %s, %s",
		w.Name, w.Host(), w.Pattern, strings.Join(typeTexts(w.Events), ","), w.State())}
}

func typeTexts(types []deliver.Type) (texts []string) {
	for _, t := range types {
		texts = append(texts, string(t))
	}
	return texts
}

// AddWebhook implements deliver.Directory.
func (s *Store) AddWebhook(ctx context.Context, w deliver.Webhook, sealed []byte) (id int64, err error) {
	if err := w.Check(); err != nil {
		return 0, err
	}
	const insert = `
		INSERT INTO webhook (name, url, pattern, events, secret, enabled, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7)
		RETURNING id`
	err = s.inAccess(ctx, "webhook", func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, insert, w.Name, w.URL, w.Pattern.String(), typeTexts(w.Events), sealed, w.Enabled,
			access.ActorOf(ctx).Name).Scan(&w.ID)
		if err != nil {
			return err
		}
		if err := webhooksAtMost(ctx, tx, w.Pattern); err != nil {
			return err
		}
		return record(ctx, tx, webhookRecord(access.WebhookAdd, w))
	})
	return w.ID, err
}

// webhooksAtMost returns an ErrConflict if there are too many webhooks, with that of a pattern.
func webhooksAtMost(ctx context.Context, tx pgx.Tx, p access.Pattern) error {
	err := atMost(ctx, tx, deliver.MaxWebhooks, "there would be more than %d webhooks: remove some",
		"SELECT count(*) FROM webhook")
	if err != nil {
		return err
	}
	return atMost(ctx, tx, deliver.MaxOfNamespace,
		"there would be more than %d webhooks for repositories of this namespace: remove some",
		"SELECT count(*) FROM webhook WHERE split_part(pattern, '/', 1) = split_part($1, '/', 1)", p.String())
}

// changeWebhook runs a statement that changes a webhook, which must have the pattern of w and then
// has the pattern after. $1 and $2 of the statement are the id and the pattern of w.
func (s *Store) changeWebhook(
	ctx context.Context, w deliver.Webhook, after access.Pattern, r access.Record, sql string, args ...any,
) error {
	what := fmt.Sprintf("webhook %d", w.ID)
	return s.inAccess(ctx, what, func(tx pgx.Tx) error {
		err := makeChanges(ctx, tx, r, change{sql, append([]any{w.ID, w.Pattern.String()}, args...)})
		if errors.Is(err, indexer.ErrNotFound) {
			return orMoved(ctx, tx, w.ID)
		}
		if err != nil || after == w.Pattern {
			return err
		}
		return webhooksAtMost(ctx, tx, after)
	})
}

// orMoved returns an ErrConflict if there is a webhook, which then has another pattern than it
// had.
func orMoved(ctx context.Context, tx pgx.Tx, id int64) error {
	found, err := pg.Column[int64](ctx, tx, "SELECT id FROM webhook WHERE id = $1", id)
	switch {
	case err != nil:
		return err
	case len(found) > 0:
		return indexer.Conflict("the webhook was changed meanwhile: look at it, and try again")
	}
	return indexer.ErrNotFound
}

// ChangeWebhook implements deliver.Directory. A webhook that is enabled again is told that it has
// missed events.
func (s *Store) ChangeWebhook(ctx context.Context, w deliver.Webhook, e deliver.Edit) error {
	after, err := e.Of(w)
	if err != nil {
		return err
	}
	const q = `
		UPDATE webhook SET name = $3, url = $4, pattern = $5, events = $6, enabled = $7, problem = $8,
			missing_since = CASE WHEN enabled AND NOT $7 THEN COALESCE(missing_since, now()) ELSE missing_since END,
			failures = CASE WHEN $7 AND NOT enabled THEN 0 ELSE failures END,
			failing_since = CASE WHEN $7 AND NOT enabled THEN NULL ELSE failing_since END,
			rest_until = CASE WHEN $7 AND NOT enabled OR url <> $4 THEN NULL ELSE rest_until END
		WHERE id = $1 AND pattern = $2`
	return s.changeWebhook(ctx, w, after.Pattern, webhookRecord(access.WebhookChange, after), q,
		after.Name, after.URL, after.Pattern.String(), typeTexts(after.Events), after.Enabled, after.Problem)
}

// RemoveWebhook implements deliver.Directory. The leader deletes its deliveries.
func (s *Store) RemoveWebhook(ctx context.Context, w deliver.Webhook) error {
	return s.changeWebhook(ctx, w, w.Pattern, webhookRecord(access.WebhookRemove, w),
		"DELETE FROM webhook WHERE id = $1 AND pattern = $2")
}

// RotateWebhook implements deliver.Directory.
func (s *Store) RotateWebhook(ctx context.Context, w deliver.Webhook, sealed []byte, overlap time.Duration) error {
	r := webhookRecord(access.WebhookRotate, w)
	r.Detail += fmt.Sprintf(", the old secret signs for %v more", overlap)
	const q = `
		UPDATE webhook SET old_secret = secret, old_until = now() + $4 * interval '1 second', secret = $3
		WHERE id = $1 AND pattern = $2`
	return s.changeWebhook(ctx, w, w.Pattern, r, q, sealed, overlap.Seconds())
}

// PingWebhook implements deliver.Directory.
func (s *Store) PingWebhook(ctx context.Context, w deliver.Webhook) (id int64, err error) {
	e := deliver.NewEvent(deliver.Ping, deliver.Data{Webhook: w.ID})
	d, err := deliveryOf(w.ID, e)
	if err != nil {
		return 0, err
	}
	const insert = `
		INSERT INTO webhook_delivery (webhook_id, event, type, subject, data, happened_at)
		SELECT w.id, $3, $4, '', $5, $6 FROM webhook w WHERE w.id = $1 AND w.pattern = $2
			AND (SELECT count(*) FROM webhook_delivery d WHERE d.webhook_id = w.id AND d.state = 'waiting' AND d.type = 'ping') < 10
		RETURNING id`
	err = s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error {
		if err := permitted(ctx, tx); err != nil {
			return err
		}
		ids, err := pg.Column[int64](ctx, tx, insert, w.ID, w.Pattern.String(), d.Event, d.Type, d.Data, d.HappenedAt)
		if err != nil {
			return err
		}
		if len(ids) == 0 {
			if err := orMoved(ctx, tx, w.ID); errors.Is(err, indexer.ErrNotFound) {
				return err
			}
			return indexer.Conflict("ten tests of the webhook wait already: is a writer of the indexer running?")
		}
		id = ids[0]
		return record(ctx, tx, webhookRecord(access.WebhookTest, w))
	})
	return id, said(fmt.Sprintf("webhook %d", w.ID), err)
}

// said returns an error that is written for the client as it is, and wraps any other.
func said(what string, err error) error {
	for _, kind := range []error{indexer.ErrForbidden, indexer.ErrConflict, indexer.ErrInvalid} {
		if errors.Is(err, kind) {
			return err
		}
	}
	return pg.Wrap(what, err)
}

// Redeliver implements deliver.Directory.
func (s *Store) Redeliver(ctx context.Context, w deliver.Webhook, delivery int64) error {
	const q = `
		UPDATE webhook_delivery d SET state = 'waiting', ended_at = NULL, queued_at = now(), next_at = clock_timestamp(),
			attempts = 0, reason = '', status = 0
		WHERE d.id = $1 AND d.webhook_id = $2 AND d.state <> 'waiting'
			AND (d.type = 'ping' OR (SELECT w.enabled FROM webhook w WHERE w.id = $2 AND w.pattern = $3))`
	what := fmt.Sprintf("delivery %d of webhook %d", delivery, w.ID)
	err := s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error {
		if err := permitted(ctx, tx); err != nil {
			return err
		}
		done, err := tx.Exec(ctx, q, delivery, w.ID, w.Pattern.String())
		if err != nil {
			return err
		}
		if done.RowsAffected() == 0 {
			return whyNotAgain(ctx, tx, w, delivery)
		}
		r := webhookRecord(access.WebhookRedeliver, w)
		r.Detail = fmt.Sprintf("delivery %d, %s", delivery, r.Detail)
		return record(ctx, tx, r)
	})
	return said(what, err)
}

// whyNotAgain returns why a delivery was not queued again.
func whyNotAgain(ctx context.Context, tx pgx.Tx, w deliver.Webhook, delivery int64) error {
	found, err := pg.Column[string](ctx, tx,
		"SELECT state FROM webhook_delivery WHERE id = $1 AND webhook_id = $2", delivery, w.ID)
	switch {
	case err != nil:
		return err
	case len(found) == 0:
		return indexer.ErrNotFound
	case found[0] == deliver.Waiting:
		return indexer.Conflict("the delivery waits already")
	}
	return indexer.Conflict("the webhook is not enabled: enable it first")
}

// A deliveryRow is a row of webhook_delivery.
type deliveryRow struct {
	ID, WebhookID        int64
	Event, Type, Subject string
	Data                 []byte
	HappenedAt, QueuedAt time.Time
	State                string
	NextAt               time.Time
	Attempts             int
	TriedAt              *time.Time
	Status               int
	Reason               string
	Took                 int
	EndedAt              *time.Time
	Age                  float64
}

const deliveryColumns = `d.id, d.webhook_id, d.event, d.type, d.subject, d.data, d.happened_at, d.queued_at, d.state, d.next_at,
	d.attempts, d.tried_at, d.status, d.reason, d.took, d.ended_at, extract(epoch FROM now() - d.queued_at)::float8 AS age`

func (r deliveryRow) delivery() deliver.Delivery {
	return deliver.Delivery{
		ID: r.ID, Webhook: r.WebhookID, Event: r.Event, Type: deliver.Type(r.Type), Subject: r.Subject, Data: r.Data,
		HappenedAt: r.HappenedAt, QueuedAt: r.QueuedAt, State: r.State, NextAt: r.NextAt, Attempts: r.Attempts,
		TriedAt: pg.TimeOrZero(r.TriedAt), Status: r.Status, Reason: r.Reason, Took: time.Duration(r.Took) * time.Millisecond,
		EndedAt: pg.TimeOrZero(r.EndedAt), Age: time.Duration(r.Age * float64(time.Second)),
	}
}

// Deliveries implements deliver.Directory.
func (s *Store) Deliveries(ctx context.Context, webhook, before int64, limit int) (all []deliver.Delivery, err error) {
	const q = "SELECT " + deliveryColumns + ` FROM webhook_delivery d
		WHERE d.webhook_id = $1 AND ($2 = 0 OR d.id < $2) ORDER BY d.id DESC LIMIT $3`
	rows, err := pg.Collect[deliveryRow](ctx, s.pool, q, webhook, before, limit)
	for _, r := range rows {
		all = append(all, r.delivery())
	}
	return all, pg.Wrap("deliveries", err)
}

// Delivery implements deliver.Directory.
func (s *Store) Delivery(ctx context.Context, webhook, id int64) (deliver.Delivery, error) {
	r, err := one[deliveryRow](ctx, s.pool, fmt.Sprintf("delivery %d", id),
		"SELECT "+deliveryColumns+" FROM webhook_delivery d WHERE d.webhook_id = $1 AND d.id = $2", webhook, id)
	return r.delivery(), err
}
