package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/retention"
)

const (
	// planBatch is how many repositories one transaction of a plan looks at, at most: 1,000.
	planBatch = 1000
	// planRows is how many tags and manifests one transaction reads, at most, unless the first
	// repository has more: 20,000, some 15 MB of memory and 0.3 s.
	planRows = 20_000
	// maxDeleted is how many tags and manifests one plan deletes, but for the rest of a batch:
	// 1,000,000. It bounds the table and the memory that counts what is freed.
	maxDeleted = 1_000_000
	// maxListed is how many tags and manifests that stay a plan lists: 50,000, so that those of a
	// repository of 10,000 tags are. Of the others it has the numbers.
	maxListed = 50_000
)

// A making is a batch of a plan, in its transaction.
type making struct {
	*planBook
	claim    PlanClaim
	scope    access.Pattern
	cursor   string
	deleted  int64
	listed   int32
	percent  int32
	of       string
	sums     planSums
	rows     []planRepositoryRow
	items    []itemRow
	finished bool
}

// planSums are what a batch adds to the columns of a plan.
type planSums struct {
	repositories, leftOut                       int
	tags, tagsDeleted, manifests, manifestsGone int64
}

type planRepositoryRow struct {
	retention.PlanRepository
	stays []byte
}

// PlanNext makes a part of a plan, and reports whether that was the last one. The part is seen
// in one state of the book. It returns ErrStale if another process makes the plan.
func (s *Store) PlanNext(ctx context.Context, c PlanClaim, lease time.Duration) (last bool, err error) {
	what := fmt.Sprintf("plan %d", c.ID)
	err = s.beginAs(ctx, beginRead, func(tx pgx.Tx, _ cluster) error {
		m, err := s.newMaking(ctx, tx, c)
		if err != nil {
			return err
		}
		if err := m.batch(ctx); err != nil {
			return err
		}
		last = m.finished
		return m.store(ctx, lease)
	})
	if errors.Is(err, ErrStale) || errors.Is(err, indexer.ErrConflict) {
		return false, err
	}
	return last, pg.Wrap(what, err)
}

// newMaking locks a plan and reads how far it is.
func (s *Store) newMaking(ctx context.Context, tx pgx.Tx, c PlanClaim) (*making, error) {
	const q = `
		SELECT scope, cursor, tags_deleted + manifests_deleted AS deleted, listed, percent, percent_of, fingerprint
		FROM plan WHERE id = $1 AND attempts = $2 AND state = 'making' FOR UPDATE`
	m := &making{claim: c}
	var scope, before string
	err := tx.QueryRow(ctx, q, c.ID, c.claim).Scan(&scope, &m.cursor, &m.deleted, &m.listed, &m.percent, &m.of, &before)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrStale
	}
	if err == nil {
		m.scope, err = access.ParsePattern(scope)
	}
	if err != nil {
		return nil, err
	}
	rules, err := rulesOfRetention(ctx, tx, m.scope)
	if err != nil {
		return nil, err
	}
	fingerprint := retention.Fingerprint(rules)
	if before != "" && before != fingerprint {
		return nil, indexer.Conflict("the rules changed while the plan was made: make a new one")
	}
	if m.planBook, err = newPlanBook(ctx, tx, rules); err != nil || before != "" {
		return m, err
	}
	words := []string{}
	for _, r := range rules {
		words = append(words, fmt.Sprintf("rule %d (%s): %s", r.ID, r.Pattern, r.Sentence()))
	}
	text, err := json.Marshal(words)
	if err != nil {
		return nil, err
	}
	notes := append([]string{}, m.notes()...)
	if len(m.scans) == 0 {
		notes = append(notes, "No scan has finished yet, so the book may lack tags and manifests: nothing was decided.")
	}
	_, err = tx.Exec(ctx, "UPDATE plan SET rules = $2, fingerprint = $3, notes = $4 WHERE id = $1", c.ID, text,
		fingerprint, notes)
	return m, err
}

// A sized is a repository and how much the book has of it.
type sized struct {
	ID              int32
	Name            string
	Tags, Manifests int32
}

// next reads which repositories of the scope come next.
func (m *making) next(ctx context.Context) ([]sized, error) {
	const q = `
		SELECT r.id, r.name, (SELECT count(*) FROM tag t WHERE t.repository_id = r.id)::int AS tags,
			(SELECT count(*) FROM manifest f WHERE f.repository_id = r.id)::int AS manifests
		FROM repository r WHERE r.name > $1 AND r.name >= $2 AND r.name <= $3 ORDER BY r.name LIMIT $4`
	from, to := m.scope.String(), m.scope.String()
	if path, many := strings.CutSuffix(from, "*"); many {
		from, to = path, path+"\U0010FFFF"
	}
	return pg.Collect[sized](ctx, m.tx, q, m.cursor, from, to, planBatch)
}

