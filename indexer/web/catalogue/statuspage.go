package catalogue

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/web/answer"
)

const (
	// longWait is how long the oldest task may wait before the page reports trouble: 2
	// minutes. A push is read within a second. Tasks of a scan of a large registry may
	// wait longer, and then the page reports that too.
	longWait = 2 * time.Minute
	// longLead is how long a scan may wait for a leader to start it: 30 s. Another
	// indexer takes over within seconds of the leader's death.
	longLead = 30 * time.Second
	// longDelivery is how long the oldest delivery to a webhook may wait before the page reports
	// trouble: an hour. Receivers are restarted, and attempts go on for three days.
	longDelivery = time.Hour
)

// A statusView is what an operator should know, problems first.
type statusView struct {
	indexer.Status
	indexer.Overview
	Next     nextScan
	Oldest   string // how long the oldest task has waited
	Troubles []trouble
	Scans    []scanView // the running, the waiting and the last complete one
	Failed   []failureView
	Cut      bool // whether there are more failures than are listed
	Lead     leadView
	Copy     indexer.SearchCopy
	CopyTook string // how long its last build took
	Program  string
	Revision string
	Levels   []indexer.ProtectionLevel
}

// A leadView is what the leader last reported.
type leadView struct {
	Since   time.Time // zero if no leader has ever reported
	Age     string    // of the report
	Current bool      // whether that leader probably still leads; if not, its jobs no longer run
	Jobs    []jobView
}

// A jobView is a job of the leader. Next is zero unless it is in the future.
type jobView struct {
	indexer.Job
	Took string // duration of the last run that ended
}

// A trouble is a problem and what to do about it.
type trouble struct{ What, Help string }

type scanView struct {
	*indexer.Scan
	What string
	Took string // so far, if it is running
	Runs bool   // whether it is running and the registry has listed something
	Part int    // percentage of that which is done
}

type failureView struct {
	indexer.TaskFailure
	Address string // of its page, "" if it has none
	Name    string // as in commands, but with a short digest
}

// Status serves the one page that does not depend on the version of the catalogue:
// tasks come and go without a new version. So it has no ETag, is not stored in caches,
// and may say how long ago something happened.
func (s *Catalogue) Status(w http.ResponseWriter, r *http.Request) error {
	var status indexer.Status
	var overview indexer.Overview
	var report indexer.JobReport
	var copied indexer.SearchCopy
	var fresh indexer.Freshness
	err := s.answerer.ReadSince(r, func(b answer.Book, f indexer.Freshness) (err error) {
		fresh = f
		if status, err = b.Status(r.Context()); err != nil {
			return err
		}
		if overview, err = b.Overview(r.Context()); err != nil {
			return err
		}
		if report, err = b.Jobs(r.Context()); err != nil {
			return err
		}
		copied, err = b.Copy(r.Context())
		return err
	})
	if err != nil {
		return err
	}
	answer.SetFreshness(w.Header(), fresh)
	var body strings.Builder
	view := s.viewStatus(status, overview, report, copied, time.Now())
	if err := s.render(&body, "status", page{Title: "Status", Main: view}); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	return answer.Write(w, []byte(body.String()))
}

func (s *Catalogue) viewStatus(
	status indexer.Status, overview indexer.Overview, report indexer.JobReport, copied indexer.SearchCopy, now time.Time,
) statusView {
	view := statusView{
		Status: status, Overview: overview, Oldest: span(status.OldestDue), Troubles: troublesOf(status, report, now),
		Lead: viewLead(report, now), Copy: copied, CopyTook: span(copied.Took), Program: s.config.Version, Revision: s.config.Revision,
		Levels: s.config.Levels(),
	}
	view.Next = s.nextScan(status, overview, now)
	if view.Next.Never {
		view.Troubles = append(view.Troubles, trouble{"Periodic scans are off: interval.fetch_all is 0.",
			"Changes without an event, such as pushes while the registry could not reach this indexer, are missing " +
				"until somebody runs portbook scan. Set interval.fetch_all, for example to 1h."})
	}
	if copied.TooLarge {
		view.Troubles = append(view.Troubles, trouble{"The copy for searches would exceed search.memory_limit.",
			"This indexer answers searches from the database, which is slower. Raise the limit, or set search.memory " +
				"to false if that is meant."})
	}
	for _, x := range []struct {
		what string
		scan *indexer.Scan
	}{{"Running scan", status.Running}, {"Waiting scan", status.Waiting}, {"Last full scan", status.LastScan}} {
		if x.scan != nil {
			view.Scans = append(view.Scans, viewScan(x.what, x.scan, now))
		}
	}
	for _, f := range status.Failures {
		view.Failed = append(view.Failed, viewFailure(f))
	}
	view.Cut = status.GivenUp > len(status.Failures)
	return view
}

func viewLead(report indexer.JobReport, now time.Time) leadView {
	view := leadView{Since: report.Since, Age: span(report.Age), Current: report.IsCurrent()}
	for _, j := range report.Jobs {
		if !view.Current || j.Next.Before(now) {
			j.Next = time.Time{}
		}
		view.Jobs = append(view.Jobs, jobView{Job: j, Took: span(j.LastEnd.Sub(j.LastBegin))})
	}
	return view
}

// A nextScan is when the next scan starts, as far as that is known.
type nextScan struct {
	At    time.Time // zero: only Text applies
	Text  string
	Never bool // unless somebody requests one
}

