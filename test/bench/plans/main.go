// Plans measures how long plans of retention take: of a repository with many tags, right after
// its tables were filled and later, and of a registry with many repositories; and how searches
// fare while the latter is made. The plans are made in the process of the benchmark, as by the
// command line, so that it takes processor time from the reader as a writer on the same machine
// would.
//
// A missed goal is only shown, since it is also missed on a busy machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/plan"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/retention"
	"github.com/portbook/portbook/test/bench/harness"
)

type bench struct {
	harness.Bench
	tags, repositories int

	pool    *pgxpool.Pool
	planner *plan.Planner
}

func main() { harness.Main("bench-plans", &bench{tags: 10_000, repositories: 100_000}) }

// Flags implements harness.Benchmark.
func (b *bench) Flags(flags *flag.FlagSet) {
	flags.IntVar(&b.tags, "tags", b.tags, "number of tags of the large repository")
	flags.IntVar(&b.repositories, "repositories", b.repositories, "number of other repositories, of ten tags each")
}

// Check implements harness.Benchmark.
func (b *bench) Check() error {
	if b.tags < kept+1 || b.repositories < 1 {
		return fmt.Errorf("%d tags, %d repositories: want at least %d and 1", b.tags, b.repositories, kept+1)
	}
	return nil
}

const (
	database = "bench_plans"
	// kept is how many tags of each repository the rules keep: the newest 8. So a plan of 100,000
	// repositories has less than a million tags and manifests, and less than 1.5 million blobs, the most
	// of which it counts what it frees.
	kept = 8
	// tagsOfEach is how many tags each of the other repositories has: 10.
	tagsOfEach = 10
	// goalTags and goalRepositories are the seconds that the two plans may take.
	goalTags, goalRepositories = 2, 60
	// searches is how many searches a second are measured: 50, a tenth of what a reader answers.
	searches = 50
)

// Measure implements harness.Benchmark.
func (b *bench) Measure(ctx context.Context) error {
	if err := b.NewDatabase(ctx, database); err != nil {
		return err
	}
	var err error
	if b.pool, err = pgxpool.New(ctx, b.Postgres.URL(database)); err != nil {
		return err
	}
	defer b.pool.Close()
	store := postgres.New(b.pool, postgres.Config{})
	b.planner = plan.NewPlanner(store, nil)
	if err := addRules(access.WithActor(ctx, access.Actor{Name: "bench"}), store); err != nil {
		return err
	}
	title := fmt.Sprintf("A repository of %d tags", b.tags)
	if err := b.Step(ctx, title, b.large); err != nil {
		return err
	}
	title = fmt.Sprintf("%d repositories of %d tags", b.repositories, tagsOfEach)
	return b.Step(ctx, title, b.many)
}

// addRules adds rules that keep the newest tags and delete the others, and what has no tag.
func addRules(ctx context.Context, store *postgres.Store) error {
	for _, r := range []struct {
		action string
		retention.Conditions
	}{
		{"keep", retention.Conditions{Newest: kept}},
		{"delete", retention.Conditions{Tag: "*"}},
		{"delete", retention.Conditions{Untagged: true}},
	} {
		w := retention.Words{Conditions: r.Conditions}
		rule, err := w.Rule("*", r.action, "")
		if err != nil {
			return err
		}
		if _, err := store.AddRetentionRule(ctx, rule); err != nil {
			return err
		}
	}
	return nil
}

// large measures plans of one repository.
func (b *bench) large(ctx context.Context, s *harness.Section) error {
	if err := b.fill(ctx, "large", 1, b.tags); err != nil {
		return err
	}
	const scan = "INSERT INTO scan (reason, started_at, finished_at) VALUES ('start', now(), now())"
	if _, err := b.pool.Exec(ctx, scan); err != nil {
		return err
	}
	fresh, err := b.plan(ctx, "large-1", b.tags-kept)
	if err != nil {
		return err
	}
	s.Add(harness.Figure{Name: "plan, right after the tables were filled", Unit: "s", Value: fresh})
	if _, err := b.pool.Exec(ctx, "VACUUM (ANALYZE)"); err != nil {
		return err
	}
	var seconds []float64
	for range 5 {
		took, err := b.plan(ctx, "large-1", b.tags-kept)
		if err != nil {
			return err
		}
		seconds = append(seconds, took)
	}
	s.Add(harness.Median("plan, when the tables were analyzed", "s", seconds).Below(goalTags))
	return nil
}