// batch decides about the next repositories.
func (m *making) batch(ctx context.Context) error {
	all, err := m.next(ctx)
	if err != nil {
		return err
	}
	m.finished = len(all) < planBatch
	var ids []int32
	var names []string
	rows := int32(0)
	for i, r := range all {
		size := r.Tags + r.Manifests
		if i > 0 && rows+size > planRows {
			m.finished = false
			break
		}
		m.cursor = r.Name
		if r.Tags+r.Manifests == 0 {
			continue // it was deleted whole
		}
		m.sums.repositories++
		m.sums.tags += int64(r.Tags)
		m.sums.manifests += int64(r.Manifests)
		switch {
		case !retention.Deletes(retention.Of(m.rules, r.Name)):
		case len(m.scans) == 0:
			m.sums.leftOut++
		case size > maxPlanRows:
			m.leaveOut(planned{Repository: retention.Repository{Name: r.Name}, leftOut: fmt.Sprintf(
				"it has %d tags and manifests, more than %d", size, maxPlanRows)}, int(r.Tags), int(r.Manifests))
		default:
			ids, names, rows = append(ids, r.ID), append(names, r.Name), rows+size
		}
	}
	if err := m.decide(ctx, ids, names); err != nil {
		return err
	}
	if m.deleted += m.sums.tagsDeleted + m.sums.manifestsGone; m.deleted >= maxDeleted && !m.finished {
		m.finished = true
		return m.note(ctx,
			fmt.Sprintf("The plan is full: repositories after %s were not looked at. Apply it, and make another one.", m.cursor))
	}
	return nil
}

// note adds a sentence to the plan.
func (m *making) note(ctx context.Context, text string) error {
	_, err := m.tx.Exec(ctx, "UPDATE plan SET notes = notes || $2::text WHERE id = $1", m.claim.ID, text)
	return err
}

// decide decides about repositories.
func (m *making) decide(ctx context.Context, ids []int32, names []string) error {
	if len(ids) == 0 {
		return nil
	}
	all, err := m.repositories(ctx, ids, names)
	if err != nil {
		return err
	}
	for i := range all {
		p := &all[i]
		if p.leftOut != "" {
			m.leaveOut(*p, len(p.Tags), len(p.Manifests))
			continue
		}
		m.add(p.Repository, retention.Decide(m.rules, p.Repository, m.now))
	}
	return nil
}

func anyDeleted(decisions []retention.Decision) bool {
	for _, d := range decisions {
		if d.Delete {
			return true
		}
	}
	return false
}

func (m *making) leaveOut(p planned, tags, manifests int) {
	m.sums.leftOut++
	m.rows = append(m.rows, planRepositoryRow{
		retention.PlanRepository{Name: p.Name, Tags: tags, Manifests: manifests, LeftOut: p.leftOut}, []byte("{}"),
	})
}

// add adds the decisions about a repository to the plan, if something goes.
func (m *making) add(r retention.Repository, decisions []retention.Decision) {
	if !anyDeleted(decisions) {
		return
	}
	of := retention.PlanRepository{
		Name: r.Name, Tags: len(r.Tags), Manifests: len(r.Manifests), Stays: map[retention.Code]int{},
	}
	stay := 0
	for i, d := range decisions {
		switch {
		case !d.Delete:
			of.Stays[d.Reason.Code]++
			stay++
		case d.Tag != "":
			of.TagsDeleted++
		default:
			of.ManifestsDeleted++
			of.Size = indexer.AddSizes(of.Size, r.Manifests[i-len(r.Tags)].Size)
		}
	}
	if of.Listed = int(m.listed)+stay <= maxListed; of.Listed {
		m.listed += int32(stay)
	}
	for i, d := range decisions {
		if d.Delete || of.Listed {
			m.items = append(m.items, itemRow{
				Repository: r.Name, ID: int32(i), Tag: d.Tag, Digest: pg.DigestBytes(d.Digest), Deleted: d.Delete,
				Code: string(d.Reason.Code), Rule: d.Reason.Rule, Reason: indexer.CleanText(d.Reason.Text), Pulls: d.Pulls,
			})
		}
	}
	m.sums.tagsDeleted += int64(of.TagsDeleted)
	m.sums.manifestsGone += int64(of.ManifestsDeleted)
	if percent := int32(of.Percent()); percent > m.percent {
		m.percent, m.of = percent, r.Name
	}
	stays, _ := json.Marshal(of.Stays) // words and numbers always marshal
	m.rows = append(m.rows, planRepositoryRow{of, stays})
}