// nextScan says when the next scan starts. A reader does not have the interval in its
// configuration, so it uses the one recorded by the last periodic scan.
func (s *Catalogue) nextScan(status indexer.Status, overview indexer.Overview, now time.Time) nextScan {
	every := overview.ScansEvery
	if s.config.Writes {
		every = s.config.FetchAll
	}
	last := status.LastScan
	switch {
	case status.Running != nil:
		return nextScan{Text: "running now"}
	case status.Waiting != nil:
		return nextScan{Text: "requested; it starts as soon as there is a leader"}
	case s.config.Writes && every == 0:
		return nextScan{Text: "none planned: interval.fetch_all is 0", Never: true}
	case every == 0:
		return nextScan{
			Text: "unknown: only the indexer that writes has interval.fetch_all, and no periodic scan has started yet"}
	case last == nil || last.StartedAt.Add(every).Before(now):
		return nextScan{Text: "due now; it starts as soon as there is a leader"}
	}
	return nextScan{At: last.StartedAt.Add(every), Text: span(every) + " after the start of the last one"}
}

func viewScan(what string, scan *indexer.Scan, now time.Time) scanView {
	v := scanView{Scan: scan, What: what}
	switch {
	case scan.StartedAt.IsZero():
	case !scan.FinishedAt.IsZero():
		v.Took = span(scan.FinishedAt.Sub(scan.StartedAt))
	default:
		v.Took = span(now.Sub(scan.StartedAt))
		if scan.Listed > 0 {
			v.Runs, v.Part = true, min(100*scan.Repositories/scan.Listed, 100)
		}
	}
	return v
}

// span formats a duration in its two largest units.
func span(d time.Duration) string {
	pair := func(whole, part time.Duration, units string) string {
		return fmt.Sprintf(units, d/whole, d%whole/part)
	}
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", max(d.Milliseconds(), 0))
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return pair(time.Minute, time.Second, "%d min %d s")
	case d < 24*time.Hour:
		return pair(time.Hour, time.Minute, "%d h %d min")
	}
	return pair(24*time.Hour, time.Hour, "%d d %d h")
}

func viewFailure(f indexer.TaskFailure) failureView {
	ref := f.Reference.In(f.Repository)
	view := failureView{f, addressOf(ref.String()), ref.String()}
	if f.Reference.IsDigest() {
		view.Name = f.Repository + "@" + answer.Short(ref.Digest)
	}
	return view
}

// addressOf returns the page of a reference, "" if it can have none.
func addressOf(reference string) string {
	if _, err := indexer.ParseReference(reference); err != nil {
		return ""
	}
	return "/r/" + reference
}

// troublesOf returns what is wrong and what to do about it, the worst first.
func troublesOf(s indexer.Status, report indexer.JobReport, now time.Time) (list []trouble) {
	add := func(is bool, what, help string) {
		if is {
			list = append(list, trouble{what, help})
		}
	}
	if x := s.Running; x != nil {
		add(x.Problem != "", "The running scan cannot continue: "+answer.Cut(x.Problem, 500),
			"Usually the registry does not answer. The scan retries every few seconds, and the book stays as it is.")
	}
	silent := !report.Since.IsZero() && !report.IsCurrent()
	add(silent, "No leader has reported for "+span(report.Age)+".",
		"Scans, and new partitions of the database, need one indexer that writes. See whether one runs, and its log. "+
			"If one does, the database of this indexer may be a standby that is behind.")
	if x := s.Waiting; x != nil && s.Running == nil && !silent {
		waits := now.Sub(x.AskedAt)
		if x.Reason == "instance" {
			waits -= time.Minute // it may have to wait: postgres.instancePause
		}
		add(waits > longLead,
			fmt.Sprintf("There is no leader: a scan was requested %s ago and has not started.", span(waits)),
			"Scans and new partitions of the database need an indexer that writes. Check that one is running, and read its log.")
	}
	add(s.TasksDue > 0 && s.OldestDue > longWait,
		plural(s.TasksDue, "reference is", "references are")+" waiting to be read, the oldest for "+span(s.OldestDue)+".",
		"This is normal during the first scan of a large registry. Otherwise the registry is slow or unavailable, "+
			"or no indexer that writes is running.")
	add(s.GivenUp > 0,
		plural(s.GivenUp, "reference could not be read and was", "references could not be read and were")+" given up.",
		"The reasons are listed below. The next push or scan tries again.")
	add(s.Webhooks.Paused > 0, plural(s.Webhooks.Paused, "webhook is paused.", "webhooks are paused."),
		"Its receiver wants no more events, or has accepted none for three days. Who administers its repositories can see "+
			"why, and enable it again.")
	add(s.Webhooks.Oldest > longDelivery, "Events wait for a webhook, the oldest for "+span(s.Webhooks.Oldest)+".",
		"Its receiver does not accept them, or no indexer that writes is running.")
	if x := s.LastScan; x != nil {
		add(x.Errors > 0, "The last scan could not check "+plural(x.Errors, "repository.", "repositories."),
			"The book still has their state from before the scan. The log of the leader names them.")
	}
	add(s.LastScan == nil && s.Running == nil && s.Waiting == nil, "The registry has never been scanned.",
		"Images that were pushed before the first event, or while no events arrived, are missing. Run portbook scan.")
	return list
}

// plural returns a number and its noun.
func plural(n int, one, many string) string { return count(int64(n), one, many) }
