package web_test

import (
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
)

// What is wrong stands before everything else, and nothing is called wrong that
// is not.
func TestStatusTroubles(t *testing.T) {
	t.Parallel()
	scanned := &indexer.Scan{StartedAt: day, FinishedAt: day.Add(90 * time.Second)}
	for name, test := range map[string]struct {
		status indexer.Status
		want   string // "": nothing is wrong
	}{
		"well":               {indexer.Status{LastScan: scanned}, ""},
		"busy":               {indexer.Status{LastScan: scanned, TasksDue: 9, OldestDue: time.Second, Running: &indexer.Scan{StartedAt: day}}, ""},
		"first scan runs":    {indexer.Status{Running: &indexer.Scan{StartedAt: day, Listed: 5}}, ""},
		"asked for just now": {indexer.Status{LastScan: scanned, Waiting: &indexer.Scan{AskedAt: time.Now()}}, ""},
		"never scanned":      {indexer.Status{}, "No scan has ever gone through the registry."},
		"registry away":      {indexer.Status{LastScan: scanned, Running: &indexer.Scan{StartedAt: day, Problem: "the registry cannot be reached"}}, "The running scan cannot go on: the registry cannot be reached"},
		"nobody leads":       {indexer.Status{LastScan: scanned, Waiting: &indexer.Scan{AskedAt: time.Now().Add(-time.Hour)}}, "Nobody leads: a scan was asked for 1 h 0 min ago"},
		"backlog":            {indexer.Status{LastScan: scanned, TasksDue: 1234, OldestDue: 5 * time.Minute}, "1,234 references wait to be read, the oldest for 5 min 0 s."},
		"given up":           {indexer.Status{LastScan: scanned, GivenUp: 1}, "1 reference could not be read"},
		"failed":             {indexer.Status{LastScan: &indexer.Scan{StartedAt: day, FinishedAt: day, Errors: 2}}, "The last scan could not look at 2 repositories."},
	} {
		_, body := get(t, serve(t, &book{status: test.status}).URL+"/status")
		checkPage(t, name, body)
		well, wrong := strings.Contains(body, "All is well"), strings.Index(body, "thing is wrong")
		if test.want == "" && (!well || wrong >= 0) || test.want != "" && (well || wrong < 0 || wrong > strings.Index(body, "<dl>")) {
			t.Errorf("%s: %s", name, body)
		}
		if !strings.Contains(body, test.want) {
			t.Errorf("%s: %q is not in %s", name, test.want, body)
		}
	}
}

func TestStatusPage(t *testing.T) {
	t.Parallel()
	b := &book{status: indexer.Status{
		LastScan: &indexer.Scan{Reason: "interval", StartedAt: day, FinishedAt: day.Add(90 * time.Second), Repositories: 5000, Tags: 20000},
		Running:  &indexer.Scan{Reason: "instance", StartedAt: day, Listed: 400, Repositories: 100},
		GivenUp:  150,
		Failures: []indexer.TaskFailure{
			{Repository: "team/app", Reference: "v1", Attempts: 6, Error: "manifest: 500", GivenUp: true},
			{Repository: "team/app", Reference: dgst("a").String(), Error: "too large"},
			{Repository: "UPPER", Reference: "v1", Error: "x"},
		},
		Instance: "registry-7", InstanceSince: day,
	}}
	s := serve(t, b)
	resp, body := get(t, s.URL+"/status")
	for _, want := range []string{
		`<a href="/r/team/app:v1">team/app:v1</a>`, "manifest: 500", "6 attempts, given up", `<a href="/r/team/app@` + dgst("a").String() + `">team/app@aaaaaaaaaaaa</a>`, "<b>UPPER:v1</b>",
		"Only the latest are listed", `<progress class="ledger-progress" max="400" value="100"`, "100 of 400 repositories that the registry has named so far, 25 %",
		"after 1 min 30 s", "<code>registry-7</code>", "150 references could not be read", "20,000 tags",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in %s", want, body)
		}
	}
	if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("ETag") != "" {
		t.Errorf("it is kept: %v", resp.Header)
	}
}
