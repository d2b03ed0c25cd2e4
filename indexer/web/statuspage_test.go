package web_test

import (
	"strings"
	"testing"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web"
)

// Problems are shown before everything else, and nothing else is shown as a problem.
func TestStatusTroubles(t *testing.T) {
	t.Parallel()
	scanned := &indexer.Scan{StartedAt: day, FinishedAt: day.Add(90 * time.Second)}
	for name, test := range map[string]struct {
		status indexer.Status
		want   string // "": no problem
	}{
		"well":               {indexer.Status{LastScan: scanned}, ""},
		"busy":               {indexer.Status{LastScan: scanned, TasksDue: 9, OldestDue: time.Second, Running: &indexer.Scan{StartedAt: day}}, ""},
		"first scan runs":    {indexer.Status{Running: &indexer.Scan{StartedAt: day, Listed: 5}}, ""},
		"asked for just now": {indexer.Status{LastScan: scanned, Waiting: &indexer.Scan{AskedAt: time.Now()}}, ""},
		"never scanned":      {indexer.Status{}, "The registry has never been scanned."},
		"registry away":      {indexer.Status{LastScan: scanned, Running: &indexer.Scan{StartedAt: day, Problem: "the registry cannot be reached"}}, "The running scan cannot continue: the registry cannot be reached"},
		"nobody leads":       {indexer.Status{LastScan: scanned, Waiting: &indexer.Scan{AskedAt: time.Now().Add(-time.Hour)}}, "There is no leader: a scan was requested 1 h 0 min ago"},
		"backlog":            {indexer.Status{LastScan: scanned, TasksDue: 1234, OldestDue: 5 * time.Minute}, "1,234 references are waiting to be read, the oldest for 5 min 0 s."},
		"given up":           {indexer.Status{LastScan: scanned, GivenUp: 1}, "1 reference could not be read"},
		"failed":             {indexer.Status{LastScan: &indexer.Scan{StartedAt: day, FinishedAt: day, Errors: 2}}, "The last scan could not check 2 repositories."},
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
			{Repository: "team/app", Reference: indexer.TagOrDigest(dgst("a")), Error: "too large"},
			{Repository: "UPPER", Reference: "v1", Error: "x"},
		},
		Instance: "registry-7", InstanceSince: day,
	}}
	s := serve(t, b)
	resp, body := get(t, s.URL+"/status")
	for _, want := range []string{
		`<a href="/r/team/app:v1">team/app:v1</a>`, "manifest: 500", "6 attempts, given up", `<a href="/r/team/app@` + dgst("a").String() + `">team/app@aaaaaaaaaaaa</a>`, "<b>UPPER:v1</b>",
		"Only the latest are listed", `<progress class="ledger-progress" max="400" value="100"`, "100 of 400 repositories that the registry has listed so far, 25 %",
		"after 1 min 30 s", "<code>registry-7</code>", "150 references could not be read", "20,000 tags",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in %s", want, body)
		}
	}
	if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("ETag") != "" {
		t.Errorf("the page may be cached: %v", resp.Header)
	}
}

// The page shows what is in the book, which differs from what the last scan read,
// and marks estimates as such.
func TestStatusOverview(t *testing.T) {
	t.Parallel()
	b := &book{
		status:   indexer.Status{LastScan: &indexer.Scan{StartedAt: day, FinishedAt: day, Repositories: 1, Tags: 2}, TasksDue: 4, OldestDue: 3 * time.Second},
		overview: indexer.Overview{Repositories: 1022, Tags: indexer.Count{N: 3456}, Manifests: indexer.Count{N: 12_345_678, About: true}, LastEvent: day.Add(time.Hour)},
	}
	_, body := get(t, serve(t, b).URL+"/status")
	for _, want := range []string{"<b>1,022</b> repositories in the book", "<b>3,456</b> tags", "<b>about 12,345,678</b> manifests", "the book is 3 s behind",
		`<dt>Last event</dt><dd><time datetime="2026-03-04T06:06:07Z"`, "checked 1 repository and 2 tags"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is not in %s", want, body)
		}
	}
}

// The page says where searches are answered from, and what to do if the copy in memory does
// not fit.
func TestStatusCopy(t *testing.T) {
	t.Parallel()
	for want, copied := range map[string]indexer.SearchCopy{
		"answered from the database, because search.memory is false":   {},
		"answered from the database until the copy in memory is built": {Kept: true},
		"The copy for searches would exceed search.memory_limit.":      {Kept: true, TooLarge: true},
		"answered from memory: 1,022 repositories in 32.9 MiB, up to version <code>e.7</code>, built <time": {
			Kept: true, Ready: true, Repositories: 1022, Bytes: 34_500_000, BuiltAt: day, Took: 2 * time.Second,
			Version: indexer.Version{Epoch: "e", Number: 7},
		},
	} {
		if _, body := get(t, serve(t, &book{copied: copied}).URL+"/status"); !strings.Contains(body, want) {
			t.Errorf("%q is not in %s", want, body)
		}
	}
}

