package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema"
	"github.com/portbook/portbook/schema/localpg"
)

// A pair is a primary with the schema, and its streaming hot standby.
type pair struct {
	t                *testing.T
	primary, standby *localpg.Server
}

// newPair starts both; settings are for the standby.
func newPair(t *testing.T, settings map[string]string) *pair {
	t.Helper()
	p := &pair{t: t}
	var err error
	if p.primary, err = localpg.Start(t.Context(), localpg.Config{Dir: serverDir(t)}); err != nil {
		if os.Getenv("CI") == "" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	t.Cleanup(p.primary.Stop)
	config, err := pgx.ParseConfig(p.primary.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := schema.Up(t.Context(), schema.Config{Conn: config}); err != nil {
		t.Fatal(err)
	}
	if p.standby, err = p.primary.Standby(t.Context(), localpg.Config{Dir: serverDir(t), Settings: settings}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.standby.Stop)
	p.caughtUp()
	return p
}

// serverDir returns a directory that the server's account can access.
func serverDir(t *testing.T) string {
	t.Helper()
	dir, err := localpg.MkdirTemp("postgres-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func (p *pair) caughtUp() {
	p.t.Helper()
	p.must(p.primary.WaitReplayed(p.t.Context(), p.standby))
}

func (p *pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// writer returns a store on the server that accepts writes.
func (p *pair) writer() *postgres.Store {
	p.t.Helper()
	one, err := url.Parse(p.primary.URL("postgres"))
	p.must(err)
	two, err := url.Parse(p.standby.URL("postgres"))
	p.must(err)
	one.Host += "," + two.Host
	one.RawQuery += "&target_session_attrs=read-write"
	return postgres.New(connect(p.t, one.String()), postgres.Config{})
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

func version(t *testing.T, s *postgres.Store) (version indexer.Version) {
	t.Helper()
	view(t, s, func(v *postgres.View) (err error) {
		version, err = v.Version(t.Context())
		return err
	})
	return version
}

func one[T any](t *testing.T, pool *pgxpool.Pool, q string, args ...any) (value T) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), q, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	return value
}

// A standby is promoted before it has received everything. The numbers of the lost
// commits are then used again for other content: the catalogue version must differ,
// or caches would keep lost content. The ids of media types are used again too: a
// process must not write ids that it cached from the lost commits.
func TestFailoverLosesCommits(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	s := p.writer()
	typed := func(content, mediaType string) indexer.Manifest {
		m := image("demo/app", content)
		m.MediaType = mediaType
		return m
	}
	setTag(t, s, "v1", typed("kept", "application/kept"))
	p.caughtUp()
	kept := version(t, s)
	p.must(p.standby.Disconnect(t.Context()))
	contents := map[indexer.Version]string{}
	for i := range 3 {
		setTag(t, s, "v1", typed(fmt.Sprintf("lost %d", i), "application/lost"))
		contents[version(t, s)] = fmt.Sprintf("lost %d", i)
	}
	p.primary.Kill()
	p.must(p.standby.Promote(t.Context()))
	standby := connect(t, p.standby.URL("postgres"))
	if got := version(t, postgres.New(standby, postgres.Config{})); got != kept {
		t.Errorf("before the first write: got version %v, want %v, as before the loss", got, kept)
	}
	within(t, "the writer finds the new primary", func() bool { return s.Ping(t.Context()) == nil })
	setTag(t, s, "v1", typed("other", "application/other"))
	again := typed("again", "application/lost")
	setTag(t, s, "v2", again)
	setTag(t, s, "v3", typed("third", "application/third"))
	now := version(t, s)
	if now.Number != kept.Number+3 {
		t.Fatalf("got number %d, want %d: nothing was tested", now.Number, kept.Number+3)
	}
	if content, known := contents[now]; known {
		t.Errorf("version %v was that of %q, and is now that of other content", now, content)
	}
	view(t, s, func(v *postgres.View) error {
		m, err := v.Manifest(t.Context(), indexer.Reference{Repository: "demo/app", Digest: again.Digest})
		if m.MediaType != "application/lost" {
			t.Errorf("media type %q, want application/lost", m.MediaType)
		}
		return err
	})
	if got := one[int](t, standby, "SELECT count(*) FROM scan WHERE reason = 'failover'"); got != 1 {
		t.Errorf("got %d scans requested, want 1: nothing else finds the lost commits", got)
	}
	if epoch := now.Epoch; version(t, s).Epoch != epoch {
		t.Error("the epoch changed twice")
	}
}

// A leader on another server than the last changes the epoch even if nothing is
// written, and requests the scan that finds what was lost.
func TestFailoverLeader(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	s := p.writer()
	lead := func() {
		t.Helper()
		p.must(s.Lead(t.Context(), func(context.Context) error { return nil }))
	}
	lead()
	before := version(t, s)
	lead()
	if got := version(t, s); got != before {
		t.Errorf("leading again changed the version from %v to %v", before, got)
	}
	p.caughtUp()
	p.primary.Kill()
	p.must(p.standby.Promote(t.Context()))
	within(t, "the leader finds the new primary", func() bool {
		return s.Lead(t.Context(), func(context.Context) error { return nil }) == nil
	})
	if got := version(t, s); got.Epoch == before.Epoch {
		t.Errorf("the epoch is still %s", got.Epoch)
	}
	if got := one[string](t, connect(t, p.standby.URL("postgres")), "SELECT string_agg(reason, ' ') FROM scan"); got != "failover" {
		t.Errorf("got scans requested for %s, want failover", got)
	}
}

// within waits at most a minute for a condition, because busy machines are slow.
func within(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if condition() {
			return
		}
	}
	t.Fatal("timeout after a minute: " + what)
}

// A standby cancels a reader's snapshot that blocks its replay. The caller must not
// notice, whether a query was running or not.
func TestViewConflict(t *testing.T) {
	t.Parallel()
	p := newPair(t, map[string]string{"max_standby_streaming_delay": "0"})
	ctx := t.Context()
	s, pool := p.writer(), connect(t, p.primary.URL("postgres"))
	standby := connect(t, p.standby.URL("postgres"))
	reader := postgres.New(connect(t, p.standby.URL("postgres")+"&application_name=view"), postgres.Config{})
	setTag(t, s, "v1", image("demo/app", "first"))
	p.caughtUp()
	// disturb makes changes until the standby has cancelled the view. One change may
	// do nothing: a vacuum keeps rows that a session of the primary may still see.
	disturb := func(q []string) {
		for range 100 {
			for _, q := range q {
				if _, err := pool.Exec(ctx, q); err != nil {
					t.Error(err)
				}
			}
			if err := p.primary.WaitReplayed(ctx, p.standby); err != nil {
				t.Error(err)
			}
			if one[int](t, standby, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'view' AND state IN ('active', 'idle in transaction')") == 0 {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Error("the standby did not cancel the view")
	}
	vacuum := []string{"UPDATE repository_search SET title = title || 'x'", "VACUUM repository_search"}
	lock := []string{"ALTER TABLE repository_search ADD COLUMN more int", "ALTER TABLE repository_search DROP COLUMN more"}
	for name, q := range map[string][]string{"vacuum": vacuum, "lock": lock} {
		for _, asking := range []bool{false, true} {
			runs := 0
			err := reader.View(ctx, indexer.Everyone, func(v *postgres.View) error {
				runs++
				list, err := v.Repositories(ctx, "", 10)
				if err != nil || len(list) != 1 {
					return fmt.Errorf("%d repositories, %w", len(list), err)
				}
				if runs > 1 {
					return nil
				}
				disturbed := make(chan struct{})
				go func() {
					defer close(disturbed)
					disturb(q)
				}()
				if asking {
					err = postgres.Sleep(ctx, v, 10)
				}
				<-disturbed
				if err != nil {
					return err
				}
				_, err = v.Repositories(ctx, "", 10)
				return err
			})
			if err != nil || runs != 2 {
				t.Errorf("%s, during a query %v: got %d runs, %v, want 2, nil", name, asking, runs, err)
			}
		}
	}
	// Sessions report their statistics up to ten seconds later.
	within(t, "the standby has counted the four conflicts", func() bool { return one[int](t, standby, conflicts) >= 4 })
}

const conflicts = `SELECT confl_snapshot + confl_lock + confl_tablespace + confl_bufferpin + confl_deadlock FROM pg_stat_database_conflicts WHERE datname = current_database()`

// A reader whose snapshot is lost each time gives up, with an error that says that a
// retry may succeed.
func TestViewGivesUp(t *testing.T) {
	t.Parallel()
	pool := connect(t, newPair(t, nil).primary.URL("postgres"))
	s := postgres.New(pool, postgres.Config{})
	runs := 0
	err := s.View(t.Context(), indexer.Everyone, func(v *postgres.View) error {
		runs++
		if _, err := pool.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid()"); err != nil {
			return err
		}
		return postgres.Sleep(t.Context(), v, 0)
	})
	if !errors.Is(err, indexer.ErrUnavailable) || runs != 3 {
		t.Errorf("got %d runs, %v, want 3, ErrUnavailable", runs, err)
	}
}

// Idle connections break when the server restarts. Later reads must not fail.
func TestViewAfterRestart(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	s := postgres.New(connect(t, p.primary.URL("postgres")), postgres.Config{})
	version(t, s)
	p.must(p.primary.Restart(t.Context()))
	version(t, s)
}

// Lag is zero while the standby is up to date, and grows when it is not.
func TestLag(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	ctx := t.Context()
	primary := connect(t, p.primary.URL("postgres"))
	if _, err := primary.Exec(ctx, "CREATE ROLE looker LOGIN"); err != nil {
		t.Fatal(err)
	}
	p.caughtUp()
	// Readers may see only the pid of other users' sessions.
	meter := &postgres.LagMeter{Store: postgres.New(connect(t, strings.Replace(p.standby.URL("postgres"), "portbook@", "looker@", 1)), postgres.Config{})}
	measure := func() postgres.Lag {
		t.Helper()
		lag, err := meter.Measure(ctx)
		p.must(err)
		return lag
	}
	if lag, err := (&postgres.LagMeter{Store: postgres.New(primary, postgres.Config{})}).Measure(ctx); err != nil || lag != (postgres.Lag{}) {
		t.Errorf("primary: got %v, %v, want no standby", lag, err)
	}
	within(t, "an up-to-date standby has no lag", func() bool { return measure() == postgres.Lag{Standby: true} })
	// The last commit is old, but the standby is not behind.
	if _, err := primary.Exec(ctx, "CREATE TABLE old ()"); err != nil {
		t.Fatal(err)
	}
	committed := time.Now()
	p.caughtUp()
	within(t, "the last commit is old", func() bool { return time.Since(committed) > 300*time.Millisecond })
	var upToDate time.Time
	within(t, "a standby of an idle primary has no lag", func() bool {
		upToDate = time.Now()
		return measure().Behind == 0
	})
	p.must(p.standby.PauseReplay(ctx))
	if _, err := primary.Exec(ctx, "CREATE TABLE more ()"); err != nil {
		t.Fatal(err)
	}
	within(t, "the standby has received a commit that it does not show", func() bool { return measure().Behind > 0 })
	// Not the age of the last commit, which is older than upToDate.
	lag := measure()
	if most := time.Since(upToDate); lag.Behind > most {
		t.Errorf("got a lag of %v, but the standby was up to date %v ago", lag.Behind, most)
	}
	within(t, "the lag grows", func() bool { return measure().Behind > lag.Behind+100*time.Millisecond })
	p.must(p.standby.ResumeReplay(ctx))
	within(t, "the standby has caught up", func() bool { return measure().Behind == 0 })
	// From here on nothing is committed, so a standby that starts has no commit time
	// to report.
	for _, server := range []*pgxpool.Pool{primary, connect(t, p.standby.URL("postgres"))} {
		if _, err := server.Exec(ctx, "CHECKPOINT"); err != nil {
			t.Fatal(err)
		}
		p.caughtUp()
	}
	p.primary.Kill()
	within(t, "the lag of a standby whose primary is dead grows", func() bool {
		b := measure().Behind
		return b > 200*time.Millisecond && b < 10*time.Second
	})
	p.must(p.standby.Restart(ctx)) // without a primary it does not know the age of its data
	within(t, "the reader connects again", func() bool { return meter.Store.Ping(ctx) == nil })
	fresh := &postgres.LagMeter{Store: meter.Store}
	if lag, err := fresh.Measure(ctx); err != nil || lag.Behind != postgres.UnknownLag {
		t.Errorf("started without a primary: got %v, %v, want UnknownLag", lag, err)
	}
	p.must(p.standby.Promote(ctx))
	within(t, "the promoted standby is no standby", func() bool { return measure() == postgres.Lag{} })
}

// An export from a standby leaves out what another record might still come before, however far
// the standby is behind. With the clock alone, old records that arrive late would be skipped.
func TestAuditFromStandby(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	primary, standby := connect(t, p.primary.URL("postgres")), connect(t, p.standby.URL("postgres"))
	execute(t, primary, `INSERT INTO audit (at, event, actor, token, source, target, outcome, request, detail)
		SELECT now() + i * interval '100 ms', 'login', '', '', '', '', 'refused', '', '' FROM generate_series(-200, 300) i ORDER BY i`)
	p.caughtUp()
	p.must(p.standby.PauseReplay(t.Context()))
	const settled = "SELECT count(*) FROM audit WHERE at <= "
	want := one[int](t, standby, settled+"pg_last_xact_replay_timestamp() - interval '5 s'")
	within(t, "more records are old by the clock", func() bool { return one[int](t, standby, settled+"now() - interval '5 s'") > want })
	s := postgres.New(standby, postgres.Config{})
	if got, err := s.AuditAfter(t.Context(), 0, access.AuditQuery{Limit: 1000}); err != nil || len(got) != want || want == 0 {
		t.Errorf("%d records, %v, want %d", len(got), err, want)
	}
	p.must(p.standby.Promote(t.Context())) // since then only the clock counts
	within(t, "more records are exported", func() bool {
		got, err := s.AuditAfter(t.Context(), 0, access.AuditQuery{Limit: 1000})
		return err == nil && len(got) > want
	})
}
