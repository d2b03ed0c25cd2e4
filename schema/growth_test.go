package schema_test

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/schema"
	"github.com/portbook/portbook/schema/schematest"
)

// wholeVersion is the last version whose tables event and tag_history have no
// partitions.
const wholeVersion = 3

// The migrations to partitions and back keep every row of event and tag_history, and
// the next value of the sequence.
func TestGrowthKeepsRows(t *testing.T) {
	t.Parallel()
	address := schematest.Empty(t)
	ctx, c := t.Context(), config(t, address)
	up(t, c)
	down(t, c, len(files(t))-wholeVersion)
	pool := connect(t, address)
	run(t, pool, `
		INSERT INTO tag_history (repository, tag, from_digest, to_digest, seen_at, seen_by)
		SELECT 'r' || i % 7, 't' || i, NULL, sha256(i::text::bytea), now() - i * interval '5 hours', 'scan' FROM generate_series(1, 2000) i`)
	run(t, pool, "DELETE FROM tag_history WHERE id > 1990") // the next id is still 2001
	run(t, pool, `
		INSERT INTO event (id, received_at, at, action, repository, tag, digest, media_type, actor, user_agent, instance)
		SELECT 'e' || i, now() - i * interval '5 hours', now() - i * interval '5 hours' - interval '3 seconds', 'push', 'r', 't', '\x00ff', 'm', 'a', 'u', 'i'
		FROM generate_series(1, 1000) i`)
	run(t, pool, `INSERT INTO event (id, received_at, at, action, repository) VALUES
		('none', '2024-02-29 12:00Z', NULL, 'push', 'r'), ('early', '2024-02-29 12:00Z', '2024-02-22 11:59Z', 'push', 'r'),
		('week', '2024-02-29 12:00Z', '2024-02-22 12:00Z', 'push', 'r'), ('late', '2024-02-29 12:00Z', '2024-02-29 13:01Z', 'push', 'r'),
		('edge', '2024-12-31 23:59:59Z', '2025-01-01 00:00Z', 'push', 'r')`)
	run(t, pool, "INSERT INTO registry_instance (id) VALUES ('i')")
	moves, events := rows(t, pool, movesQuery), rows(t, pool, eventsQuery)
	if len(moves) != 1990 || len(events) != 1005 {
		t.Fatalf("got %d moves and %d events, want 1990 and 1005", len(moves), len(events))
	}
	for _, id := range []string{"none", "early", "late"} { // at is replaced by received_at
		i := slices.IndexFunc(events, func(row string) bool { return strings.HasPrefix(row, "("+id+",") })
		fields := strings.Split(events[i], ",")
		fields[2] = fields[1]
		events[i] = strings.Join(fields, ",")
	}
	for _, step := range []string{"up", "down", "up again"} {
		if step == "down" {
			down(t, c, len(files(t))-wholeVersion)
		} else {
			up(t, c)
		}
		if diff := cmp.Diff(moves, rows(t, pool, movesQuery)); diff != "" {
			t.Fatalf("%s, moves (-want +got):\n%s", step, diff)
		}
		if diff := cmp.Diff(events, rows(t, pool, eventsQuery)); diff != "" {
			t.Fatalf("%s, events (-want +got):\n%s", step, diff)
		}
	}
	var id int64
	const move = "INSERT INTO tag_history (repository, tag, to_digest, seen_by) VALUES ('r', 't', '\\x01', 'scan') RETURNING id"
	if err := pool.QueryRow(ctx, move).Scan(&id); err != nil || id != 2001 {
		t.Errorf("next move: got id %d, want 2001: %v", id, err)
	}
}

const (
	movesQuery  = "SELECT h::text FROM (SELECT id, repository, tag, from_digest, to_digest, seen_at, seen_by FROM tag_history) h ORDER BY id"
	eventsQuery = `SELECT e::text FROM (SELECT id, received_at, at, action, repository, tag, digest, media_type, actor, user_agent, instance FROM event) e ORDER BY id`
)

// The schema of a version is the same whether Up or Down has reached it.
func TestGrowthDownIsWhole(t *testing.T) {
	t.Parallel()
	address := schematest.Empty(t)
	c := config(t, address)
	up(t, c)
	down(t, c, len(files(t))-wholeVersion)
	above := dump(t, address)
	down(t, c, wholeVersion)
	for _, file := range files(t)[:wholeVersion] {
		apply(t, connect(t, address), file)
	}
	if diff := cmp.Diff(dump(t, address), above); diff != "" {
		t.Errorf("schema (-by up +by down)\n%s", diff)
	}
}

