package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"
	"github.com/opencontainers/go-digest"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/retention"
)

const (
	// maxUnmade is the most plans that wait to be made: 20, and maxUnmadeEach of one user: 3. They
	// are made one after the other.
	maxUnmade     = 20
	maxUnmadeEach = 3
	// maxUnappliedRows is the most tags and manifests in the plans of one namespace that were asked
	// for within keepUnapplied and not applied: 10,000,000, in some 2.5 GB. Then no more are made.
	maxUnappliedRows = 10_000_000
	// keepUnapplied is how long each plan is kept that was not applied: 2 days, twice as long as it
	// can be. Later, the latest maxUnapplied of a namespace are kept: 50.
	keepUnapplied = 2 * retention.MaxPlanAge
	maxUnapplied  = 50
	// keepPlans is how long plans are kept: 90 days, so that somebody can look up why something
	// was deleted.
	keepPlans = 90 * 24 * time.Hour
	// planAttempts is how often a plan is begun or continued after its process died: 5.
	planAttempts = 5
)

// A planRow is a row of plan.
type planRow struct {
	ID                                          int64
	Scope, State, Reason, CreatedBy             string
	CreatedAt                                   time.Time
	MadeAt                                      *time.Time
	Rules                                       []byte
	Fingerprint                                 string
	Notes                                       []string
	Repositories, LeftOut                       int32
	Tags, TagsDeleted                           int64
	Manifests, ManifestsDeleted                 int64
	Percent                                     int32
	PercentOf                                   string
	Frees, Shared, Unknown, OperationID, UndoID *int64
	Error                                       string
}

const planColumns = `
	id, scope, state, reason, created_by, created_at, made_at, rules, fingerprint, notes, repositories, left_out, tags,
	tags_deleted, manifests, manifests_deleted, percent, percent_of, frees, shared, unknown, operation_id, undo_id, error`

func (r planRow) plan() (p retention.Plan, err error) {
	p = retention.Plan{
		ID: r.ID, State: retention.PlanState(r.State), Reason: r.Reason, CreatedAt: r.CreatedAt, CreatedBy: r.CreatedBy,
		MadeAt: pg.TimeOrZero(r.MadeAt), Notes: r.Notes, Repositories: int(r.Repositories), LeftOut: int(r.LeftOut),
		Tags:        r.Tags,
		TagsDeleted: r.TagsDeleted, Manifests: r.Manifests, ManifestsDeleted: r.ManifestsDeleted, Percent: int(r.Percent),
		PercentOf: r.PercentOf, Error: r.Error, Operation: orZero(r.OperationID), Undo: orZero(r.UndoID),
	}
	if r.Frees != nil {
		p.Freed = &indexer.Freed{Frees: *r.Frees, Shared: orZero(r.Shared), Unknown: orZero(r.Unknown)}
	}
	if p.Scope, err = access.ParsePattern(r.Scope); err == nil {
		err = json.Unmarshal(r.Rules, &p.Rules)
	}
	if err != nil {
		return p, fmt.Errorf("the stored plan %d: %s", r.ID, err) // not ErrInvalid: it is not the client's
	}
	return p, nil
}

