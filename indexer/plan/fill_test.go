package plan_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/plan"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/retention"
)

// fill stores repositories REPOSITORY-1, REPOSITORY-2 and so on directly, each with tags t1, t2
// and so on, of which the first was pushed an hour ago, the second two hours ago, and so on.
// Every tag shows an image of its own, and every tenth has a signature.
func fill(t testing.TB, pool *pgxpool.Pool, repository string, repositories, tags int) {
	t.Helper()
	args := pgx.NamedArgs{"name": repository, "repositories": repositories, "tags": tags}
	for _, q := range []string{
		`INSERT INTO media_type (id, name) VALUES (1000, 'application/vnd.oci.image.manifest.v1+json') ON CONFLICT DO NOTHING`,
		`INSERT INTO repository (name) SELECT @name || '-' || n FROM generate_series(1, @repositories::int) n`,
		`INSERT INTO manifest (repository_id, digest, media_type_id, kind, size, content_size, seen_at)
		SELECT r.id, sha256((r.name || ' ' || n)::bytea), 1000, 'image', 500, 1000000, now() - n * interval '1 hour'
		FROM repository r, generate_series(1, @tags::int) n WHERE starts_with(r.name, @name)`,
		`INSERT INTO manifest (repository_id, digest, media_type_id, kind, size, content_size, seen_at, subject)
		SELECT r.id, sha256((r.name || ' sig ' || n)::bytea), 1000, 'artifact', 500, 1000, now() - n * interval '1 hour',
			sha256((r.name || ' ' || n)::bytea)
		FROM repository r, generate_series(10, @tags::int, 10) n WHERE starts_with(r.name, @name)`,
		`INSERT INTO tag (repository_id, name, manifest_id, moved_at, created_at)
		SELECT r.id, 't' || n, m.id, now() - n * interval '1 hour', now()
		FROM repository r CROSS JOIN generate_series(1, @tags::int) n
		JOIN manifest m ON m.repository_id = r.id AND m.digest = sha256((r.name || ' ' || n)::bytea)
		WHERE starts_with(r.name, @name)`,
		`INSERT INTO tag_history (repository, tag, to_digest, seen_by, seen_at)
		SELECT r.name, t.name, m.digest, 'event', t.moved_at FROM repository r JOIN tag t ON t.repository_id = r.id
		JOIN manifest m ON m.repository_id = r.id AND m.id = t.manifest_id
		WHERE starts_with(r.name, @name) AND t.moved_at > now() - interval '20 days'`,
		"ANALYZE", // as autovacuum does within a minute
	} {
		if _, err := pool.Exec(t.Context(), q, args); err != nil {
			t.Fatalf("%v: %s", err, q)
		}
	}
}

// scanned says that a scan has finished.
func scanned(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	const q = `INSERT INTO scan (reason, started_at, finished_at) VALUES ('start', now() - interval '3 seconds', now() - interval '2 seconds')`
	if _, err := pool.Exec(t.Context(), q); err != nil {
		t.Fatal(err)
	}
}

// add stores a rule.
func add(t testing.TB, ctx context.Context, s *postgres.Store, of string, a retention.Action, c retention.Conditions) retention.Rule {
	t.Helper()
	r, err := s.AddRetentionRule(ctx, retention.Rule{Pattern: pattern(t, of), Action: a, Conditions: c})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// made makes a plan.
func made(t testing.TB, ctx context.Context, s *postgres.Store, of string) retention.Plan {
	t.Helper()
	planner := plan.NewPlanner(s, nil)
	p, err := planner.AskPlan(ctx, pattern(t, of), retention.ByRequest)
	if err != nil {
		t.Fatal(err)
	}
	if worked, err := planner.Step(ctx); !worked || err != nil {
		t.Fatalf("worked: %v, %v", worked, err)
	}
	if p, err = s.Plan(ctx, p.ID); err != nil || p.State != retention.PlanMade {
		t.Fatalf("the plan is %s: %v, %s", p.State, err, p.Error)
	}
	return p
}

// items returns the items of a plan as a map from repository, and tag or digest, to the item.
func items(t testing.TB, ctx context.Context, s *postgres.Store, p retention.Plan) map[string]retention.Item {
	t.Helper()
	all := map[string]retention.Item{}
	q := retention.ItemQuery{Plan: p.ID, Limit: 1000}
	for {
		page, err := s.PlanItems(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range page {
			if i.Tag != "" {
				all[i.Repository+":"+i.Tag] = i
			} else {
				all[i.Repository+"@"+i.Digest.String()] = i
			}
			q.After, q.AfterID = i.Repository, i.ID
		}
		if len(page) < q.Limit {
			return all
		}
	}
}

func operator(t testing.TB) context.Context {
	return access.WithActor(t.Context(), access.Actor{Name: "olga", Source: "192.0.2.7"})
}

const hour = time.Hour

// countPulls counts pulls of team/app-1 since ten days ago: t1 was pulled by its name an hour
// ago, t2 by its digest, t3 two days ago, and t4 never.
func countPulls(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	const counts = `
		INSERT INTO usage_state (counted_since, heard_at) VALUES (now() - interval '10 days', now());
		INSERT INTO usage_repository (name) VALUES ('team/app-1');
		INSERT INTO usage_tag (repository, tag, pulls, scanner_pulls, pushes, pulled_at, used_on)
		SELECT id, 't1', 7, 0, 0, now() - interval '1 hour', now() FROM usage_repository;
		INSERT INTO usage_tag (repository, tag, pulls, scanner_pulls, pushes, pulled_at, used_on)
		SELECT id, 't3', 7, 0, 0, now() - interval '2 days', now() FROM usage_repository;
		INSERT INTO usage_pending (repository, tag, digest, kind, day, at, pulls, pushes)
		VALUES ('team/app-1', '', sha256('team/app-1 2'), 1, now(), now(), 1, 0)`
	if _, err := pool.Exec(t.Context(), counts); err != nil {
		t.Fatal(err)
	}
}

// pattern parses a pattern of repositories.
func pattern(t testing.TB, text string) access.Pattern {
	t.Helper()
	p, err := access.ParsePattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
