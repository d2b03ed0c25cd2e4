package web_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web"
)

// jobsOf are the jobs of a store that is made later.
type jobsOf struct{ m **managed }

func (j jobsOf) RequestJob(ctx context.Context, name string) (indexer.JobRun, error) {
	return (*j.m).store.RequestJob(ctx, name)
}

func (j jobsOf) JobRun(ctx context.Context, id int64) (indexer.JobRun, error) {
	return (*j.m).store.JobRun(ctx, id)
}

// Administrators see the jobs of the leader and have it run one, and nobody else does. All answers
// are as they are documented.
func TestJobsAPI(t *testing.T) {
	t.Parallel()
	var m *managed
	m = manage(t, func(c *web.Config) { c.Jobs = jobsOf{&m} })
	d, schemas := openAPI(t, m.URL)
	ask := func(who, method, path, target string, want int, texts ...string) {
		t.Helper()
		resp, got := m.send(t, who, method, target, "")
		if resp.StatusCode != want || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s as %q: %d %v, want %d: %s", method, target, who, resp.StatusCode, resp.Header, want, got)
		}
		for _, text := range texts {
			if !strings.Contains(got, text) {
				t.Errorf("%s %s as %q: %q is not in %s", method, target, who, text, got)
			}
		}
		checkDocumented(t, schemas, d.Paths[path][strings.ToLower(method)], strings.ToLower(method), path, resp, got)
	}
	const all, one, run = "/api/v1/jobs", "/api/v1/jobs/{job}", "/api/v1/job-runs/{run}"
	for who, want := range map[string]int{"": 401, "alice": 403, "lead": 403, "ci": 403, "limited": 403} {
		ask(who, "GET", all, all, want)
		ask(who, "POST", one, "/api/v1/jobs/runAll", want)
		ask(who, "POST", one, "/api/v1/jobs/nothing", want)
		ask(who, "GET", run, "/api/v1/job-runs/1", want)
	}
	if names, err := m.store.RequestedJobs(t.Context(), true); err != nil || len(names) > 0 {
		t.Errorf("who may not has asked for %v, %v", names, err)
	}
	// The leader, which fails.
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			ids, err := m.store.BeginRuns(ctx, "runAll")
			if err == nil && len(ids) > 0 {
				err = m.store.EndRuns(ctx, ids, "runBlobGC: the registry is away")
			}
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	defer func() { stop(); <-ended }()
	ask("root", "POST", one, "/api/v1/jobs/runAll", 200, `"job":"runAll"`, `"asked_by":"root"`, `"error":"runBlobGC: the registry is away"`, `"ended_at":`)
	ask("root", "GET", run, "/api/v1/job-runs/1", 200, `"id":1`, `"error":"runBlobGC: the registry is away"`)
	ask("root", "GET", run, "/api/v1/job-runs/99", 404, "there is no run 99")
	ask("root", "GET", run, "/api/v1/job-runs/x", 404)
	ask("root", "POST", one, "/api/v1/jobs/nothing", 404, "there is no job", "runAll")
	ask("root", "GET", all, all, 200, `"current":false`, `"items":[]`)
	records, err := m.store.Audit(t.Context(), access.AuditQuery{Event: access.JobRun, Limit: 10})
	m.must(t, err)
	if len(records) != 1 || records[0].Actor.Name != "root" || records[0].Target != "runAll" {
		t.Errorf("recorded: %+v", records)
	}
}