// store writes the batch.
func (m *making) store(ctx context.Context, lease time.Duration) error {
	repositories := pgx.CopyFromSlice(len(m.rows), func(i int) ([]any, error) {
		r := m.rows[i]
		return []any{
			m.claim.ID, r.Name, int32(r.Tags), int32(r.TagsDeleted), int32(r.Manifests), int32(r.ManifestsDeleted), r.Size,
			indexer.CleanText(r.LeftOut), string(r.stays), r.Listed,
		}, nil
	})
	_, err := m.tx.CopyFrom(ctx, pgx.Identifier{"plan_repository"}, []string{
		"plan_id", "repository", "tags", "tags_deleted", "manifests", "manifests_deleted", "size", "left_out", "stays",
		"listed",
	}, repositories)
	if err != nil {
		return err
	}
	items := pgx.CopyFromSlice(len(m.items), func(i int) ([]any, error) {
		r := m.items[i]
		return []any{m.claim.ID, r.Repository, r.ID, r.Tag, r.Digest, r.Deleted, r.Code, r.Rule, r.Reason, r.Pulls}, nil
	})
	_, err = m.tx.CopyFrom(ctx, pgx.Identifier{"plan_item"}, []string{
		"plan_id", "repository", "id", "tag", "digest", "deleted", "code", "rule", "reason", "pulls",
	}, items)
	if err != nil {
		return err
	}
	const q = `
		UPDATE plan SET cursor = $2, repositories = repositories + $3, left_out = left_out + $4, tags = tags + $5,
			tags_deleted = tags_deleted + $6, manifests = manifests + $7, manifests_deleted = manifests_deleted + $8,
			percent = $9, percent_of = $10, listed = $11, leased_until = now() + $12 * interval '1 second'
		WHERE id = $1`
	_, err = m.tx.Exec(ctx, q, m.claim.ID, m.cursor, m.sums.repositories, m.sums.leftOut, m.sums.tags, m.sums.tagsDeleted,
		m.sums.manifests, m.sums.manifestsGone, m.percent, m.of, m.listed, lease.Seconds())
	return err
}

// EndPlan counts what a plan frees, and ends it. Freed is not counted if that takes too long.
func (s *Store) EndPlan(ctx context.Context, c PlanClaim) error {
	what := fmt.Sprintf("plan %d", c.ID)
	freed, err := s.freedBy(ctx, c.ID)
	var frees, shared, unknown *int64
	switch {
	case err == nil:
		frees, shared, unknown = &freed.Frees, &freed.Shared, &freed.Unknown
	case !errors.Is(err, indexer.ErrTooSlow):
		return pg.Wrap(what, err)
	}
	const q = `
		UPDATE plan SET state = 'made', made_at = now(), leased_until = NULL, frees = $3, shared = $4, unknown = $5,
			percent = GREATEST(plan.percent, whole.percent),
			percent_of = CASE WHEN whole.percent > plan.percent THEN '' ELSE percent_of END
		FROM (
			SELECT GREATEST(COALESCE(ceil(100.0 * tags_deleted / NULLIF(tags, 0)), 0),
				COALESCE(ceil(100.0 * manifests_deleted / NULLIF(manifests, 0)), 0))::int AS percent
			FROM plan WHERE id = $1
		) AS whole
		WHERE id = $1 AND attempts = $2 AND state = 'making'`
	done, err := s.pool.Exec(ctx, q, c.ID, c.claim, frees, shared, unknown)
	if err == nil && done.RowsAffected() == 0 {
		return ErrStale
	}
	return pg.Wrap(what, err)
}

// freedBy counts what a plan frees.
func (s *Store) freedBy(ctx context.Context, plan int64) (freed indexer.Freed, err error) {
	const q = "SELECT repository, digest FROM plan_item WHERE plan_id = $1 AND deleted AND tag = ''"
	type row struct {
		Repository string
		Digest     []byte
	}
	rows, err := pg.Collect[row](ctx, s.pool, q, plan)
	if err != nil || len(rows) == 0 {
		return freed, err
	}
	refs := make([]indexer.ManifestRef, len(rows))
	for i, r := range rows {
		refs[i] = indexer.ManifestRef{Repository: r.Repository, Digest: pg.DigestFrom(r.Digest)}
	}
	err = s.View(ctx, indexer.Everyone, func(v *View) error {
		freed, err = v.Freed(ctx, refs)
		return err
	})
	return freed, err
}
