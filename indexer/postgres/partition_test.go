package postgres_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

func execute(t *testing.T, pool *pgxpool.Pool, q string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), q, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

func column(t *testing.T, pool *pgxpool.Pool, q string) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

const (
	eventMonths = "SELECT relid::text FROM pg_partition_tree('event') WHERE isleaf ORDER BY 1"
	dropAll     = `DO $$ DECLARE c regclass; BEGIN
		FOR c IN SELECT relid FROM pg_partition_tree('event') WHERE isleaf UNION ALL SELECT relid FROM pg_partition_tree('tag_history') WHERE isleaf
		LOOP EXECUTE 'DROP TABLE ' || c; END LOOP; END $$`
)

// An event that is sent again counts once, whatever time it has: the registry sends
// the same time again, and a time that cannot be stored does not identify the event.
func TestEventTime(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	now := time.Now().Truncate(time.Microsecond)
	tests := map[string]struct {
		at   time.Time
		kept bool
	}{
		"now":             {now, true},
		"within the week": {now.Add(-7*24*time.Hour + time.Minute), true},
		"within the hour": {now.Add(time.Hour - time.Minute), true},
		"too old":         {now.Add(-7*24*time.Hour - time.Minute), false},
		"ancient":         {time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC), false},
		"too far ahead":   {now.Add(time.Hour + time.Minute), false},
		"far ahead":       {time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), false},
		"none":            {time.Time{}, false},
	}
	for id, test := range tests {
		e := indexer.Event{ID: id, At: test.at, Action: "push", Repository: "r", Tag: "t", Digest: image("r", id).Digest}
		for try := range 3 {
			fresh, err := s.Receive(t.Context(), []indexer.Event{e, e})
			if err != nil {
				t.Fatal(err)
			}
			if want := max(0, 1-try); fresh != want {
				t.Errorf("%s, attempt %d: got %d new events, want %d", id, try+1, fresh, want)
			}
		}
		var at, received time.Time
		if err := pool.QueryRow(t.Context(), "SELECT at, received_at FROM event WHERE id = $1", id).Scan(&at, &received); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		want := received
		if test.kept {
			want = test.at
		}
		if !at.Equal(want) {
			t.Errorf("%s: stored with %v, want %v", id, at, want)
		}
	}
}

// If partitions are missing, the first writer that needs one creates them. No write
// is refused or counted twice.
func TestMissingPartition(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	execute(t, pool, dropAll)
	m := image("r", "a")
	fresh, err := s.Receive(t.Context(), []indexer.Event{{ID: "1", At: time.Now(), Action: "push", Repository: "r", Digest: m.Digest}})
	if err != nil || fresh != 1 {
		t.Errorf("%d new events, %v", fresh, err)
	}
	execute(t, pool, dropAll)
	execute(t, pool, "DELETE FROM task")
	setTag(t, s, "v1", m)
	if got := column(t, pool, "SELECT tag FROM tag_history"); !cmp.Equal(got, []string{"v1"}) {
		t.Errorf("got a history of %v", got)
	}
}

// Partition creates the missing months, and drops those older than the retention of
// each table; without a retention it drops none.
func TestPartition(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	execute(t, pool, dropAll)
	execute(t, pool, "SELECT create_partition('event', '2020-01-01 00:00Z'), create_partition('tag_history', '2020-01-01 00:00Z')")
	day := 24 * time.Hour
	p, err := s.Partition(t.Context(), postgres.Retention{})
	if err != nil || len(p.Created) < 8 || len(p.Dropped) > 0 {
		t.Errorf("got created %v, dropped %v, %v", p.Created, p.Dropped, err)
	}
	p, err = s.Partition(t.Context(), postgres.Retention{Events: 90 * day})
	if err != nil || len(p.Created) > 0 || !cmp.Equal(p.Dropped, []string{"event_2020_01"}) {
		t.Errorf("got created %v, dropped %v, %v", p.Created, p.Dropped, err)
	}
	p, err = s.Partition(t.Context(), postgres.Retention{Events: day, History: 100 * 365 * day})
	if err != nil || len(p.Created)+len(p.Dropped) > 0 {
		t.Errorf("got created %v, dropped %v, %v", p.Created, p.Dropped, err)
	}
	// A reader that blocks one table does not block the other.
	execute(t, pool, "SELECT create_partition('event', '2020-01-01 00:00Z')")
	reader, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback(context.Background())
	if _, err := reader.Exec(t.Context(), "SELECT FROM event"); err != nil {
		t.Fatal(err)
	}
	before := version(t, s)
	p, err = s.Partition(t.Context(), postgres.Retention{Events: day, History: 365 * day})
	if err == nil || !cmp.Equal(p.Dropped, []string{"tag_history_2020_01"}) {
		t.Errorf("during a read: got dropped %v, %v", p.Dropped, err)
	}
	if version(t, s) == before {
		t.Error("a part of the history was dropped, but the version did not change: caches would keep it")
	}
	if got := column(t, pool, eventMonths); got[0] != "event_2020_01" {
		t.Errorf("the reader's partition was dropped; left are %v", got)
	}
}

