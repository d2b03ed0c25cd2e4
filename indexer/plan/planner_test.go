package plan_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/plan"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/retention"
	"github.com/portbook/portbook/schema/schematest"
)

// A plan of a repository of 10,000 tags lists each of them, with the rule that decided.
func TestPlanOfManyTags(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s, ctx := postgres.New(pool, postgres.Config{}), operator(t)
	fill(t, pool, "team/app", 1, 10_000)
	scanned(t, pool)
	keep := add(t, ctx, s, "*", retention.Keep, retention.Conditions{Newest: 100})
	gone := add(t, ctx, s, "team/*", retention.Delete, retention.Conditions{OlderThan: 12 * hour})
	began := time.Now()
	p := made(t, ctx, s, "team/app-1")
	t.Logf("made in %s", time.Since(began)) // test/bench/retention measures it
	if p.Tags != 10_000 || p.TagsDeleted != 9900 || p.Manifests != 11_000 || p.ManifestsDeleted != 9900+990 || p.Percent != 99 {
		t.Errorf("%+v", p)
	}
	if p.Freed == nil || p.Freed.Frees != 10_890*500 { // it knows no blobs
		t.Errorf("it frees %+v", p.Freed)
	}
	all := items(t, ctx, s, p)
	if len(all) != 21_000 {
		t.Errorf("%d items, want each tag and manifest", len(all))
	}
	for name, want := range map[string]retention.Item{
		"team/app-1:t100": {Decision: retention.Decision{Reason: retention.Reason{Rule: keep.ID}}},
		"team/app-1:t101": {Decision: retention.Decision{Delete: true, Reason: retention.Reason{Rule: gone.ID}}},
	} {
		if got := all[name]; got.Delete != want.Delete || got.Reason.Rule != want.Reason.Rule || !strings.Contains(got.Reason.Text, "rule ") {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	repositories, err := s.PlanRepositories(ctx, retention.RepositoryQuery{Plan: p.ID, Limit: 10})
	if err != nil || len(repositories) != 1 || repositories[0].TagsDeleted != 9900 || repositories[0].Stays[retention.Tagged] != 100 ||
		repositories[0].Stays[retention.Referrer] != 10 {
		t.Errorf("repositories %+v, %v", repositories, err)
	}
}

// A plan is made in parts, and goes on with the next one when its process dies.
func TestPlanInParts(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s, ctx := postgres.New(pool, postgres.Config{}), operator(t)
	fill(t, pool, "team/app", 1100, 3)
	fill(t, pool, "other/app", 2, 3)
	scanned(t, pool)
	add(t, ctx, s, "team/*", retention.Delete, retention.Conditions{Tag: "t3"})
	if _, err := s.AddPlan(ctx, access.Every, retention.ByRequest); err != nil {
		t.Fatal(err)
	}
	dead, err := s.ClaimPlan(ctx, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if last, err := s.PlanNext(ctx, dead, -time.Second); err != nil || last {
		t.Fatalf("last: %v, %v", last, err)
	}
	planner := plan.NewPlanner(s, nil)
	if worked, err := planner.Step(ctx); err != nil || !worked {
		t.Fatalf("worked: %v, %v", worked, err)
	}
	if _, err := s.PlanNext(ctx, dead, time.Minute); !errors.Is(err, postgres.ErrStale) {
		t.Errorf("the one that was dead went on: %v", err)
	}
	p, err := s.Plan(ctx, dead.ID)
	if err != nil || p.State != retention.PlanMade || p.Repositories != 1102 || p.TagsDeleted != 1100 || p.Tags != 3306 {
		t.Errorf("%+v, %v", p, err)
	}
	if all := items(t, ctx, s, p); len(all) != 1100*6 {
		t.Errorf("%d items, want all of the repositories in which something goes", len(all))
	}
}

// What is not known whole is left out, with the reason, and so is what is frozen; protected tags
// stay.
func TestPlanLeavesOut(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s, ctx := postgres.New(pool, postgres.Config{}), operator(t)
	fill(t, pool, "team/app", 5, 3)
	add(t, ctx, s, "team/*", retention.Delete, retention.Conditions{Tag: "*"})
	p := made(t, ctx, s, "*")
	if p.LeftOut != 5 || p.TagsDeleted != 0 || !strings.Contains(strings.Join(p.Notes, " "), "No scan has finished") {
		t.Errorf("before the first scan: %+v", p)
	}
	scanned(t, pool)
	const trouble = `
		WITH broken AS (
			INSERT INTO tag (repository_id, name, problem) SELECT id, 'broken', 'unreadable' FROM repository WHERE name = 'team/app-1'
		), waiting AS (
			INSERT INTO task (repository, reference, priority) VALUES ('team/app-2', 't1', 0)
		) INSERT INTO task (repository, reference, priority, given_up_at, error) VALUES ('team/app-3', 't1', 0, now(), 'the registry did not answer')`
	if _, err := pool.Exec(ctx, trouble); err != nil {
		t.Fatal(err)
	}
	for _, protection := range []access.Protection{
		{Kind: access.Protect, Pattern: access.Every, Tags: "t1"},
		{Kind: access.Freeze, Pattern: pattern(t, "team/app-4")},
	} {
		if err := s.AddProtection(ctx, protection); err != nil {
			t.Fatal(err)
		}
	}
	p = made(t, ctx, s, "*")
	if p.LeftOut != 4 || p.TagsDeleted != 2 || p.ManifestsDeleted != 2 {
		t.Errorf("%+v", p)
	}
	left, err := s.PlanRepositories(ctx, retention.RepositoryQuery{Plan: p.ID, LeftOut: true, Limit: 10})
	var why []string
	for _, r := range left {
		why = append(why, r.LeftOut)
	}
	want := []string{"its tag broken could not be read", "t1 waits to be read", "t1 could not be read", "team/app-4 is frozen: nothing is pushed to it or deleted from it"}
	if err != nil || !slices.Equal(why, want) {
		t.Errorf("left out because of %q, %v, want %q", why, err, want)
	}
	if i := items(t, ctx, s, p)["team/app-5:t1"]; i.Delete || i.Reason.Code != retention.Protected {
		t.Errorf("the protected tag: %+v", i)
	}
}

// What a cluster reports stays until the report expires, with the index that lists it.
func TestPlanKeepsWhatRuns(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s, ctx := postgres.New(pool, postgres.Config{}), operator(t)
	fill(t, pool, "team/app", 1, 4)
	scanned(t, pool)
	add(t, ctx, s, "*", retention.Delete, retention.Conditions{Tag: "*"})
	p := made(t, ctx, s, "*")
	running := items(t, ctx, s, p)["team/app-1:t2"].Digest
	use := retention.Use{Repository: "team/app-1", Digest: running, Cluster: "prod", ExpiresAt: time.Now().Add(hour)}
	if err := s.ReportUse(ctx, []retention.Use{use, use}); err != nil {
		t.Fatal(err)
	}
	p = made(t, ctx, s, "*")
	if i := items(t, ctx, s, p)["team/app-1:t2"]; p.TagsDeleted != 3 || i.Delete || i.Reason.Code != retention.InUse {
		t.Errorf("%+v, %+v", p, i)
	}
	uses, err := s.Uses(ctx, retention.UseQuery{Within: []access.Pattern{access.Every}, Limit: 10})
	if err != nil || len(uses) != 1 || uses[0].Reporter != "olga" || uses[0].Cluster != "prod" {
		t.Errorf("uses %+v, %v", uses, err)
	}
	use.ExpiresAt = time.Now().Add(-time.Second)
	if err := s.ReportUse(ctx, []retention.Use{use}); err != nil {
		t.Fatal(err)
	}
	if p = made(t, ctx, s, "*"); p.TagsDeleted != 4 {
		t.Errorf("after it has expired: %+v", p)
	}
}

// Pulls count when the database has them; rules that look further back keep.
func TestPlanByPulls(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s, ctx := postgres.New(pool, postgres.Config{}), operator(t)
	fill(t, pool, "team/app", 1, 4)
	scanned(t, pool)
	add(t, ctx, s, "*", retention.Delete, retention.Conditions{Tag: "*"})
	add(t, ctx, s, "*", retention.Keep, retention.Conditions{PulledWithin: 24 * hour})
	p := made(t, ctx, s, "*")
	if p.TagsDeleted != 0 || !strings.Contains(strings.Join(p.Notes, " "), "Pulls are not counted") {
		t.Errorf("without counts: %+v", p)
	}
	countPulls(t, pool)
	p = made(t, ctx, s, "*")
	all := items(t, ctx, s, p)
	if p.TagsDeleted != 2 || all["team/app-1:t1"].Delete || all["team/app-1:t2"].Delete || all["team/app-1:t1"].Pulls != 7 {
		t.Errorf("%+v: %+v", p, all)
	}
}

// Rules are checked, limited, and changed only by who oversees their pattern; each change is
// recorded, and makes plans stale.
func TestRules(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s, ctx := postgres.New(pool, postgres.Config{}), operator(t)
	scanned(t, pool)
	r := add(t, ctx, s, "team/*", retention.Delete, retention.Conditions{Tag: "*", OlderThan: 90 * 24 * hour, Label: "a=b"})
	if got, err := s.RetentionRule(ctx, r.ID); err != nil || got.String() != r.String() || got.CreatedBy != "olga" {
		t.Errorf("%+v, %v, want %+v", got, err, r)
	}
	if _, err := s.AddRetentionRule(ctx, r); !errors.Is(err, indexer.ErrConflict) {
		t.Errorf("the same rule again: %v, want an ErrConflict", err)
	}
	for scope, want := range map[string]int{"*": 1, "team/*": 1, "team/app": 1, "team/sub/*": 1, "other/*": 0, "team": 0} {
		p, err := access.ParsePattern(scope)
		if err != nil {
			t.Fatal(err)
		}
		if all, err := s.RetentionRules(ctx, p); err != nil || len(all) != want {
			t.Errorf("%s has %d rules, %v, want %d", scope, len(all), err, want)
		}
	}
	p := made(t, ctx, s, "team/app")
	r.Conditions.Label = ""
	if _, err := s.ChangeRetentionRule(ctx, r); err != nil {
		t.Fatal(err)
	}
	if p, err := s.Plan(ctx, p.ID); err != nil || !strings.Contains(p.Stale, "rules have changed") {
		t.Errorf("stale: %q, %v", p.Stale, err)
	}
	stranger := access.WithPermit(ctx, access.OverseersOf(r.Pattern))
	if err := s.RemoveRetentionRule(stranger, r); !errors.Is(err, indexer.ErrForbidden) {
		t.Errorf("a stranger removed it: %v", err)
	}
	if err := s.RemoveRetentionRule(ctx, r); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveRetentionRule(ctx, r); !errors.Is(err, indexer.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	records, err := s.Audit(ctx, access.AuditQuery{Target: "team/*", Limit: 10})
	var events []access.Event
	for _, r := range records {
		events = append(events, r.Event)
	}
	if want := []access.Event{access.RetentionRemove, access.RetentionChange, access.RetentionAdd}; err != nil || !slices.Equal(events, want) {
		t.Errorf("records %q, %v, want %q", events, err, want)
	}
}

// Nobody fills the queue of plans, or the database with plans that are not applied, and rules of
// one namespace leave room for others.
func TestPlansAreBounded(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s, ctx := postgres.New(pool, postgres.Config{}), operator(t)
	ask := func(ctx context.Context, scope string) error {
		_, err := s.AddPlan(ctx, pattern(t, scope), retention.ByRequest)
		return err
	}
	for range 3 {
		if err := ask(ctx, "team/*"); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(ctx, "other/app"); !errors.Is(err, indexer.ErrConflict) || !strings.Contains(err.Error(), "3 plans of yours") {
		t.Errorf("a fourth plan that waits: %v", err)
	}
	if err := ask(access.WithActor(ctx, access.Actor{Name: "ann"}), "team/app"); err != nil {
		t.Errorf("another user: %v", err)
	}
	exec := func(sql string) {
		t.Helper()
		if _, err := pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	count := func(table string) (n int) {
		t.Helper()
		if err := pool.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	tidy := func() int64 {
		t.Helper()
		n, err := s.Tidy(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return n.Plans
	}
	exec(`UPDATE plan SET state = 'made', made_at = now();
		INSERT INTO plan (scope, state, reason, created_by, made_at)
			SELECT 'team/app', 'made', 'request', 'ann', now() FROM generate_series(1, 96);
		INSERT INTO plan_item (plan_id, repository, id, tag, digest, deleted, code, rule, reason, pulls)
			SELECT id, 'team/app', 1, 'v1', sha256('x'), true, 'rule', 1, '', 0 FROM plan`)
	exec("UPDATE plan SET tags_deleted = 50000, manifests_deleted = 50001")
	if err := ask(ctx, "team/*"); !errors.Is(err, indexer.ErrConflict) || !strings.Contains(err.Error(), "10000000 tags and manifests") {
		t.Errorf("a plan more of the namespace: %v", err)
	}
	if err := ask(ctx, "other/*"); err != nil {
		t.Errorf("a plan of another namespace: %v", err)
	}
	if n := tidy(); n != 0 {
		t.Errorf("%d plans of today are deleted", n)
	}
	exec("UPDATE plan SET operation_id = 7 WHERE id = 1; UPDATE plan SET created_at = created_at - interval '3 days'")
	if n := tidy(); n != 49 || count("plan") != 52 || count("plan_item") != 51 {
		t.Errorf("%d plans are deleted, %d stay with %d items", n, count("plan"), count("plan_item"))
	}
	exec("UPDATE plan SET created_at = created_at - interval '88 days'")
	if n := tidy(); n != 51 || count("plan_item") != 0 { // not the one that waits
		t.Errorf("%d plans are deleted, %d items stay", n, count("plan_item"))
	}
	for i := range retention.MaxRulesBelow {
		add(t, ctx, s, fmt.Sprintf("team/app%d", i), retention.Keep, retention.Conditions{})
	}
	_, err := s.AddRetentionRule(ctx, retention.Rule{Pattern: pattern(t, "team/*"), Action: retention.Keep})
	if !errors.Is(err, indexer.ErrConflict) {
		t.Errorf("a rule more of the namespace: %v", err)
	}
	add(t, ctx, s, "*", retention.Keep, retention.Conditions{})
}
