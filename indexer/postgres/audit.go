package postgres

import (
	"context"
	"fmt"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A newRecord is a record to add to audit. Digest is that of a deleted manifest or blob, to
// find out which of them it was; nil for all else.
type newRecord struct {
	Event, Actor, Claimed, Token, Source, Target, Repository, Outcome, Request, Detail string

	ReportedAt *time.Time
	Digest     []byte
}

// addRecords adds records in their order. The registry reports the deletion of a blob in the
// same words as that of a manifest, so what is known to be a blob is recorded as one. LIMIT
// makes sure that a digest is looked up, and no table read whole.
var addRecords = `
	INSERT INTO audit (event, actor, claimed, token, source, target, repository, outcome, request, detail, reported_at)
	SELECT CASE WHEN r.digest IS NOT NULL AND (SELECT 1 FROM manifest m WHERE m.digest = r.digest LIMIT 1) IS NULL
			AND (SELECT 1 FROM blob b WHERE b.digest = r.digest LIMIT 1) IS NOT NULL THEN '` + string(access.BlobDelete) + `' ELSE r.event END,
		r.actor, r.claimed, r.token, r.source, r.target, r.repository, r.outcome, r.request, r.detail, r.reported_at
	FROM ` + pg.Unnest[newRecord]("r", 1)

// newRecordOf returns a record as a row to add.
func newRecordOf(r access.Record) newRecord {
	return newRecord{
		Event: string(r.Event), Actor: indexer.CleanText(r.Actor.Name), Claimed: indexer.CleanText(r.Actor.Claimed),
		Token: r.Actor.Token, Source: r.Actor.Source, Target: indexer.CleanText(r.Target), Repository: r.Repository,
		Outcome: r.Outcome(), Request: r.Request, Detail: indexer.CleanText(r.Detail), ReportedAt: pg.TimeOrNull(r.Reported),
	}
}

// record adds a record of what the actor of ctx did, in a transaction.
func record(ctx context.Context, tx pgx.Tx, r access.Record) error {
	r.Actor, r.Request = access.ActorOf(ctx), indexer.RequestOf(ctx)
	_, err := tx.Exec(ctx, addRecords, pg.Arrays([]newRecord{newRecordOf(r)})...)
	return err
}

// Record adds a record of what the actor of ctx did.
func (s *Store) Record(ctx context.Context, r access.Record) error {
	err := s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error { return record(ctx, tx, r) })
	return pg.Wrap("audit", err)
}

// RecordAll adds records, each with its own actor and request.
func (s *Store) RecordAll(ctx context.Context, all []access.Record) error {
	var rows []newRecord
	for _, r := range all {
		rows = append(rows, newRecordOf(r))
	}
	err := s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error {
		_, err := tx.Exec(ctx, addRecords, pg.Arrays(rows)...)
		return err
	})
	return pg.Wrap("audit", err)
}

// A recordRow is a row of audit.
type recordRow struct {
	ID                                           int64
	At                                           time.Time
	Event, Actor, Claimed, Token, Source, Target string
	Repository, Outcome, Request, Detail         string
	ReportedAt                                   *time.Time
}

const recordColumns = `
	id, at, event, actor, claimed, token, source, target, repository, outcome, request, detail, reported_at`

func (r recordRow) record() access.Record {
	return access.Record{
		ID: r.ID, At: r.At, Event: access.Event(r.Event),
		Actor:  access.Actor{Name: r.Actor, Claimed: r.Claimed, Token: r.Token, Source: r.Source},
		Target: r.Target, Repository: r.Repository, Refused: r.Outcome == access.Refused, Request: r.Request,
		Detail: r.Detail, Reported: pg.TimeOrZero(r.ReportedAt),
	}
}

// Audit returns records, the latest first.
func (s *Store) Audit(ctx context.Context, q access.AuditQuery) ([]access.Record, error) {
	return s.records(ctx, auditWhere(q).OrderBy("id DESC").Suffix("LIMIT ?", q.Limit))
}

func (s *Store) records(ctx context.Context, sel sq.SelectBuilder) (all []access.Record, err error) {
	rows, err := pg.Selected[recordRow](ctx, s.pool, sel)
	for _, r := range rows {
		all = append(all, r.record())
	}
	return all, pg.Wrap("audit", err)
}

// auditWhere selects the records of a query.
func auditWhere(q access.AuditQuery) sq.SelectBuilder {
	sel := pg.Builder.Select(recordColumns).From("audit")
	for column, value := range map[string]string{
		"actor": q.Actor, "target": q.Target, "repository": q.Repository, "event": string(q.Event), "outcome": q.Outcome,
	} {
		if value != "" {
			sel = sel.Where(sq.Eq{column: indexer.CleanText(value)})
		}
	}
	if q.Repository != "" {
		sel = sel.Where("repository <> ''") // the condition of the index
	}
	if q.Before > 0 {
		sel = sel.Where("id < ?", q.Before)
	}
	return within(sel, q.Since, q.Until)
}

// timeSlack is the most time between the begin of a transaction and its last record: 1 min.
// The time of a record is that of the begin, and its id is given later.
const timeSlack = time.Minute

// within selects the records of a time. It limits their ids too, so that an index in order of
// id leads to the time at once: without, the first page of a day last week would read, and
// drop, all that came later.
func within(sel sq.SelectBuilder, since, until time.Time) sq.SelectBuilder {
	if !since.IsZero() {
		const after = "id > COALESCE((SELECT id FROM audit WHERE at < ? ORDER BY at DESC LIMIT 1), 0)"
		sel = sel.Where("at >= ?", since).Where(after, since.Add(-timeSlack))
	}
	if !until.IsZero() {
		const before = "id < COALESCE((SELECT id FROM audit WHERE at > ? ORDER BY at LIMIT 1), 9223372036854775807)"
		sel = sel.Where("at < ?", until).Where(before, until.Add(timeSlack))
	}
	return sel
}

// exportSlack is how old a record is when it is exported: 5 s. Ids are given before they are
// committed, so of two that are recorded at once, the larger may be seen first; a reader who
// goes on after it would miss the other.
const exportSlack = 5 * time.Second

// shownUntil is the time until which a server shows all commits: now on a primary, and on a
// standby the time of the last commit that it has replayed. If a standby has replayed none since
// it started, that time is unknown and nothing is exported. It is a subquery so that it is
// computed once, and an index on at is used.
const shownUntil = `(SELECT CASE WHEN pg_is_in_recovery()
	THEN COALESCE(pg_last_xact_replay_timestamp(), '-infinity') ELSE now() END)`

// AuditAfter returns records in the order of their ids, the first after an id. It leaves out
// those that another one with a smaller id might still come before.
func (s *Store) AuditAfter(ctx context.Context, after int64, q access.AuditQuery) ([]access.Record, error) {
	// OFFSET 0 keeps the planner from reading ids from the first on.
	settled := fmt.Sprintf(`id < COALESCE((SELECT min(id) FROM (
		SELECT id FROM audit WHERE at > %s - interval '%d s' OFFSET 0) AS latest), 9223372036854775807)`,
		shownUntil, exportSlack/time.Second)
	return s.records(ctx, auditWhere(q).Where("id > ?", after).Where(settled).OrderBy("id").Suffix("LIMIT ?", q.Limit))
}