func orZero(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

// plansIn reads plans, and sets which are stale.
func plansIn(ctx context.Context, db pg.Querier, sql string, args ...any) (all []retention.Plan, err error) {
	rows, err := pg.Collect[planRow](ctx, db, sql, args...)
	if err != nil {
		return nil, err
	}
	fingerprints := map[access.Pattern]string{}
	for _, r := range rows {
		p, err := r.plan()
		if err != nil {
			return nil, err
		}
		if _, known := fingerprints[p.Scope]; !known {
			rules, err := rulesOfRetention(ctx, db, p.Scope)
			if err != nil {
				return nil, err
			}
			fingerprints[p.Scope] = retention.Fingerprint(rules)
		}
		if p.State == retention.PlanMade {
			p.Stale = retention.PlanStale(p.MadeAt, time.Now(), r.Fingerprint, fingerprints[p.Scope])
		}
		all = append(all, p)
	}
	return all, nil
}

// Plan returns a plan, or ErrNotFound.
func (s *Store) Plan(ctx context.Context, id int64) (retention.Plan, error) {
	all, err := plansIn(ctx, s.pool, "SELECT "+planColumns+" FROM plan WHERE id = $1", id)
	if err == nil && len(all) == 0 {
		err = indexer.ErrNotFound
	}
	if err != nil {
		return retention.Plan{}, pg.Wrap(fmt.Sprintf("plan %d", id), err)
	}
	return all[0], nil
}

// Plans returns plans, the latest first.
func (s *Store) Plans(ctx context.Context, q retention.PlanQuery) ([]retention.Plan, error) {
	const within = `EXISTS (SELECT FROM unnest(?::text[]) AS own WHERE CASE WHEN right(own, 1) = '*'
		THEN starts_with(scope, left(own, -1)) ELSE scope = own END)`
	sel := pg.Builder.Select(planColumns).From("plan").Where(within,
		texts(q.Within)).OrderBy("id DESC").Suffix("LIMIT ?", q.Limit)
	if q.Before > 0 {
		sel = sel.Where("id < ?", q.Before)
	}
	sql, args, err := sel.ToSql()
	if err != nil {
		return nil, err
	}
	all, err := plansIn(ctx, s.pool, sql, args...)
	return all, pg.Wrap("plans", err)
}

// AddPlan stores that a plan is to be made, for the actor of ctx. It returns ErrConflict if too
// many wait.
func (s *Store) AddPlan(ctx context.Context, scope access.Pattern, reason string) (p retention.Plan, err error) {
	const q = "INSERT INTO plan (scope, reason, created_by) VALUES ($1, $2, $3) RETURNING " + planColumns
	err = s.inPlans(ctx, "plan", func(tx pgx.Tx) error {
		all, err := plansIn(ctx, tx, q, scope.String(), reason, access.ActorOf(ctx).Name)
		if err != nil {
			return err
		}
		p = all[0]
		if err := limitPlans(ctx, tx, p); err != nil {
			return err
		}
		return record(ctx, tx, access.Record{
			Event: access.PlanMake, Target: scope.String(), Detail: fmt.Sprintf("plan %d", p.ID),
		})
	})
	return p, err
}

// limitPlans returns an ErrConflict if there are too many plans, with one that was asked for.
func limitPlans(ctx context.Context, tx pgx.Tx, p retention.Plan) error {
	err := atMost(ctx, tx, maxUnmade, "%d plans wait to be made, the most: wait until one is",
		"SELECT count(*) FROM plan WHERE state IN ('waiting', 'making')")
	if err != nil {
		return err
	}
	err = atMost(ctx, tx, maxUnmadeEach, "%d plans of yours wait to be made, the most: wait until one is",
		"SELECT count(*) FROM plan WHERE state IN ('waiting', 'making') AND created_by = $1", p.CreatedBy)
	if err != nil || p.Reason != retention.ByRequest {
		return err
	}
	const rows = `
		SELECT COALESCE(sum(tags_deleted + manifests_deleted + listed), 0)::bigint FROM plan
		WHERE operation_id IS NULL AND reason = $1 AND created_at > now() - $2 * interval '1 second'
			AND split_part(scope, '/', 1) = split_part($3, '/', 1)`
	return atMost(ctx, tx, maxUnappliedRows,
		"the plans for this namespace of the last two days that were not applied list more than %d tags and manifests: apply"+
			" one, or wait", rows, p.Reason, keepUnapplied.Seconds(), p.Scope.String())
}

// forgetPlans deletes old plans, and returns how many. The rows of a plan are deleted in parts,
// since there may be a million.
func (s *Store) forgetPlans(ctx context.Context) (n int64, err error) {
	const old = `
		SELECT id FROM (
			SELECT id, created_at, operation_id,
				row_number() OVER (PARTITION BY split_part(scope, '/', 1), operation_id IS NULL ORDER BY id DESC) AS nth
			FROM plan WHERE state IN ('made', 'failed')
		) AS p
		WHERE created_at < now() - $1 * interval '1 second'
			OR operation_id IS NULL AND nth > $2 AND created_at < now() - $3 * interval '1 second'
		ORDER BY id`
	ids, err := pg.Column[int64](ctx, s.pool, old, keepPlans.Seconds(), maxUnapplied, keepUnapplied.Seconds())
	for _, id := range ids {
		for _, table := range []string{"plan_item", "plan_repository"} {
			q := "DELETE FROM " + table + " WHERE ctid = ANY (ARRAY(SELECT ctid FROM " + table + " WHERE plan_id = $1 LIMIT $2))"
			for rows := int64(forgottenAtOnce); rows == forgottenAtOnce && err == nil; {
				result, failed := s.pool.Exec(ctx, q, id, forgottenAtOnce)
				rows, err = result.RowsAffected(), failed
			}
		}
		if err == nil {
			_, err = s.pool.Exec(ctx, "DELETE FROM plan WHERE id = $1", id)
		}
		if err != nil {
			break
		}
		n++
	}
	return n, pg.Wrap("old plans", err)
}

// SincePlan returns how long ago the last plan was asked for by an interval, or ErrNotFound.
func (s *Store) SincePlan(ctx context.Context) (since time.Duration, err error) {
	const q = "SELECT extract(epoch FROM now() - max(created_at))::float8 FROM plan WHERE reason = 'interval'"
	var seconds *float64
	if err := s.pool.QueryRow(ctx, q).Scan(&seconds); err != nil {
		return 0, pg.Wrap("last plan", err)
	}
	if seconds == nil {
		return 0, fmt.Errorf("last plan: %w", indexer.ErrNotFound)
	}
	return time.Duration(*seconds * float64(time.Second)), nil
}

// A PlanClaim is a plan that this process makes. It is void when another process has claimed
// the plan.
type PlanClaim struct {
	ID    int64
	claim int32
}

// planLock is an advisory lock: one transaction at a time claims a plan, so that one at a time
// is made.
const planLock = 0x706f7274_706c616e // "portplan"

// ClaimPlan leases the first plan that is not made. It returns ErrNotFound if there is none,
// and while another one is made. A plan whose process dies again and again fails.
func (s *Store) ClaimPlan(ctx context.Context, lease time.Duration) (PlanClaim, error) {
	const give = `
		UPDATE plan SET state = 'failed', error = 'the indexer that made it died again and again: see its log'
		WHERE state IN ('waiting', 'making') AND attempts >= $1 AND leased_until <= now()`
	const q = `
		UPDATE plan SET state = 'making', attempts = attempts + 1, leased_until = now() + $1 * interval '1 second'
		WHERE id = (SELECT min(id) FROM plan WHERE state IN ('waiting', 'making'))
			AND NOT EXISTS (SELECT FROM plan WHERE state = 'making' AND leased_until > now())
		RETURNING id, attempts`
	var c PlanClaim
	err := s.begin(ctx, func(tx pgx.Tx, _ cluster) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(planLock)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, give, planAttempts); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, q, lease.Seconds()).Scan(&c.ID, &c.claim)
		if errors.Is(err, pgx.ErrNoRows) {
			err = indexer.ErrNotFound
		}
		return err
	})
	return c, pg.Wrap("claim a plan", err)
}

