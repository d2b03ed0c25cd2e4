package ingest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/portbook/portbook/indexer"
)

var errAny = errors.New("postgres://secret")

func newRunner(metrics prometheus.Registerer) *runner {
	return &runner{log: slog.New(slog.NewTextHandler(io.Discard, nil)), metrics: NewMetrics(metrics)}
}

// jobMetrics returns the values of all metrics of jobs, by metric and job.
func jobMetrics(t *testing.T, metrics prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := metrics.Gather()
	if err != nil {
		t.Error(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "portbook_job_") {
			continue
		}
		for _, m := range f.GetMetric() {
			values[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

// takes returns a step that takes some time, fails with err and notes when it began.
func takes(d time.Duration, err error, began *[]time.Duration) step {
	start := time.Now()
	return func(ctx context.Context) error {
		*began = append(*began, time.Since(start))
		rest(ctx, d)
		return err
	}
}

// runFor runs jobs for some time.
func runFor(t *testing.T, r *runner, d time.Duration, jobs ...*job) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	r.add(jobs)
	r.run(ctx, jobs)
}

// A panic must be an error of one run, and end neither the job nor the program.
func TestJobPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		j := &job{name: "a", pause: every(time.Second), next: always(func(context.Context) error {
			runs++
			panic("postgres://secret")
		})}
		metrics := prometheus.NewRegistry()
		r := newRunner(metrics)
		runFor(t, r, 3500*time.Millisecond, j)
		if n := jobMetrics(t, metrics)["portbook_job_failures_total a"]; runs != 4 || n != 4 {
			t.Errorf("%d runs, %v failures", runs, n)
		}
		if e := r.jobs()[0].LastError; e == "" || strings.Contains(e, "secret") {
			t.Errorf("the last error is %q", e)
		}
	})
}

func TestJobTimes(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for name, test := range map[string]struct {
		job  job
		err  error
		want []time.Duration
	}{
		"every":             {job{pause: every(2 * s)}, nil, []time.Duration{0, 3 * s, 6 * s, 9 * s}},
		"first":             {job{pause: every(2 * s), delay: 5 * s}, nil, []time.Duration{5 * s, 8 * s}},
		"backoff":           {job{pause: backoff(2*s, s, 3*s)}, errAny, []time.Duration{0, 2 * s, 5 * s, 9 * s}},
		"backoff, no error": {job{pause: backoff(2*s, s, 3*s)}, nil, []time.Duration{0, 3 * s, 6 * s, 9 * s}},
		"share":             {job{pause: inProportion(s, 4)}, nil, []time.Duration{0, 5 * s}},
		"share, least":      {job{pause: inProportion(7*s, 4)}, nil, []time.Duration{0, 8 * s}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []time.Duration
				test.job.name, test.job.next = "test", always(takes(s, test.err, &got))
				runFor(t, newRunner(prometheus.NewRegistry()), 9*s+s/2, &test.job)
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

// A job that is nudged while it runs must run once more: it may have missed what the
// nudge was for.
func TestJobNudged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got, scans []time.Duration
		search := &job{name: "search", next: always(takes(2*time.Second, nil, &got)), pause: every(time.Hour)}
		search.nudge = make(chan struct{}, 1)
		scan := &job{name: "scan", next: always(takes(0, nil, &scans)), delay: time.Second, pause: every(10 * time.Second)}
		scan.after = []*job{search}
		runFor(t, newRunner(prometheus.NewRegistry()), 15*time.Second, scan, search)
		if diff := cmp.Diff([]time.Duration{0, 2 * time.Second, 11 * time.Second}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// Jobs that share a token must never run at the same time.
func TestJobAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		alone := make(chan struct{}, 1)
		var scans, tidies []time.Duration
		scan := &job{name: "scan", next: always(takes(10*time.Second, nil, &scans)), pause: every(5 * time.Second)}
		tidy := &job{name: "tidy", next: always(takes(time.Second, nil, &tidies)), pause: every(time.Hour)}
		tidy.delay = 3 * time.Second
		scan.alone, tidy.alone = alone, alone
		runFor(t, newRunner(prometheus.NewRegistry()), 20*time.Second, scan, tidy)
		if diff := cmp.Diff([]time.Duration{10 * time.Second}, tidies); diff != "" {
			t.Error(diff)
		}
	})
}

func TestJobState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		metrics, start := prometheus.NewRegistry(), time.Now()
		r := newRunner(metrics)
		at := func(d time.Duration) time.Time { return start.Add(d) }
		fails := takes(time.Second, errAny, new([]time.Duration))
		jobs := []*job{
			{name: "idle", next: func(context.Context) (step, error) { return nil, nil }, pause: every(time.Minute)},
			{name: "works", next: always(takes(time.Second, nil, new([]time.Duration))), pause: every(time.Minute)},
			{name: "fails", next: always(fails), pause: every(time.Minute)},
			{name: "runs", next: always(takes(time.Hour, nil, new([]time.Duration))), pause: every(time.Minute)},
			{name: "later", next: always(fails), delay: time.Hour, pause: every(time.Minute)},
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		r.add(jobs)
		go func() { defer close(done); r.run(ctx, jobs) }()
		time.Sleep(10 * time.Second)
		end := at(time.Second)
		want := []indexer.Job{
			{Name: "idle", Next: at(time.Minute)},
			{Name: "works", LastBegin: start, LastEnd: end, Next: end.Add(time.Minute)},
			{Name: "fails", LastBegin: start, LastEnd: end, LastError: indexer.Reason(errAny), Next: end.Add(time.Minute)},
			{Name: "runs", Running: true, LastBegin: start},
			{Name: "later", Next: at(time.Hour)},
		}
		if diff := cmp.Diff(want, r.jobs()); diff != "" {
			t.Error(diff)
		}
		shown := map[string]float64{
			"portbook_job_running fails": 0, "portbook_job_running idle": 0, "portbook_job_running later": 0,
			"portbook_job_running runs": 1, "portbook_job_running works": 0,
			"portbook_job_failures_total fails": 1, "portbook_job_failures_total idle": 0,
			"portbook_job_failures_total later": 0, "portbook_job_failures_total runs": 0, "portbook_job_failures_total works": 0,
			"portbook_job_last_success_timestamp_seconds works": float64(end.Unix()),
			"portbook_job_duration_seconds fails":               1, "portbook_job_duration_seconds works": 1,
		}
		if diff := cmp.Diff(shown, jobMetrics(t, metrics)); diff != "" {
			t.Error(diff)
		}
		stop()
		<-done
		for i := range want {
			want[i].Running, want[i].Next = false, time.Time{}
		}
		if diff := cmp.Diff(want, r.jobs()); diff != "" {
			t.Errorf("after the end: %s", diff)
		}
		shown["portbook_job_running runs"] = 0 // and no success, since it was cut short
		if diff := cmp.Diff(shown, jobMetrics(t, metrics)); diff != "" {
			t.Errorf("after the end: %s", diff)
		}
	})
}

// Every job of a leader can be asked for by its name, and no other: that is what the API, the
// command line and the page of jobs offer.
func TestJobNames(t *testing.T) {
	t.Parallel()
	nothing := func(context.Context) error { return nil }
	leader := NewLeader(LeaderConfig{GarbageCollect: time.Hour, Trash: time.Hour, Plans: nothing, Collect: nothing})
	var names []string
	for _, j := range leader.jobs(&watch{}) {
		names = append(names, j.name)
	}
	if diff := cmp.Diff(indexer.JobNames, names); diff != "" {
		t.Error(diff)
	}
}