// many measures a plan of all repositories, and searches meanwhile.
func (b *bench) many(ctx context.Context, s *harness.Section) error {
	if err := b.fill(ctx, "many", b.repositories, tagsOfEach); err != nil {
		return err
	}
	if _, err := b.pool.Exec(ctx, "VACUUM (ANALYZE)"); err != nil {
		return err
	}
	reader, err := b.searchable(ctx)
	if err != nil {
		return err
	}
	asker := harness.NewAsker(reader.URL)
	alone, err := b.search(ctx, asker, 10*time.Second)
	if err != nil {
		return err
	}
	type outcome struct {
		took float64
		err  error
	}
	planned := make(chan outcome, 1)
	go func() {
		took, err := b.plan(ctx, "*", b.tags-kept+b.repositories*(tagsOfEach-kept))
		planned <- outcome{took, err}
	}()
	var beside []float64
	var end outcome
	for done := false; !done; {
		pass, err := b.search(ctx, asker, 2*time.Second)
		if err != nil {
			return err
		}
		select {
		case end = <-planned:
			done = true
		default:
		}
		if !done || len(beside) == 0 { // the plan was made all the time
			beside = append(beside, pass...)
		}
	}
	if end.err != nil {
		return end.err
	}
	s.Add(harness.Figure{Name: "plan of all", Unit: "s", Value: end.took}.Below(goalRepositories))
	s.Note("%d searches a second, whatever the answers take", searches)
	for _, x := range []struct {
		what string
		ms   []float64
	}{{"before", alone}, {"meanwhile", beside}} {
		name := fmt.Sprintf("search %s: median of %d", x.what, len(x.ms))
		s.Add(harness.Figure{Name: name, Unit: "ms", Value: harness.Quantile(x.ms, 0.5)})
		s.Add(harness.Figure{Name: "  p95", Unit: "ms", Value: harness.Quantile(x.ms, 0.95)})
	}
	ratio := harness.Quantile(beside, 0.5) / harness.Quantile(alone, 0.5)
	s.Add(harness.Figure{Name: "  median, times that before", Value: ratio})
	return nil
}

// search measures searches for a time, and returns the milliseconds of their answers.
func (b *bench) search(ctx context.Context, a *harness.Asker, limit time.Duration) (ms []float64, err error) {
	var paths []string
	for i := range int(limit.Seconds() * searches) {
		paths = append(paths, fmt.Sprintf("/api/v1/search?q=many-%d", 1+i*7919%b.repositories))
	}
	pass, err := a.OpenLoop(ctx, paths, searches)
	if failed, status := pass.Failed(); failed > 0 && err == nil {
		err = fmt.Errorf("%d of %d searches were answered with status %d", failed, len(paths), status)
	}
	for _, answer := range pass.Answers {
		ms = append(ms, answer.MS)
	}
	return ms, err
}

// searchable starts a reader, when a writer has written the search rows.
func (b *bench) searchable(ctx context.Context) (*harness.Indexer, error) {
	address, err := harness.FreeAddress()
	if err != nil {
		return nil, err
	}
	writer, err := b.StartIndexer(ctx, database, address, "PORTBOOK_REGISTRY_URL=http://registry.invalid")
	if err != nil {
		return nil, err
	}
	err = harness.Wait(ctx, 20*time.Minute, "the search rows to be written", func() (bool, error) {
		var n int
		err := b.pool.QueryRow(ctx, "SELECT count(*) FROM repository_search").Scan(&n)
		return n == b.repositories+1, err
	})
	if err != nil {
		return nil, err
	}
	writer.Stop()
	reader, err := b.StartReader(ctx, database)
	if err == nil {
		_, err = harness.Settled(ctx, reader.Program)
	}
	return reader, err
}