// FailPlan ends a plan that cannot be made.
func (s *Store) FailPlan(ctx context.Context, c PlanClaim, why string) error {
	const q = "UPDATE plan SET state = 'failed', error = $3, leased_until = NULL WHERE id = $1 AND attempts = $2 AND" +
		" state = 'making'"
	_, err := s.pool.Exec(ctx, q, c.ID, c.claim, why)
	return pg.Wrap(fmt.Sprintf("plan %d", c.ID), err)
}

// PlanRepositories returns repositories of a plan.
func (s *Store) PlanRepositories(
	ctx context.Context, q retention.RepositoryQuery,
) (all []retention.PlanRepository, err error) {
	sel := pg.Builder.Select("repository AS name", "tags", "tags_deleted", "manifests", "manifests_deleted", "size",
		"left_out", "stays",
		"listed").From("plan_repository").Where("plan_id = ?", q.Plan).Suffix("LIMIT ? OFFSET ?", q.Limit, q.Offset)
	if q.LeftOut {
		sel = sel.Where("left_out <> ''").OrderBy("repository")
	} else {
		sel = sel.Where("left_out = ''").OrderBy("tags_deleted + manifests_deleted DESC", "repository")
	}
	if q.Contains != "" {
		sel = sel.Where("strpos(repository, ?) > 0", indexer.CleanText(q.Contains))
	}
	type row struct {
		Name                                           string
		Tags, TagsDeleted, Manifests, ManifestsDeleted int32
		Size                                           int64
		LeftOut                                        string
		Stays                                          []byte
		Listed                                         bool
	}
	rows, err := pg.Selected[row](ctx, s.pool, sel)
	for _, r := range rows {
		of := retention.PlanRepository{
			Name: r.Name, Tags: int(r.Tags), TagsDeleted: int(r.TagsDeleted), Manifests: int(r.Manifests),
			ManifestsDeleted: int(r.ManifestsDeleted), Size: r.Size, LeftOut: r.LeftOut, Listed: r.Listed,
		}
		if err := json.Unmarshal(r.Stays, &of.Stays); err != nil {
			return nil, fmt.Errorf("what stays of %q: %s", r.Name, err)
		}
		all = append(all, of)
	}
	return all, pg.Wrap(fmt.Sprintf("repositories of plan %d", q.Plan), err)
}