// The history knows what a tag showed before, when the book was emptied and filled
// again and does not know it.
func TestHistoryOutlivesBook(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	a, b := image("r", "a"), image("r", "b")
	for _, tag := range []string{"same", "moved", "vanished", "forgotten", "deleted before"} {
		setTag(t, s, tag, a)
	}
	store(t, s, "deleted before", indexer.Finding{Task: indexer.Task{Repository: "r"}, Outcome: indexer.Gone})
	execute(t, pool, "TRUNCATE repository CASCADE; TRUNCATE blob, media_type, platform, repository_search, task, scan; UPDATE catalogue_epoch SET epoch = 'emptied'")
	s = postgres.New(pool, postgres.Config{})
	setTag(t, s, "same", a)
	setTag(t, s, "moved", b)
	for range 2 {
		store(t, s, "vanished", indexer.Finding{Task: indexer.Task{Repository: "r"}, Outcome: indexer.Gone})
	}
	store(t, s, "never there", indexer.Finding{Task: indexer.Task{Repository: "r"}, Outcome: indexer.Gone})
	setTag(t, s, "deleted before", b)
	setTag(t, s, "new", b)
	setTag(t, s, "moved", a)
	short := func(m indexer.Manifest) string { return m.Digest.Encoded()[:6] }
	want := []string{
		"deleted before: nothing > " + short(a), "deleted before: " + short(a) + " > nothing", "deleted before: nothing > " + short(b),
		"forgotten: nothing > " + short(a), // no read by name noticed the deletion
		"moved: nothing > " + short(a), "moved: " + short(a) + " > " + short(b), "moved: " + short(b) + " > " + short(a),
		"new: nothing > " + short(b),
		"same: nothing > " + short(a),
		"vanished: nothing > " + short(a), "vanished: " + short(a) + " > nothing",
	}
	got := column(t, pool, `SELECT format('%s: %s > %s', tag, COALESCE(left(encode(from_digest, 'hex'), 6), 'nothing'), COALESCE(left(encode(to_digest, 'hex'), 6), 'nothing'))
		FROM tag_history ORDER BY tag, id`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("history (-want +got)\n%s", diff)
	}
}

// BenchmarkNewTags stores new tags, 100 in a transaction, when the history has a
// million moves of other tags in 24 months.
func BenchmarkNewTags(b *testing.B) {
	pool := schematest.New(b)
	s := postgres.New(pool, postgres.Config{})
	ctx := b.Context()
	for _, q := range []string{
		"SELECT create_partition('tag_history', m) FROM generate_series(date_trunc('month', now()) - interval '24 months', date_trunc('month', now()) - interval '2 months', interval '1 month') m",
		`INSERT INTO tag_history (repository, tag, to_digest, seen_at, seen_by)
			SELECT 'old/' || i % 1000, 'v' || i, '\x01', now() - interval '2 months' - i * interval '55 seconds', 'scan' FROM generate_series(1, 1000000) i`,
		"ANALYZE tag_history",
	} {
		if _, err := pool.Exec(ctx, q); err != nil {
			b.Fatal(err)
		}
	}
	const batch = 100
	n := 0
	for b.Loop() {
		m := image("new/app", "content")
		var asks []indexer.Ask
		for range batch {
			n++
			asks = append(asks, indexer.Ask{Repository: "new/app", Reference: indexer.TagOrDigest(fmt.Sprintf("v%d", n))})
		}
		if err := s.Ask(ctx, asks); err != nil {
			b.Fatal(err)
		}
		tasks, err := s.Claim(ctx, indexer.PriorityConfirm, batch, time.Minute)
		if err != nil {
			b.Fatal(err)
		}
		var findings []indexer.Finding
		for _, task := range tasks {
			findings = append(findings, indexer.Finding{Task: task, Outcome: indexer.Found, Digest: m.Digest, Manifests: []indexer.Manifest{m}})
		}
		if err := s.Apply(ctx, findings); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(n), "µs/tag")
}
