package postgres_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/schema/schematest"
)

func jobs(t *testing.T, s *postgres.Store) (report indexer.JobReport) {
	t.Helper()
	view(t, s, func(v *postgres.View) (err error) {
		report, err = v.Jobs(t.Context())
		return err
	})
	return report
}

// begin stores the first report of a leader.
func begin(t *testing.T, s *postgres.Store, all ...indexer.Job) time.Time {
	t.Helper()
	since, err := s.BeginReports(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	return since
}

// age makes the last report older.
func age(t *testing.T, pool *pgxpool.Pool, d time.Duration) {
	t.Helper()
	const q = "UPDATE leader SET reported_at = reported_at - $1 * interval '1 second'"
	if _, err := pool.Exec(t.Context(), q, d.Seconds()); err != nil {
		t.Fatal(err)
	}
}

// What a leader reports is seen through any other store, in the order of the jobs.
func TestJobs(t *testing.T) {
	t.Parallel()
	address := schematest.URL(t)
	leader := postgres.New(connect(t, address), postgres.Config{})
	other := postgres.New(connect(t, address), postgres.Config{})
	if r := jobs(t, other); r.IsCurrent() || !cmp.Equal(r, indexer.JobReport{}) {
		t.Errorf("before the first report: %+v", r)
	}
	at := time.Now().Truncate(time.Microsecond)
	scan := indexer.Job{Name: "scan", Running: true, LastBegin: at, LastError: "the registry is away"}
	tidy := indexer.Job{Name: "tidy", Next: at.Add(time.Hour)}
	since := begin(t, leader, scan, tidy)
	check := func(when string, want ...indexer.Job) {
		t.Helper()
		r := jobs(t, other)
		if diff := cmp.Diff(want, r.Jobs); diff != "" || !r.IsCurrent() || !r.Since.Equal(since) {
			t.Errorf("%s: since %v, not %v, age %v: %s", when, r.Since, since, r.Age, diff)
		}
	}
	check("first report", scan, tidy)
	scan.Running, scan.LastEnd, scan.LastError = false, at.Add(time.Second), "the \xff"+strings.Repeat("x", 5000)
	if err := leader.ReportJobs(t.Context(), since, []indexer.Job{scan, tidy}); err != nil {
		t.Fatal(err)
	}
	scan.LastError = "the \uFFFD" + strings.Repeat("x", 995)
	check("second report", scan, tidy)
}

// A job whose leader died while it ran is not shown as running for ever.
func TestJobsOfDeadLeader(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	since := begin(t, s, indexer.Job{Name: "scan", Running: true})
	age(t, pool, 50*time.Second)
	if r := jobs(t, s); !r.IsCurrent() {
		t.Errorf("after 50 s: %+v", r)
	}
	age(t, pool, 15*time.Second)
	if r := jobs(t, s); r.IsCurrent() || r.Age < 65*time.Second || r.Age > 5*time.Minute {
		t.Errorf("after 65 s: %+v", r)
	}
	if err := s.ReportJobs(t.Context(), since, []indexer.Job{{Name: "scan", Running: true}}); err != nil {
		t.Fatal(err)
	}
	if r := jobs(t, s); !r.IsCurrent() {
		t.Errorf("it lives after all: %+v", r)
	}
	age(t, pool, -time.Hour) // the clock of a standby is behind that of its primary
	if r := jobs(t, s); r.Age != 0 {
		t.Errorf("a report of the future has the age %v", r.Age)
	}
}

// A leader replaces all jobs of the leader before it, which cannot report any more.
func TestJobsOfNextLeader(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	old := indexer.Job{Name: "old", Running: true}
	both := indexer.Job{Name: "both", Running: true}
	first := begin(t, s, old, both)
	second := begin(t, s, indexer.Job{Name: "new"}, indexer.Job{Name: "both"})
	if err := s.ReportJobs(t.Context(), first, []indexer.Job{old, both}); !errors.Is(err, postgres.ErrNotLeader) {
		t.Errorf("report of the first leader: %v", err)
	}
	r := jobs(t, s)
	if diff := cmp.Diff([]indexer.Job{{Name: "new"}, {Name: "both"}}, r.Jobs); diff != "" || !r.Since.Equal(second) {
		t.Errorf("since %v: %s", r.Since, diff)
	}
}

// Leaders that begin at the same time, and report meanwhile, neither fail nor mix their
// jobs.
func TestJobsOfManyLeaders(t *testing.T) {
	t.Parallel()
	s := postgres.New(schematest.New(t), postgres.Config{})
	var leaders sync.WaitGroup
	for _, text := range []string{"the 1", "the 2", "the 3", "the 4"} {
		leaders.Go(func() {
			all := []indexer.Job{{Name: "scan", LastError: text}, {Name: "tidy", LastError: text}}
			for range 20 {
				since, err := s.BeginReports(t.Context(), all)
				if err == nil {
					err = s.ReportJobs(t.Context(), since, all)
				}
				if err != nil && !errors.Is(err, postgres.ErrNotLeader) {
					t.Error(err)
				}
				r := jobs(t, s)
				if len(r.Jobs) != 2 || r.Jobs[0].LastError != r.Jobs[1].LastError {
					t.Errorf("jobs of two leaders: %+v", r.Jobs)
				}
			}
		})
	}
	leaders.Wait()
}

// A report of jobs that have not changed writes one row.
func TestReportWritesWhatChanged(t *testing.T) {
	t.Parallel()
	pool := schematest.New(t)
	s := postgres.New(pool, postgres.Config{})
	all := []indexer.Job{{Name: "scan", LastBegin: time.Now(), LastError: "the reason"}, {Name: "tidy", Next: time.Now()}}
	since := begin(t, s, all...)
	const rows = "SELECT string_agg(xmin::text, ' ' ORDER BY name) FROM job"
	before := one[string](t, pool, rows)
	if err := s.ReportJobs(t.Context(), since, all); err != nil {
		t.Fatal(err)
	}
	if after := one[string](t, pool, rows); after != before {
		t.Errorf("rows of jobs were written by %s, then by %s", before, after)
	}
	all[0].Running = true
	if err := s.ReportJobs(t.Context(), since, all); err != nil {
		t.Fatal(err)
	}
	after := strings.Fields(one[string](t, pool, rows))
	if was := strings.Fields(before); after[0] == was[0] || after[1] != was[1] {
		t.Errorf("rows of jobs were written by %s, then by %s", was, after)
	}
}