// An itemRow is a row of plan_item.
type itemRow struct {
	Repository       string
	ID               int32
	Tag              string
	Digest           []byte
	Deleted          bool
	Code             string
	Rule             int64
	Reason           string
	Pulls            int64
	Outcome, Skipped string
}

const itemColumns = "repository, id, tag, digest, deleted, code, rule, reason, pulls, outcome, skipped"

func (r itemRow) item() retention.Item {
	return retention.Item{
		Repository: r.Repository, ID: int(r.ID), Outcome: r.Outcome, Skipped: r.Skipped, Decision: retention.Decision{
			Tag: r.Tag, Digest: pg.DigestFrom(r.Digest), Delete: r.Deleted, Pulls: r.Pulls,
			Reason: retention.Reason{Code: retention.Code(r.Code), Rule: r.Rule, Text: r.Reason},
		},
	}
}

// PlanItems returns items of a plan.
func (s *Store) PlanItems(ctx context.Context, q retention.ItemQuery) (all []retention.Item, err error) {
	sel := pg.Builder.Select(itemColumns).From("plan_item").Where("plan_id = ?", q.Plan).OrderBy("repository", "id").
		Suffix("LIMIT ?", q.Limit)
	if q.Repository != "" {
		sel = sel.Where(sq.Eq{"repository": indexer.CleanText(q.Repository)})
	}
	if q.Deleted != nil {
		sel = sel.Where(sq.Eq{"deleted": *q.Deleted})
	}
	if q.Tags != nil {
		sel = sel.Where("(tag <> '') = ?", *q.Tags)
	}
	if q.Outcome != "" {
		sel = sel.Where(sq.Eq{"outcome": q.Outcome})
	}
	if text := indexer.CleanText(q.Contains); text != "" {
		sel = sel.Where("(strpos(tag, ?) > 0 OR strpos('sha256:' || encode(digest, 'hex'), ?) > 0)", text, text)
	}
	if q.After != "" {
		sel = sel.Where("(repository, id) > (?, ?)", indexer.CleanText(q.After), q.AfterID)
	}
	rows, err := pg.Selected[itemRow](ctx, s.pool, sel)
	for _, r := range rows {
		all = append(all, r.item())
	}
	return all, pg.Wrap(fmt.Sprintf("items of plan %d", q.Plan), err)
}

// PlanOutcomes returns how many of the tags and manifests that a plan deletes were deleted and
// skipped.
func (s *Store) PlanOutcomes(ctx context.Context, plan int64) (o retention.Outcomes, err error) {
	const q = `
		SELECT count(*) FILTER (WHERE outcome = 'done' AND tag <> ''), count(*) FILTER (WHERE outcome = 'done' AND tag = ''),
			count(*) FILTER (WHERE outcome = 'skipped'), count(*) FILTER (WHERE outcome = '')
		FROM plan_item WHERE plan_id = $1 AND deleted`
	err = s.pool.QueryRow(ctx, q, plan).Scan(&o.Tags, &o.Manifests, &o.Skipped, &o.Left)
	return o, pg.Wrap(fmt.Sprintf("outcomes of plan %d", plan), err)
}

