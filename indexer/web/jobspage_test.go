package web_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres"
	"github.com/portbook/portbook/indexer/web"
)

// In the browser, administrators see every job and have the leader run it.
func TestJobsByPage(t *testing.T) {
	t.Parallel()
	m := manage(t, unlimited, func(c *web.Config) { c.Jobs = c.Login.Changer.(*postgres.Store) })
	root := m.browser(t, "root")
	got := root.wants(t, "GET", "/manage/jobs", nil, 200, "No leader has reported")
	for _, name := range indexer.JobNames {
		if !strings.Contains(got, `action="/manage/jobs/`+name+`"`) || !strings.Contains(got, `<th scope="row">`+name+`<br><span class="faint same">`) {
			t.Errorf("the job %s has no button, or it is not said what it does:\n%s", name, got)
		}
	}
	_, err := m.store.BeginReports(t.Context(), []indexer.Job{
		{Name: "scan", Running: true, Done: 12, Total: 3456, LastEnd: time.Now(), LastError: "the registry is <away>"},
	})
	m.must(t, err)
	root.wants(t, "GET", "/manage/jobs", nil, 200, "runs, 12 of 3,456", "The last run failed: the registry is &lt;away&gt;")
	m.browser(t, "lead").wants(t, "GET", "/manage/jobs", nil, 403)
	m.browser(t, "lead").wants(t, "POST", "/manage/jobs/scan", nil, 403)
	root.wants(t, "POST", "/manage/jobs/nonsense", nil, 404, "there is no job")
	root.wants(t, "POST", "/manage/jobs/scan", nil, http.StatusSeeOther)
	root.wants(t, "GET", "/manage/jobs?run=1", nil, 200, "Run 1 of <b>scan</b>, asked for by root", "has not begun it")
	ids, err := m.store.BeginRuns(t.Context(), "scan")
	m.must(t, err)
	root.wants(t, "GET", "/manage/jobs?run=1", nil, 200, "it began")
	m.must(t, m.store.EndRuns(t.Context(), ids, "scan: the registry is <away>"))
	root.wants(t, "GET", "/manage/jobs?run=1", nil, 200, "it failed", "the registry is &lt;away&gt;")
	root.wants(t, "GET", "/manage/jobs?run=99", nil, 404)
	m.wants(t, "root", "POST", "/api/v1/jobs/nonsense", "", 404)
	m.wants(t, "root", "GET", "/api/v1/audit?event=job.run", "", 200, `"scan"`)
}
