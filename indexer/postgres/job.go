package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/postgres/pg"
)

// ErrNotLeader is returned to a process that reports jobs after another process has
// begun to lead.
var ErrNotLeader = errors.New("another process has begun to lead")

// maxJobError is the maximum number of characters of an error of a job that is stored:
// 1,000. Reasons of ours are shorter.
const maxJobError = "1000"

// A jobRow is a row of job.
type jobRow struct {
	Name      string
	Place     int32
	Running   bool
	LastBegin *time.Time
	LastEnd   *time.Time
	LastError string
	NextAt    *time.Time
	Done      int64
	Total     int64
}

// reportedJobs are the rows of jobRows, as they are stored.
var reportedJobs = `(
		SELECT name, place, running, last_begin, last_end, left(last_error, ` + maxJobError + `) AS last_error, next_at, done, total
		FROM ` + pg.Unnest[jobRow]("r", 1) + `
	)`

// jobRows returns the rows that store jobs.
func jobRows(jobs []indexer.Job) []jobRow {
	rows := make([]jobRow, len(jobs))
	for i, j := range jobs {
		rows[i] = jobRow{
			Name: j.Name, Place: int32(i + 1), Running: j.Running, LastError: indexer.CleanText(j.LastError),
			LastBegin: pg.TimeOrNull(j.LastBegin), LastEnd: pg.TimeOrNull(j.LastEnd), NextAt: pg.TimeOrNull(j.Next),
			Done: j.Done, Total: j.Total,
		}
	}
	return rows
}

// BeginReports stores the first report of a process that begins to lead. It replaces
// the report of the previous leader. It returns the time of the first report, by the
// clock of the database, which ReportJobs needs.
func (s *Store) BeginReports(ctx context.Context, jobs []indexer.Job) (since time.Time, err error) {
	const leader = `
		INSERT INTO leader (since, reported_at) VALUES (now(), now())
		ON CONFLICT (one) DO UPDATE SET since = excluded.since, reported_at = excluded.reported_at RETURNING since`
	stored := `
		INSERT INTO job (name, place, running, last_begin, last_end, last_error, next_at, done, total)
		SELECT name, place, running, last_begin, last_end, last_error, next_at, done, total FROM ` + reportedJobs + ` AS r`
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, leader).Scan(&since); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM job"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, stored, pg.Arrays(jobRows(jobs))...)
		return err
	})
	if err != nil {
		return time.Time{}, pg.Wrap("first report of jobs", err)
	}
	return since, nil
}

// ReportJobs stores the states of jobs and the time of the report. since is what
// BeginReports returned. It writes only rows that differ. It returns ErrNotLeader, and
// changes nothing, if another process has called BeginReports since then.
func (s *Store) ReportJobs(ctx context.Context, since time.Time, jobs []indexer.Job) error {
	// The row of the leader is locked first, by BeginReports too, so a report of the
	// previous leader is stored either before that of the next one or not at all.
	q := `
		WITH leads AS (UPDATE leader SET reported_at = now() WHERE since = $10 RETURNING since),
		changed AS (
			UPDATE job j
			SET (running, last_begin, last_end, last_error, next_at, done, total)
				= (r.running, r.last_begin, r.last_end, r.last_error, r.next_at, r.done, r.total)
			FROM leads, ` + reportedJobs + ` AS r
			WHERE j.name = r.name AND (j.running, j.last_begin, j.last_end, j.last_error, j.next_at, j.done, j.total)
				IS DISTINCT FROM (r.running, r.last_begin, r.last_end, r.last_error, r.next_at, r.done, r.total)
		)
		SELECT count(*) FROM leads`
	var leads int
	err := s.pool.QueryRow(ctx, q, append(pg.Arrays(jobRows(jobs)), since)...).Scan(&leads)
	if err == nil && leads == 0 {
		err = ErrNotLeader
	}
	return pg.Wrap("report of jobs", err)
}

func (r jobRow) job() indexer.Job {
	return indexer.Job{
		Name: r.Name, Running: r.Running, LastBegin: pg.TimeOrZero(r.LastBegin), LastEnd: pg.TimeOrZero(r.LastEnd),
		LastError: indexer.StoredReason(r.LastError), Next: pg.TimeOrZero(r.NextAt),
		Done: r.Done, Total: r.Total,
	}
}

// hiddenError is shown instead of the error of a job to an asker who does not see every
// repository.
const hiddenError = "the reason may name repositories, and is shown only to those who see all of them"

// Jobs returns the last report of the leader, or a zero JobReport if there is none.
// Without a current report, a job that is running in it may have ended.
func (v *View) Jobs(ctx context.Context) (report indexer.JobReport, err error) {
	// A standby may compare the clocks of two servers, so an age may be negative.
	const q = "SELECT since, extract(epoch FROM clock_timestamp() - reported_at)::float8 FROM leader"
	var age float64
	err = v.tx.QueryRow(ctx, q).Scan(&report.Since, &age)
	if errors.Is(err, pgx.ErrNoRows) {
		return indexer.JobReport{}, nil
	}
	if err != nil {
		return report, pg.Wrap("jobs", err)
	}
	report.Age = max(time.Duration(age*float64(time.Second)), 0)
	const jobs = `
		SELECT name, place, running, last_begin, last_end, last_error, next_at, done, total FROM job ORDER BY place`
	rows, err := pg.Collect[jobRow](ctx, v.tx, jobs)
	for _, r := range rows {
		if !v.visible.All() {
			r.Done, r.Total = 0, 0 // of repositories, for example
			if r.LastError != "" {
				r.LastError = hiddenError
			}
		}
		report.Jobs = append(report.Jobs, r.job())
	}
	return report, pg.Wrap("jobs", err)
}