// drop_partitions drops only our partitions of whole months that are old enough: not
// newer ones, not a partition that somebody else attached, and not a table with a
// similar name.
func TestDropPartitions(t *testing.T) {
	t.Parallel()
	pool := connect(t, schematest.URL(t))
	run(t, pool, "SELECT create_partition('event', '2020-01-01 00:00Z'), create_partition('event', '2020-02-01 00:00Z'), create_partition('tag_history', '2020-01-01 00:00Z')")
	run(t, pool, "CREATE TABLE event_archive PARTITION OF event FOR VALUES FROM ('2019-01-01 00:00Z') TO ('2020-01-01 00:00Z')")
	run(t, pool, "CREATE TABLE event_2018_01 (id int)")
	fresh := rows(t, pool, "SELECT relid::text FROM pg_partition_tree('event') WHERE isleaf AND relid::text !~ '20(19|20)' AND relid::text <> 'event_archive' ORDER BY 1")

	if got := rows(t, pool, "SELECT drop_partitions('event', NULL)"); len(got) > 0 {
		t.Errorf("without a retention: got %v dropped, want none", got)
	}
	got := rows(t, pool, "SELECT drop_partitions('event', now() - '2020-02-15 00:00Z')") // in the middle of February
	if diff := cmp.Diff([]string{"event_2020_01"}, got); diff != "" {
		t.Errorf("dropped (-want +got)\n%s", diff)
	}
	got = rows(t, pool, "SELECT drop_partitions('event', interval '0')") // means 8 days, the minimum
	if slices.Contains(got, "event_"+time.Now().UTC().Format("2006_01")) || !slices.Contains(got, "event_2020_02") {
		t.Errorf("got dropped partitions %v, want none", got)
	}
	left := rows(t, pool, "SELECT relid::text FROM pg_partition_tree('event') WHERE isleaf ORDER BY 1")
	for _, name := range append([]string{"event_archive"}, fresh...) {
		if !slices.Contains(left, name) {
			t.Errorf("%s was dropped; left are %v", name, left)
		}
	}
	if n := rows(t, pool, "SELECT relid::text FROM pg_partition_tree('tag_history') WHERE relid::text = 'tag_history_2020_01'"); len(n) != 1 {
		t.Error("a partition of another table was dropped")
	}
	run(t, pool, "SELECT FROM event_2018_01")
	_, err := pool.Exec(t.Context(), "SELECT drop_partitions('repository', interval '1 year')")
	if code(err) != "22023" {
		t.Errorf("drop_partitions of another table: error %v, want 22023", err)
	}
}

// create_partitions creates the months from a week ago to three months ahead, in any
// time zone. A second call creates none.
func TestCreatePartitions(t *testing.T) {
	t.Parallel()
	pool := connect(t, schematest.URL(t))
	run(t, pool, "DO $$ DECLARE c regclass; BEGIN FOR c IN SELECT relid FROM pg_partition_tree('event') WHERE isleaf LOOP EXECUTE 'DROP TABLE ' || c; END LOOP; END $$")
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for _, set := range []string{"SET timezone = 'Pacific/Kiritimati'", "SET datestyle = 'SQL, DMY'"} {
		if _, err := conn.Exec(t.Context(), set); err != nil {
			t.Fatal(err)
		}
	}
	made := rows(t, conn, "SELECT create_partitions()")
	var want []string
	now := time.Now().UTC()
	from := now.AddDate(0, 0, -7)
	for month := time.Date(from.Year(), from.Month(), 1, 0, 0, 0, 0, time.UTC); !month.After(time.Date(now.Year(), now.Month()+3, 1, 0, 0, 0, 0, time.UTC)); month = month.AddDate(0, 1, 0) {
		want = append(want, month.Format("event_2006_01"))
	}
	if diff := cmp.Diff(want, made); diff != "" {
		t.Errorf("created (-want +got)\n%s", diff)
	}
	if again := rows(t, conn, "SELECT create_partitions()"); len(again) > 0 {
		t.Errorf("a second call created %v", again)
	}
	bounds := rows(t, pool, "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = '"+want[0]+"'")
	if !strings.Contains(bounds[0], "-01 00:00:00+00") {
		t.Errorf("got a partition with bounds %s, want months of UTC", bounds[0])
	}
}