// plan makes a plan that must delete a number of tags, and returns the seconds that it took.
func (b *bench) plan(ctx context.Context, scope string, deleted int) (float64, error) {
	pattern, err := access.ParsePattern(scope)
	if err != nil {
		return 0, err
	}
	ctx = access.WithActor(ctx, access.Actor{Name: "bench"})
	began := time.Now()
	made, err := b.planner.AskPlan(ctx, pattern, retention.ByRequest)
	if err != nil {
		return 0, err
	}
	if _, err := b.planner.Step(ctx); err != nil {
		return 0, err
	}
	took := time.Since(began).Seconds()
	if made, err = b.planner.WaitPlan(ctx, made); err != nil {
		return 0, err
	}
	if made.State != retention.PlanMade || made.TagsDeleted != int64(deleted) {
		return 0, fmt.Errorf("plan of %s is %s (%s) and deletes %d tags, want %d", scope, made.State, made.Error,
			made.TagsDeleted, deleted)
	}
	if made.Freed == nil {
		return 0, fmt.Errorf("plan of %s does not know what it frees", scope)
	}
	return took, nil
}

// fill stores repositories NAME-1, NAME-2 and so on, whose tags were pushed an hour apart. Each
// tag shows an image of its own, with a config, three layers of its own and one of all.
func (b *bench) fill(ctx context.Context, name string, repositories, tags int) error {
	args := pgx.NamedArgs{"name": name, "repositories": repositories, "tags": tags}
	for _, q := range []string{
		`INSERT INTO media_type (id, name) VALUES (1000, 'application/vnd.oci.image.manifest.v1+json') ON CONFLICT DO NOTHING`,
		`INSERT INTO repository (name) SELECT @name || '-' || n FROM generate_series(1, @repositories::int) n`,
		`INSERT INTO blob (digest, size) SELECT sha256('base'::bytea), 30000000 ON CONFLICT DO NOTHING`,
		`INSERT INTO blob (digest, size)
		SELECT sha256((r.name || ' ' || n || ' ' || l)::bytea), 1000 * (1 + l)
		FROM repository r, generate_series(1, @tags::int) n, generate_series(0, 3) l
		WHERE starts_with(r.name, @name)`,
		`INSERT INTO manifest (repository_id, digest, media_type_id, kind, size, content_size, seen_at, config_id, layer_ids)
		SELECT r.id, sha256((r.name || ' ' || n)::bytea), 1000, 'image', 500, 30009000, now() - n * interval '1 hour', blobs.ids[1], blobs.ids[2:]
		FROM repository r CROSS JOIN generate_series(1, @tags::int) n CROSS JOIN LATERAL (
			SELECT ARRAY(
				SELECT (SELECT b.id FROM blob b WHERE b.digest = sha256((r.name || ' ' || n || ' ' || l)::bytea)) FROM generate_series(0, 3) l
			) || ARRAY(SELECT b.id FROM blob b WHERE b.digest = sha256('base'::bytea)) AS ids) AS blobs
		WHERE starts_with(r.name, @name)`,
		`INSERT INTO tag (repository_id, name, manifest_id, moved_at, created_at)
		SELECT r.id, 't' || n, m.id, now() - n * interval '1 hour', now()
		FROM repository r CROSS JOIN generate_series(1, @tags::int) n
		JOIN manifest m ON m.repository_id = r.id AND m.digest = sha256((r.name || ' ' || n)::bytea)
		WHERE starts_with(r.name, @name)`,
		`INSERT INTO tag_history (repository, tag, to_digest, seen_by, seen_at)
		SELECT r.name, t.name, m.digest, 'event', t.moved_at FROM repository r JOIN tag t ON t.repository_id = r.id
		JOIN manifest m ON m.repository_id = r.id AND m.id = t.manifest_id
		WHERE starts_with(r.name, @name) AND t.moved_at > now() - interval '20 days'`,
	} {
		if _, err := b.pool.Exec(ctx, q, args); err != nil {
			return fmt.Errorf("%w: %s", err, q)
		}
	}
	return nil
}