// BeginPlan says that an operation applies a plan. It returns ErrConflict if another one does
// or did, or if the plan is not made or is stale.
func (s *Store) BeginPlan(ctx context.Context, plan, operation int64) (retention.Plan, error) {
	p, err := s.Plan(ctx, plan)
	switch {
	case err != nil:
		return p, err
	case p.Operation == operation: // it goes on
		return p, nil
	case p.Operation != 0:
		return p, indexer.Conflict("plan %d was applied already, by operation %d", plan, p.Operation)
	case p.State != retention.PlanMade:
		return p, indexer.Conflict("plan %d is not made: its state is %s", plan, p.State)
	case p.Stale != "":
		return p, indexer.Conflict("plan %d is stale: %s", plan, p.Stale)
	}
	done, err := s.pool.Exec(ctx, "UPDATE plan SET operation_id = $2 WHERE id = $1 AND operation_id IS NULL", plan,
		operation)
	if err == nil && done.RowsAffected() == 0 {
		return p, indexer.Conflict("plan %d is applied by another operation", plan)
	}
	return p, pg.Wrap(fmt.Sprintf("plan %d", plan), err)
}

// SetUndo says which operation puts back what a plan has deleted.
func (s *Store) SetUndo(ctx context.Context, plan, operation int64) error {
	_, err := s.pool.Exec(ctx, "UPDATE plan SET undo_id = $2 WHERE id = $1", plan, operation)
	return pg.Wrap(fmt.Sprintf("plan %d", plan), err)
}

// NextPlanned returns the first repository after a name in which a plan still deletes
// something; "" if there is none.
func (s *Store) NextPlanned(ctx context.Context, plan int64, after string) (name string, err error) {
	const q = `
		SELECT repository FROM plan_item WHERE plan_id = $1 AND repository > $2 AND deleted AND outcome = ''
		ORDER BY repository, id LIMIT 1`
	err = s.pool.QueryRow(ctx, q, plan, after).Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return name, pg.Wrap(fmt.Sprintf("plan %d", plan), err)
}

// A PlanStep is a step of applying a plan, with the id of its item.
type PlanStep struct {
	retention.Step
	ID int
}

// A SecondLook is what the book has now of a repository of a plan.
type SecondLook struct {
	Steps           []PlanStep
	Tags, Manifests int             // that the repository has
	LeftOut         string          // why nothing can be decided now; "": it can
	InUse           []digest.Digest // what was reported to run
}

// LookAgain looks again at what a plan still deletes of a repository, as the book is now.
func (s *Store) LookAgain(ctx context.Context, plan retention.Plan, repository string) (look SecondLook, err error) {
	what := fmt.Sprintf("second look at %q", repository)
	goes := true
	items, err := s.PlanItems(ctx, retention.ItemQuery{Plan: plan.ID, Repository: repository, Deleted: &goes,
		Limit: 2 * maxPlanRows})
	if err != nil {
		return look, err
	}
	var left []retention.Decision
	ids := map[retention.Decision]int{}
	for _, i := range items {
		if i.Outcome == "" {
			left = append(left, i.Decision)
			ids[i.Decision] = i.ID
		}
	}
	var found planned
	var rules []retention.Rule
	var at time.Time
	err = s.beginAs(ctx, beginRead, func(tx pgx.Tx, _ cluster) error {
		if rules, err = rulesOfRetention(ctx, tx, plan.Scope); err != nil {
			return err
		}
		b, err := newPlanBook(ctx, tx, rules)
		if err != nil {
			return err
		}
		at = b.now
		found, err = b.repository(ctx, repository)
		return err
	})
	if err != nil {
		return look, pg.Wrap(what, err)
	}
	look = SecondLook{Tags: len(found.Tags), Manifests: len(found.Manifests), LeftOut: found.leftOut}
	for _, step := range retention.Again(left, plan.MadeAt, rules, found.Repository, at) {
		look.Steps = append(look.Steps, PlanStep{step, ids[step.Decision]})
	}
	for _, m := range found.Manifests {
		if m.InUse {
			look.InUse = append(look.InUse, m.Digest)
		}
	}
	return look, nil
}