// If a long transaction uses a table, drop_partitions gives up after two seconds, so
// it does not block writers for longer. create_partitions does not wait at all.
func TestDropWaitsBriefly(t *testing.T) {
	t.Parallel()
	pool := connect(t, schematest.URL(t))
	run(t, pool, "SELECT create_partition('tag_history', '2020-01-01 00:00Z')")
	reader, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Rollback(context.Background())
	rows(t, reader, "SELECT id::text FROM tag_history")
	if _, err := reader.Exec(t.Context(), "INSERT INTO tag_history (repository, tag, to_digest, seen_by) VALUES ('r', 'a', '\\x01', 'scan')"); err != nil {
		t.Fatal(err) // the transaction has written too
	}

	run(t, pool, "SELECT create_partition('tag_history', '2031-01-01 00:00Z'), create_partitions()")
	dropped := make(chan error)
	start := time.Now()
	go func() {
		_, err := pool.Exec(context.Background(), "SELECT drop_partitions('tag_history', interval '1 year')")
		dropped <- err
	}()
	for waiting := ""; waiting == ""; {
		waiting = strings.Join(rows(t, pool, "SELECT pid::text FROM pg_locks WHERE NOT granted AND relation = 'tag_history'::regclass"), "")
		if time.Since(start) > 20*time.Second {
			t.Fatal("drop_partitions did not wait for the transaction")
		}
	}
	run(t, pool, "INSERT INTO tag_history (repository, tag, to_digest, seen_by) VALUES ('r', 't', '\\x01', 'scan')")
	pushed := time.Since(start)
	if err := <-dropped; code(err) != "55P03" { // lock_not_available
		t.Errorf("drop_partitions during a transaction: error %v, want 55P03", err)
	}
	t.Logf("an insert meanwhile took %v", pushed.Round(time.Millisecond))
	if pushed > 10*time.Second { // 2 s on an idle machine
		t.Errorf("an insert waited %v, want at most 10 s", pushed)
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := rows(t, pool, "SELECT drop_partitions('tag_history', interval '1 year')"); len(got) != 1 {
		t.Errorf("after the transaction: got %v dropped, want 1 partition", got)
	}
}

// The tables may be in a schema of any name. The functions work on the tables of that
// schema, even if the caller has tables of the same names in front of them, and only
// users with a grant may call them.
func TestFunctionsAreSafe(t *testing.T) {
	t.Parallel()
	address := schematest.Empty(t)
	admin := connect(t, address)
	role := someone(t, address)
	run(t, admin, `CREATE SCHEMA "the Book's"`)
	there := address + "&search_path=" + url.PathEscape(`"the Book's"`)
	c := config(t, there)
	c.Writer = role
	up(t, c)
	worker, err := pgxpool.New(t.Context(), strings.Replace(there, "portbook@", role+"@", 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(worker.Close)
	conn, err := worker.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if got := rows(t, conn, "SELECT current_user::text"); got[0] != role {
		t.Fatalf("got user %s, want %s", got[0], role)
	}
	for _, q := range []string{
		"CREATE TEMP TABLE event (at timestamptz) PARTITION BY RANGE (at)",
		"CREATE TEMP TABLE event_2020_01 PARTITION OF pg_temp.event FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')",
		`SET search_path = pg_temp, "the Book's"`,
	} {
		if _, err := conn.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	run(t, admin, `DROP TABLE "the Book's".event_`+time.Now().UTC().Format("2006_01"))
	run(t, admin, `SET search_path = "the Book's"; SELECT create_partition('event', '2019-01-01 00:00Z'); RESET search_path`)
	if got := rows(t, conn, `SELECT "the Book's".create_partitions()`); len(got) != 1 {
		t.Errorf("create_partitions created %v, want 1 partition", got)
	}
	if got := rows(t, conn, `SELECT "the Book's".drop_partitions('event', interval '1 year')`); !cmp.Equal(got, []string{"event_2019_01"}) {
		t.Errorf("drop_partitions dropped %v, want event_2019_01", got)
	}
	if got := rows(t, conn, "SELECT relname::text FROM pg_class WHERE oid = to_regclass('pg_temp.event_2020_01')"); len(got) != 1 {
		t.Error("the caller's temporary table was dropped")
	}
	for _, q := range []string{
		`SELECT "the Book's".create_partition('event', '2019-02-01 00:00Z')`,
		`CREATE TABLE "the Book's".x ()`, `DROP TABLE "the Book's".event`, `DELETE FROM "the Book's".schema_migrations`,
	} {
		if _, err := conn.Exec(t.Context(), q); code(err) != "42501" { // insufficient_privilege
			t.Errorf("%s: %v", q, err)
		}
	}
	// The worker has rights on partitions that are created later.
	if got := rows(t, admin, `SELECT has_table_privilege('`+role+`', '"the Book''s".event_`+time.Now().UTC().Format("2006_01")+`', 'INSERT')::text`); got[0] != "true" {
		t.Error("the worker has no rights on a new partition")
	}
}

func up(t *testing.T, c schema.Config) {
	t.Helper()
	if _, err := schema.Up(t.Context(), c); err != nil {
		t.Fatal(err)
	}
}

func down(t *testing.T, c schema.Config, n int) {
	t.Helper()
	if _, err := schema.Down(t.Context(), c, n); err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func run(t *testing.T, pool *pgxpool.Pool, q string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if _, err := pool.Exec(ctx, q, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
}

// rows returns the rows of a query with one column of type text.
func rows(t *testing.T, db interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}, q string) []string {
	t.Helper()
	found, err := db.Query(t.Context(), q, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	list, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return list
}

// apply runs the statements of one migration without goose.
func apply(t *testing.T, pool *pgxpool.Pool, file string) {
	t.Helper()
	body := read(t, file)
	body = body[strings.Index(body, "-- +goose Up"):strings.Index(body, "-- +goose Down")]
	run(t, pool, body)
}

// code returns the SQLSTATE of an error, or "".
func code(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}
