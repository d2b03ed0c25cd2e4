package postgres

import (
	"context"
	"errors"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres/pg"
	"github.com/portbook/portbook/indexer/retention"
)

// A inUseRow is a row of in_use.
type inUseRow struct {
	Repository        string
	Digest            []byte
	Cluster, Reporter string
	ExpiresAt         time.Time
}

// ReportUse stores that manifests run, for the actor of ctx. What it has reported before stays
// until it expires, and counts from now on if it is reported again. It returns ErrConflict if
// more than retention.MaxUses of the reporter would count.
func (s *Store) ReportUse(ctx context.Context, uses []retention.Use) error {
	reporter := access.ActorOf(ctx).Name
	var rows []inUseRow
	for _, u := range uses {
		rows = append(rows, inUseRow{u.Repository, pg.DigestBytes(u.Digest), u.Cluster, reporter, u.ExpiresAt})
	}
	add := `
		INSERT INTO in_use (repository, digest, cluster, reporter, expires_at)
		SELECT DISTINCT ON (repository, digest, cluster) repository, digest, cluster, reporter, expires_at
		FROM ` + pg.Unnest[inUseRow]("u", 1) + ` ORDER BY repository, digest, cluster, expires_at DESC
		ON CONFLICT (repository, digest, cluster, reporter) DO UPDATE SET reported_at = now(), expires_at = excluded.expires_at`
	return s.inPlans(ctx, "report of what runs", func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM in_use WHERE expires_at <= now()"); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, add, pg.Arrays(rows)...); err != nil {
			return err
		}
		return atMost(ctx, tx, retention.MaxUses,
			"you have reported %d manifests, the most: report only what runs, or for a shorter time",
			"SELECT count(*) FROM in_use WHERE reporter = $1", reporter)
	})
}

// reportLock is an advisory lock: one transaction at a time reports what runs, or asks for a plan,
// so that the limits on their numbers hold.
const reportLock = 0x706f7274_72756e73 // "portruns"

// inPlans is inAccess for what changes nobody's rights: it does not change the version of access.
func (s *Store) inPlans(ctx context.Context, what string, f func(pgx.Tx) error) error {
	err := s.beginPartitioned(ctx, func(tx pgx.Tx, _ cluster) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(reportLock)); err != nil {
			return err
		}
		if err := permitted(ctx, tx); err != nil {
			return err
		}
		return f(tx)
	})
	if errors.Is(err, indexer.ErrForbidden) || errors.Is(err, indexer.ErrConflict) {
		return err
	}
	return pg.Wrap(what, err)
}

// Uses returns what counts as running.
func (s *Store) Uses(ctx context.Context, q retention.UseQuery) (all []retention.Use, err error) {
	const within = `EXISTS (SELECT FROM unnest(?::text[]) AS own WHERE CASE WHEN right(own, 1) = '*'
		THEN starts_with(repository, left(own, -1)) ELSE repository = own END)`
	sel := pg.Builder.Select("repository", "digest", "cluster", "reporter", "reported_at", "expires_at").From("in_use").
		Where("expires_at > now()").Where(within, texts(q.Within)).
		OrderBy("repository", "digest", "cluster", "reporter").Suffix("LIMIT ?", q.Limit)
	if q.Repository != "" {
		sel = sel.Where(sq.Eq{"repository": q.Repository})
	}
	if a := q.After; a != nil {
		sel = sel.Where("(repository, digest, cluster, reporter) > (?, ?, ?, ?)", a.Repository, pg.DigestBytes(a.Digest),
			a.Cluster,
			a.Reporter)
	}
	type row struct {
		inUseRow
		ReportedAt time.Time
	}
	rows, err := pg.Selected[row](ctx, s.pool, sel)
	for _, r := range rows {
		all = append(all, retention.Use{
			Repository: r.Repository, Digest: pg.DigestFrom(r.Digest), Cluster: r.Cluster, Reporter: r.Reporter,
			ReportedAt: r.ReportedAt, ExpiresAt: r.ExpiresAt,
		})
	}
	return all, pg.Wrap("what runs", err)
}
