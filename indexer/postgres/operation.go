package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/deliver"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// maxOpenOperations is the maximum number of operations of one actor that are not over: 1,000.
// It keeps one user from filling the table, and the queue of the writers.
const maxOpenOperations = 1000

// maxOperationsADay is the maximum number of operations of one actor within a day: 10,000. They are
// kept for 90 days. A plan, or the deletion of a repository, is one.
const maxOperationsADay = 10_000

// maxOperationError is the maximum number of characters of the error of an operation: 2,000.
const maxOperationError = 2000

// operationLock is an advisory lock. A transaction that adds an operation holds it, so that
// operations of a repository are committed in the order of their ids.
const operationLock = 0x706f7274_6f706572 // "portoper"

// operationEvents are the events by which operations are recorded.
var operationEvents = map[indexer.OperationKind]access.Event{
	indexer.Untag: access.TagDelete, indexer.DeleteManifest: access.ImageDelete,
	indexer.DeleteRepository: access.RepositoryDelete, indexer.Restore: access.ImageRestore,
	indexer.Rollback: access.TagRollback, indexer.ApplyPlan: access.PlanApply,
}

// An operationRow is a row of operation.
type operationRow struct {
	ID                            int64
	Kind, Repository, Tag         string
	Digest                        []byte
	Options                       []byte
	Actor, Token, Source, Request string
	CreatedAt                     time.Time
	StartedAt, EndedAt            *time.Time
	State                         string
	Done, Total                   int32
	Error                         string
	Result                        []byte
	Attempts, Claims              int32
}

const operationColumns = `
	id, kind, repository, tag, digest, options, actor, token, source, request, created_at, started_at, ended_at, state, done,
	total, error, result, attempts, claims`

func (r operationRow) operation() (o indexer.Operation, err error) {
	o = indexer.Operation{
		ID: r.ID, Kind: indexer.OperationKind(r.Kind), Repository: r.Repository, Tag: r.Tag, Digest: pg.DigestFrom(r.Digest),
		Actor: r.Actor, Token: r.Token, Source: r.Source, Request: r.Request, CreatedAt: r.CreatedAt,
		StartedAt: pg.TimeOrZero(r.StartedAt), EndedAt: pg.TimeOrZero(r.EndedAt), State: indexer.OperationState(r.State),
		Done: int(r.Done), Total: int(r.Total), Error: r.Error, Attempts: int(r.Attempts), Claims: int(r.Claims),
	}
	if err := json.Unmarshal(r.Options, &o.Options); err != nil {
		return o, fmt.Errorf("options of operation %d: %s", r.ID, err) // not ErrInvalid: it is not the client's
	}
	if err := json.Unmarshal(r.Result, &o.Result); err != nil {
		return o, fmt.Errorf("result of operation %d: %s", r.ID, err)
	}
	return o, nil
}

// AddOperation stores an operation that is to be performed, with the record of who asked for
// it. The actor of ctx must have its permit.
func (s *Store) AddOperation(ctx context.Context, o indexer.Operation) (added indexer.Operation, err error) {
	what := fmt.Sprintf("operation %s", o.Kind)
	o.Options.Permitted = access.PermitOf(ctx) != nil
	options, err := json.Marshal(o.Options)
	if err != nil {
		return o, err
	}
	actor := access.ActorOf(ctx)
	err = s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error {
		if err := permitted(ctx, tx); err != nil {
			return err
		}
		if err := mayAddOperation(ctx, tx, actor.Name); err != nil {
			return err
		}
		const q = `
			INSERT INTO operation (kind, repository, tag, digest, options, actor, token, source, request)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING ` + operationColumns
		row, err := one[operationRow](ctx, tx, what, q, string(o.Kind), o.Repository, o.Tag, pg.DigestBytes(o.Digest),
			options, indexer.CleanText(actor.Name), actor.Token, actor.Source, indexer.RequestOf(ctx))
		if err != nil {
			return err
		}
		if added, err = row.operation(); err != nil {
			return err
		}
		return record(ctx, tx, recordOfOperation(added))
	})
	if errors.Is(err, indexer.ErrForbidden) || errors.Is(err, indexer.ErrConflict) {
		return added, err
	}
	return added, pg.Wrap(what, err)
}

