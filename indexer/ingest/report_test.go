package ingest

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
)

// A fakeStore notes reports.
type fakeStore struct {
	start time.Time
	err   error // of all reports
	hangs bool
	taken bool // by another leader, until the next first report

	begun    []time.Duration // first reports
	at       []time.Duration // of reports, since start
	reported []indexer.Job   // the last report
}

func (s *fakeStore) BeginReports(ctx context.Context, jobs []indexer.Job) (time.Time, error) {
	s.begun, s.taken = append(s.begun, time.Since(s.start)), false
	if err := s.report(ctx, jobs); err != nil {
		return time.Time{}, err
	}
	return time.Now(), nil
}

func (s *fakeStore) ReportJobs(ctx context.Context, since time.Time, jobs []indexer.Job) error {
	if since.IsZero() || s.taken {
		return postgres.ErrNotLeader
	}
	return s.report(ctx, jobs)
}

func (s *fakeStore) report(ctx context.Context, jobs []indexer.Job) error {
	if s.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if s.err != nil {
		return s.err
	}
	s.at, s.reported = append(s.at, time.Since(s.start)), jobs
	return nil
}

// reportFor runs jobs and reports their states for some time. It returns the log.
func reportFor(t *testing.T, s *fakeStore, d time.Duration, jobs ...*job) string {
	t.Helper()
	s.start = time.Now()
	var text bytes.Buffer
	r := newRunner(prometheus.NewRegistry())
	r.add(jobs)
	report := &reporter{store: s, log: slog.New(slog.NewTextHandler(&text, nil)), jobs: r.jobs}
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); report.run(ctx) }()
	r.run(ctx, jobs)
	<-done
	report.last(ctx)
	return text.String()
}

// jobOf returns a job that takes some time and then waits.
func jobOf(name string, took, wait time.Duration, err error) *job {
	return &job{name: name, next: always(takes(took, err, new([]time.Duration))), pause: every(wait)}
}

// An idle leader reports three times a minute, although its jobs look for work all the
// time. What runs once a minute causes at most one more report.
func TestIdleLeaderReportsSeldom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		scan := &job{name: "scan", next: func(context.Context) (step, error) { return nil, nil }, pause: every(scanEvery)}
		watch := jobOf("watch", time.Millisecond, watchEvery, nil)
		reportFor(t, s, time.Hour+time.Second/2, scan, watch)
		if most := 3*60 + 2; len(s.at) > most || len(s.at) < most-2 {
			t.Errorf("%d reports in an idle hour, want %d", len(s.at), most)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		search := jobOf("search", 5*time.Millisecond, upkeepPause, nil)
		reportFor(t, s, time.Hour, search, jobOf("watch", time.Millisecond, watchEvery, nil))
		if most := 4*60 + 2; len(s.at) > most {
			t.Errorf("%d reports in an hour, want at most %d", len(s.at), most)
		}
	})
}

// The begin and the end of a run are reported within a second, and no two reports are
// less than a second apart, however fast a job changes.
func TestReportsFollowChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		tidy := jobOf("tidy", 5*time.Second, time.Hour, errAny)
		tidy.delay = 4500 * time.Millisecond
		reportFor(t, s, 15500*time.Millisecond, tidy)
		const second = time.Second
		if diff := cmp.Diff([]time.Duration{0, 5 * second, 10 * second, 15500 * time.Millisecond}, s.at); diff != "" {
			t.Error(diff)
		}
		if len(s.begun) != 1 || s.reported[0].LastError == "" {
			t.Errorf("first reports at %v, then %+v", s.begun, s.reported)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		reportFor(t, s, time.Minute, jobOf("busy", 700*time.Millisecond, 10*time.Millisecond, nil))
		if len(s.at) > 62 {
			t.Errorf("%d reports in a minute", len(s.at))
		}
	})
}

// After the last report no job runs or is about to run.
func TestLastReport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		reportFor(t, s, time.Minute, jobOf("runs", time.Hour, 0, nil), jobOf("waits", 0, time.Hour, nil))
		for _, j := range s.reported {
			if j.Running || !j.Next.IsZero() {
				t.Errorf("at the end: %+v", j)
			}
		}
	})
}

// Jobs run as usual while reports fail or hang, and the log has one line about it.
func TestReportsFail(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*fakeStore{"fail": {err: errAny}, "hang": {hangs: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ran []time.Duration
				test := &job{name: "test", next: always(takes(0, nil, &ran)), pause: every(time.Second)}
				text := reportFor(t, s, 10*time.Second+time.Millisecond, test)
				if len(ran) != 11 {
					t.Errorf("the job ran at %v", ran)
				}
				if strings.Count(text, "states of jobs not stored") != 1 {
					t.Errorf("the log is %s", text)
				}
			})
		})
	}
}

// Once another process has reported, a process reports nothing for a while. If it still
// leads then, it begins again.
func TestReplacedLeader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		replaced := &job{name: "test", delay: 50500 * time.Millisecond, pause: every(time.Hour)}
		replaced.next = always(func(context.Context) error {
			s.taken = true
			return nil
		})
		text := reportFor(t, s, 75*time.Second, replaced)
		const second = time.Second
		if diff := cmp.Diff([]time.Duration{0, 71 * second}, s.begun); diff != "" || text != "" {
			t.Errorf("first reports: %s; log %q", diff, text)
		}
		if diff := cmp.Diff([]time.Duration{0, 20 * second, 40 * second, 71 * second, 75 * second}, s.at); diff != "" {
			t.Errorf("reports: %s", diff)
		}
	})
}