// InUse returns the manifests of a repository that count as running.
func (s *Store) InUse(ctx context.Context, repository string) (all []digest.Digest, err error) {
	const q = "SELECT DISTINCT digest FROM in_use WHERE repository = $1 AND expires_at > now()"
	raw, err := pg.Column[[]byte](ctx, s.pool, q, repository)
	for _, d := range raw {
		all = append(all, pg.DigestFrom(d))
	}
	return all, pg.Wrap("what runs of "+repository, err)
}

// beginRead begins a transaction that sees one state. The planner of PostgreSQL knows the lists
// of ids that it gets.
const beginRead = "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL jit = off"

// repository reads one repository; it is empty if the book does not have it.
func (b *planBook) repository(ctx context.Context, name string) (planned, error) {
	ids, err := pg.Column[int32](ctx, b.tx, "SELECT id FROM repository WHERE name = $1", name)
	if err != nil || len(ids) == 0 {
		return planned{Repository: retention.Repository{Name: name}}, err
	}
	all, err := b.repositories(ctx, ids, []string{name})
	if err != nil {
		return planned{}, err
	}
	return all[0], nil
}

// An Outcome is what became of an item of a plan.
type Outcome struct {
	ID      int32
	Outcome string
	Skipped string
}

// EndItems stores what became of items of a repository of a plan.
func (s *Store) EndItems(ctx context.Context, plan int64, repository string, outcomes []Outcome) error {
	q := `
		UPDATE plan_item i SET outcome = o.outcome, skipped = o.skipped FROM ` + pg.Unnest[Outcome]("o", 3) + `
		WHERE i.plan_id = $1 AND i.repository = $2 AND i.id = o.id`
	_, err := s.pool.Exec(ctx, q, append([]any{plan, repository}, pg.Arrays(slices.Clone(outcomes))...)...)
	return pg.Wrap(fmt.Sprintf("outcomes of plan %d", plan), err)
}

// RenewPlan extends the lease of a plan. It returns ErrStale if another process makes it.
func (s *Store) RenewPlan(ctx context.Context, c PlanClaim, lease time.Duration) error {
	const q = `
		UPDATE plan SET leased_until = now() + $3 * interval '1 second' WHERE id = $1 AND attempts = $2 AND state = 'making'`
	done, err := s.pool.Exec(ctx, q, c.ID, c.claim, lease.Seconds())
	if err == nil && done.RowsAffected() == 0 {
		return ErrStale
	}
	return pg.Wrap(fmt.Sprintf("lease of plan %d", c.ID), err)
}

// UntaggedOnly returns the tags that a plan has deleted, of manifests that it has not, in order of
// repository and digest.
func (s *Store) UntaggedOnly(ctx context.Context, plan int64) (all []indexer.Trash, err error) {
	const q = `
		SELECT t.repository, t.digest, array_agg(t.tag ORDER BY t.tag) AS tags FROM plan_item t
		WHERE t.plan_id = $1 AND t.outcome = 'done' AND t.tag <> '' AND NOT EXISTS (
			SELECT FROM plan_item m WHERE m.plan_id = $1 AND m.repository = t.repository AND m.digest = t.digest AND m.tag = ''
				AND m.outcome = 'done')
		GROUP BY t.repository, t.digest ORDER BY t.repository, t.digest`
	type row struct {
		Repository string
		Digest     []byte
		Tags       []string
	}
	rows, err := pg.Collect[row](ctx, s.pool, q, plan)
	for _, r := range rows {
		all = append(all, indexer.Trash{Repository: r.Repository, Digest: pg.DigestFrom(r.Digest), Tags: r.Tags})
	}
	return all, pg.Wrap(fmt.Sprintf("tags that plan %d has deleted", plan), err)
}