// mayAddOperation takes the lock of the table, and returns an ErrConflict if an actor has too
// many operations that are not over.
func mayAddOperation(ctx context.Context, tx pgx.Tx, actor string) error {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(operationLock)); err != nil {
		return err
	}
	const q = "SELECT id FROM operation WHERE ended_at IS NULL AND actor = $1 LIMIT $2"
	open, err := pg.Column[int64](ctx, tx, q, actor, maxOpenOperations)
	if err == nil && len(open) == maxOpenOperations {
		return indexer.Conflict("%d operations of yours are not over: wait for them", maxOpenOperations)
	}
	if err != nil {
		return err
	}
	const earlier = `
		SELECT id FROM (SELECT id, created_at FROM operation WHERE actor = $1 ORDER BY id DESC OFFSET $2 LIMIT 1) AS o
		WHERE created_at > now() - interval '1 day'`
	full, err := pg.Column[int64](ctx, tx, earlier, actor, maxOperationsADay-1)
	if err == nil && len(full) > 0 {
		return indexer.Conflict("%d operations of yours were asked for within a day, the most: a plan of many deletions is"+
			" one", maxOperationsADay)
	}
	return err
}

// recordOfOperation returns the record of an operation that somebody asked for.
func recordOfOperation(o indexer.Operation) access.Record {
	r := access.Record{
		Event: cmp.Or(operationEvents[o.Kind], access.OperationAdd), Repository: o.Repository, Target: o.Target(),
		Detail: fmt.Sprintf("operation %d", o.ID),
	}
	if o.Tag != "" && o.Digest != "" {
		r.Detail += ": " + o.Digest.String()
	}
	return r
}

// MayStill returns an ErrForbidden if whoever asked for an operation had to have a right for it
// and has it no more: an operation may wait for long, for the registry or for others.
func (s *Store) MayStill(ctx context.Context, o indexer.Operation) error {
	if !o.Options.Permitted {
		return nil
	}
	err := s.begin(ctx, func(tx pgx.Tx, _ cluster) error {
		who, err := subjectIn(ctx, tx, access.Actor{Name: o.Actor, Token: o.Token})
		if err != nil {
			return err
		}
		may := who.Administers()
		if !may {
			if may, err = mayPerform(ctx, tx, who, o); err != nil {
				return err
			}
		}
		if !may {
			return indexer.Forbidden("%s may not do this any more, since it was asked for", o.Actor)
		}
		return nil
	})
	if errors.Is(err, indexer.ErrForbidden) {
		return err
	}
	return pg.Wrap(fmt.Sprintf("right to operation %d", o.ID), err)
}

// mayPerform reports whether a subject has the right for an operation of its kind.
func mayPerform(ctx context.Context, tx pgx.Tx, who access.Subject, o indexer.Operation) (bool, error) {
	if o.Options.Plan > 0 {
		scopes, err := pg.Column[string](ctx, tx, "SELECT scope FROM plan WHERE id = $1", o.Options.Plan)
		if err != nil || len(scopes) == 0 {
			return false, err
		}
		scope, err := access.ParsePattern(scopes[0])
		return err == nil && who.Oversees(scope), err
	}
	needs := access.Push
	switch o.Kind {
	case indexer.Untag, indexer.DeleteManifest, indexer.DeleteRepository:
		needs = access.Delete
	}
	return o.Repository != "" && who.Allowed(o.Repository).Has(needs), nil
}

// Operation returns an operation, or ErrNotFound.
func (s *Store) Operation(ctx context.Context, id int64) (indexer.Operation, error) {
	what := fmt.Sprintf("operation %d", id)
	row, err := one[operationRow](ctx, s.pool, what, "SELECT "+operationColumns+" FROM operation WHERE id = $1", id)
	if err != nil {
		return indexer.Operation{}, err
	}
	return row.operation()
}

// Operations returns operations, the latest first.
func (s *Store) Operations(ctx context.Context, q indexer.OperationQuery) ([]indexer.Operation, error) {
	sel := pg.Builder.Select(operationColumns).From("operation").OrderBy("id DESC").Suffix("LIMIT ?", q.Limit)
	for column, value := range map[string]string{
		"repository": q.Repository, "actor": q.Actor, "kind": string(q.Kind), "state": string(q.State),
	} {
		if value != "" {
			sel = sel.Where(sq.Eq{column: indexer.CleanText(value)})
		}
	}
	if q.Before > 0 {
		sel = sel.Where("id < ?", q.Before)
	}
	rows, err := pg.Selected[operationRow](ctx, s.pool, sel)
	if err != nil {
		return nil, pg.Wrap("operations", err)
	}
	return operationsOf(rows)
}

