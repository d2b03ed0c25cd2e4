package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// A workloadRow is a row of workload with the name of its account.
type workloadRow struct {
	ID, Account, Issuer, Audience string
	Claims                        []string
	CreatedAt                     time.Time
}

const workloadsQuery = `
	SELECT w.id, a.name AS account, w.issuer, w.audience, w.claims, w.created_at
	FROM workload w JOIN account a ON a.id = w.account_id WHERE a.robot`

func (r workloadRow) workload() (access.Workload, error) {
	w := access.Workload{
		ID: r.ID, Account: r.Account, Issuer: r.Issuer, Audience: r.Audience, CreatedAt: r.CreatedAt,
	}
	for _, text := range r.Claims {
		c, err := access.ParseClaim(text)
		if err != nil {
			return w, fmt.Errorf("a stored claim of workload %s: %s", r.ID, err) // not ErrInvalid: it is not the client's
		}
		w.Claims = append(w.Claims, c)
	}
	return w, nil
}

func (s *Store) workloads(ctx context.Context, sql string, args ...any) (all []access.Workload, err error) {
	rows, err := pg.Collect[workloadRow](ctx, s.pool, sql, args...)
	if err != nil {
		return nil, pg.Wrap("workloads", err)
	}
	for _, r := range rows {
		w, err := r.workload()
		if err != nil {
			return nil, err
		}
		all = append(all, w)
	}
	return all, nil
}

// Workloads implements access.Store.
func (s *Store) Workloads(ctx context.Context, robot string) ([]access.Workload, error) {
	return s.workloads(ctx, workloadsQuery+" AND a.name = $1 ORDER BY w.created_at, w.id", robot)
}

// AllWorkloads returns the workloads of all robots, in order of name, the oldest first.
func (s *Store) AllWorkloads(ctx context.Context) ([]access.Workload, error) {
	return s.workloads(ctx, workloadsQuery+" ORDER BY a.name, w.created_at, w.id")
}

// AddWorkload adds a workload to a robot. It returns ErrInvalid if the account is no robot, has
// this workload already, or has access.MaxWorkloads.
func (s *Store) AddWorkload(ctx context.Context, w access.Workload) error {
	what := fmt.Sprintf("workload of %q", w.Account)
	r := access.Record{Event: access.WorkloadAdd, Target: w.Account, Detail: describe(w)}
	return s.inAccess(ctx, what, func(tx pgx.Tx) error {
		robots, err := pg.Column[bool](ctx, tx, "SELECT robot FROM account WHERE name = $1", w.Account)
		switch {
		case err != nil:
			return err
		case len(robots) == 0:
			return indexer.ErrNotFound
		case !robots[0]:
			return indexer.Invalid("%q is a person: only a robot can have workloads", w.Account)
		}
		const insert = `
			INSERT INTO workload (id, account_id, issuer, audience, claims) SELECT $1, a.id, $3, $4, $5 FROM account a
			WHERE a.name = $2 AND (SELECT count(*) FROM workload w WHERE w.account_id = a.id) < $6`
		done, err := tx.Exec(ctx, insert, w.ID, w.Account, w.Issuer, w.Audience, w.Texts(), access.MaxWorkloads)
		if err == nil && done.RowsAffected() == 0 {
			return indexer.Invalid("%q has %d workloads, which is the most: remove one, or add another robot",
				w.Account, access.MaxWorkloads)
		}
		if err != nil {
			return err
		}
		return record(ctx, tx, r)
	})
}

// describe writes a workload for its record.
func describe(w access.Workload) string {
	claims := strings.Join(w.Texts(), ", ")
	return fmt.Sprintf("workload %s, issuer %s, audience %s, %s", w.ID, w.Issuer, w.Audience, claims)
}

// DeleteWorkload removes a workload. What logged in by it is logged out.
func (s *Store) DeleteWorkload(ctx context.Context, id string) error {
	return s.changeAccess(ctx, fmt.Sprintf("workload %q", id), access.Record{Event: access.WorkloadRemove, Target: id},
		change{"DELETE FROM workload WHERE id = $1", []any{id}})
}