// Every process shows what the leader reported. If the report is old, the page says so,
// and claims neither that a job runs nor when it runs next.
func TestStatusJobs(t *testing.T) {
	t.Parallel()
	end, soon := day.Add(90*time.Second), time.Now().Add(time.Hour)
	current := func(j indexer.Job) indexer.JobReport {
		return indexer.JobReport{Since: day, Age: 12 * time.Second, Jobs: []indexer.Job{j}}
	}
	old := func(j indexer.Job) indexer.JobReport {
		return indexer.JobReport{Since: day, Age: 3 * time.Hour, Jobs: []indexer.Job{j}}
	}
	running := indexer.Job{Name: "tidy", Running: true, LastBegin: day}
	for name, test := range map[string]struct {
		report    indexer.JobReport
		want, not string
	}{
		"none":           {indexer.JobReport{}, "No leader has reported its jobs yet.", "thing is wrong"},
		"age":            {current(running), "It reported this 12 s ago.", "No leader has reported for"},
		"running":        {current(running), ">running, began <time", "was running"},
		"waiting":        {current(indexer.Job{Name: "tidy", Next: soon}), "has not run under this leader; next run <time", "running,"},
		"due":            {current(indexer.Job{Name: "tidy", Next: day}), "has not run under this leader", "next run"},
		"failed":         {current(indexer.Job{Name: "tidy", LastBegin: day, LastEnd: end, LastError: "the <disk> is full"}), "the &lt;disk&gt; is full", "running"},
		"its duration":   {current(indexer.Job{Name: "tidy", LastBegin: day, LastEnd: end}), "after 1 min 30 s", "running"},
		"old":            {old(running), "No leader has reported for 3 h 0 min. This is what", "became the leader"},
		"old is trouble": {old(running), "<b>No leader has reported for 3 h 0 min.</b>", "All is well"},
		"old, running":   {old(running), "was running, began <time", ">running, began"},
		"old, waiting":   {old(indexer.Job{Name: "tidy", Next: soon}), "has not run under this leader", "next run"},
	} {
		b := &book{jobs: test.report}
		b.status.LastScan = &indexer.Scan{StartedAt: day, FinishedAt: day}
		_, body := get(t, serve(t, b).URL+"/status")
		checkPage(t, name, body)
		if !strings.Contains(body, test.want) || strings.Contains(body, test.not) {
			t.Errorf("%s: want %q and not %q in %s", name, test.want, test.not, body)
		}
	}
}

// A writer knows from its configuration when the next scan begins; a reader has
// another configuration, and estimates the time from earlier scans.
func TestNextScan(t *testing.T) {
	t.Parallel()
	writes := func(every time.Duration) func(*web.Config) {
		return func(c *web.Config) { c.Writes, c.FetchAll = true, every }
	}
	reads := func(*web.Config) {}
	now := time.Now().Truncate(time.Second)
	last := &indexer.Scan{StartedAt: now.Add(-10 * time.Minute), FinishedAt: now.Add(-9 * time.Minute)}
	at := func(d time.Duration) string {
		return `<dt>Next scan</dt><dd><time datetime="` + now.Add(d).UTC().Format(time.RFC3339)
	}
	for name, test := range map[string]struct {
		config   func(*web.Config)
		status   indexer.Status
		overview indexer.Overview
		want     string
		trouble  bool
	}{
		"writer":                {writes(time.Hour), indexer.Status{LastScan: last}, indexer.Overview{ScansEvery: time.Minute}, at(50 * time.Minute), false},
		"due":                   {writes(time.Minute), indexer.Status{LastScan: last}, indexer.Overview{}, "due now", false},
		"never":                 {writes(0), indexer.Status{LastScan: last}, indexer.Overview{ScansEvery: time.Hour}, "none planned: interval.fetch_all is 0", true},
		"runs":                  {writes(time.Hour), indexer.Status{LastScan: last, Running: &indexer.Scan{StartedAt: now}}, indexer.Overview{}, "running now", false},
		"asked for":             {writes(time.Hour), indexer.Status{LastScan: last, Waiting: &indexer.Scan{AskedAt: now}}, indexer.Overview{}, "requested; it starts", false},
		"reader":                {reads, indexer.Status{LastScan: last}, indexer.Overview{ScansEvery: 30 * time.Minute}, at(20 * time.Minute), false},
		"reader before any one": {reads, indexer.Status{LastScan: last}, indexer.Overview{}, "unknown: only the indexer that writes has interval.fetch_all", false},
	} {
		_, body := get(t, serve(t, &book{status: test.status, overview: test.overview}, test.config).URL+"/status")
		if !strings.Contains(body, test.want) || strings.Contains(body, "thing is wrong") != test.trouble {
			t.Errorf("%s: want %q, and trouble %v, in %s", name, test.want, test.trouble, body)
		}
	}
}