func operationsOf(rows []operationRow) (all []indexer.Operation, err error) {
	for _, r := range rows {
		o, err := r.operation()
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

// ClaimOperation leases the first operation of one of the kinds that is due. Of those of one
// repository, and of those of several, only the first one that is not over is ever due; one that
// is to begin later keeps no others waiting, and waits for one that has begun. It returns
// ErrNotFound if none is due.
func (s *Store) ClaimOperation(
	ctx context.Context, kinds []indexer.OperationKind, lease time.Duration,
) (indexer.Operation, error) {
	const q = `
		WITH first AS (
			SELECT DISTINCT ON (repository) id FROM operation
			WHERE ended_at IS NULL AND NOT (claims = 0 AND run_after > now()) ORDER BY repository, claims = 0, id
		), due AS (
			SELECT o.id FROM operation o JOIN first ON first.id = o.id
			WHERE o.kind = ANY($1) AND o.ended_at IS NULL AND o.run_after <= now()
				AND (o.leased_until IS NULL OR o.leased_until <= now())
			ORDER BY o.run_after, o.id LIMIT 1 FOR UPDATE OF o SKIP LOCKED
		)
		UPDATE operation o SET state = 'running', leased_until = now() + $2 * interval '1 second', claims = claims + 1,
			attempts = attempts + 1, started_at = COALESCE(started_at, now())
		FROM due WHERE o.id = due.id RETURNING ` + operationColumnsOf
	row, err := one[operationRow](ctx, s.pool, "claim an operation", q, kinds, lease.Seconds())
	if err != nil {
		return indexer.Operation{}, err
	}
	return row.operation()
}

// operationColumnsOf is operationColumns of the table o.
const operationColumnsOf = `
	o.id, o.kind, o.repository, o.tag, o.digest, o.options, o.actor, o.token, o.source, o.request, o.created_at, o.started_at,
	o.ended_at, o.state, o.done, o.total, o.error, o.result, o.attempts, o.claims`

// RenewOperation extends the lease of an operation and stores its progress and its result so
// far. It returns ErrStale if another process has claimed it meanwhile.
func (s *Store) RenewOperation(ctx context.Context, o indexer.Operation, lease time.Duration) error {
	const set = "leased_until = now() + $6 * interval '1 second'"
	return s.updateOperation(ctx, s.pool, o, set, lease.Seconds())
}

// ReleaseOperation gives an operation back, to be tried again after a time. Its error says why.
// Unless the attempt counts, it is as if it had not been tried.
func (s *Store) ReleaseOperation(ctx context.Context, o indexer.Operation, after time.Duration, counts bool) error {
	const set = `leased_until = NULL, state = 'waiting', error = left($6, $7), run_after = now() + $8 * interval '1 second',
		attempts = attempts - CASE WHEN $9 THEN 0 ELSE 1 END`
	return s.updateOperation(ctx, s.pool, o, set, indexer.CleanText(o.Error), maxOperationError, after.Seconds(), counts)
}

// EndOperation ends an operation in its state, which is done or failed. A failed one is
// recorded with its error. Webhooks hear of what was restored, and of a plan that was applied.
func (s *Store) EndOperation(ctx context.Context, o indexer.Operation) error {
	const set = "leased_until = NULL, ended_at = now(), state = $6, error = left($7, $8)"
	err := s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error {
		err := s.updateOperation(ctx, tx, o, set, string(o.State), indexer.CleanText(o.Error), maxOperationError)
		if err != nil {
			return err
		}
		if err := tellEnd(ctx, tx, o); err != nil || o.State != indexer.OperationFailed {
			return err
		}
		r := recordOfOperation(o)
		r.Refused, r.Detail = true, fmt.Sprintf("operation %d failed: %.500s", o.ID, o.Error)
		actor := access.Actor{Name: o.Actor, Token: o.Token, Source: o.Source}
		return record(indexer.WithRequest(access.WithActor(ctx, actor), o.Request), tx, r)
	})
	return pg.Wrap(fmt.Sprintf("end operation %d", o.ID), err)
}

// tellEnd queues the events of an operation that ends. What a failed one has restored is told
// too: it is back.
func tellEnd(ctx context.Context, tx pgx.Tx, o indexer.Operation) error {
	done := o.State == indexer.OperationDone
	switch {
	case o.Kind == indexer.Restore && o.Result.Restored > 0:
		return tellRestored(ctx, tx, o)
	case o.Kind == indexer.Rollback && done && o.Result.Restored+o.Result.Tagged > 0:
		return tell(ctx, tx, deliver.NewEvent(deliver.Restored, deliver.Data{
			Repository: o.Repository, Tag: o.Tag, Digest: o.Digest, Operation: o.ID, Actor: o.Actor,
		}))
	case o.Kind == indexer.DeleteRepository && done:
		return tell(ctx, tx, deliver.NewEvent(deliver.Deleted, deliver.Data{
			Repository: o.Repository, Operation: o.ID, Actor: o.Actor,
		}))
	case o.Kind == indexer.ApplyPlan && done:
		return tellApplied(ctx, tx, o)
	}
	return nil
}

// tellRestored queues one event for each repository in which an operation has restored
// manifests. It names the manifest if there is only one.
func tellRestored(ctx context.Context, tx pgx.Tx, o indexer.Operation) error {
	const q = `
		SELECT repository, CASE count(DISTINCT digest) WHEN 1 THEN (array_agg(digest))[1] END AS digest
		FROM trash WHERE (id = ANY($1) OR operation_id = $2)
			AND restored_at >= (SELECT started_at FROM operation WHERE id = $3)
		GROUP BY repository ORDER BY repository`
	type row struct {
		Repository string
		Digest     []byte
	}
	rows, err := pg.Collect[row](ctx, tx, q, o.Options.Trash, o.Options.Undo, o.ID)
	if err != nil {
		return err
	}
	var events []deliver.Event
	for _, r := range rows {
		events = append(events, deliver.NewEvent(deliver.Restored, deliver.Data{
			Repository: r.Repository, Digest: pg.DigestFrom(r.Digest), Operation: o.ID, Actor: o.Actor,
		}))
	}
	return tell(ctx, tx, events...)
}

// tellApplied queues the event of a plan that was applied.
func tellApplied(ctx context.Context, tx pgx.Tx, o indexer.Operation) error {
	patterns, err := pg.Column[string](ctx, tx, "SELECT scope FROM plan WHERE id = $1", o.Options.Plan)
	if err != nil || len(patterns) == 0 {
		return err
	}
	scope, err := access.ParsePattern(patterns[0])
	if err != nil {
		return err
	}
	return tell(ctx, tx, deliver.NewPlanEvent(scope, deliver.Data{
		Plan: o.Options.Plan, Tags: o.Result.Untagged, Manifests: o.Result.Deleted, Operation: o.ID, Actor: o.Actor,
	}))
}

// updateOperation stores the progress and the result of an operation that the caller has
// claimed, and what set says, whose parameters begin with $6.
func (s *Store) updateOperation(
	ctx context.Context, db pg.Querier, o indexer.Operation, set string, args ...any,
) error {
	what := fmt.Sprintf("operation %d", o.ID)
	result, err := json.Marshal(o.Result)
	if err != nil {
		return err
	}
	q := `UPDATE operation SET done = $3, total = $4, result = $5, ` + set + `
		WHERE id = $1 AND claims = $2 AND ended_at IS NULL`
	changed, err := db.Exec(ctx, q, append([]any{o.ID, o.Claims, o.Done, o.Total, result}, args...)...)
	if err == nil && changed.RowsAffected() == 0 {
		err = ErrStale
	}
	return pg.Wrap(what, err)
}

// Unread returns how many of the references of a repository wait to be read because of an
// event, as after a change of ours. Those that were given up are not counted.
func (s *Store) Unread(ctx context.Context, repository string, references []string) (n int, err error) {
	const q = `
		SELECT count(*) FROM task WHERE repository = $1 AND reference = ANY($2) AND priority = 0 AND given_up_at IS NULL`
	err = s.pool.QueryRow(ctx, q, repository, references).Scan(&n)
	return n, pg.Wrap("unread references", err)
}
