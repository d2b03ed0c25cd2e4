package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// Jobs has the leader run jobs: see postgres.Store.
type Jobs interface {
	RequestJob(ctx context.Context, name string) (indexer.JobRun, error)
	JobRun(ctx context.Context, id int64) (indexer.JobRun, error)
}

// jobEndpoints returns the endpoints for the jobs of the leader, in the order of doc/api.md; none
// if nobody logs in, because then nobody is an administrator.
func (s *API) jobEndpoints() []endpoint {
	if s.config.Login == nil || s.config.Login.Accounts == nil {
		return nil
	}
	codes := []int{http.StatusOK, http.StatusAccepted}
	return []endpoint{
		{path: "/jobs", id: "jobs", summary: "List the jobs of the leader, as an administrator", book: true,
			gives: jobsAnswer{}, f: s.jobs},
		{method: "POST", path: "/jobs/{job}", id: "runJob", summary: "Have the leader run a job now, as an administrator",
			codes: codes, gives: jobRunAnswer{}, f: s.administering(s.runJob)},
		{path: "/job-runs/{run}", id: "jobRun", summary: "Get a run of a job that was asked for, as an administrator",
			gives: jobRunAnswer{}, f: s.administering(s.jobRun)},
	}
}

// administering returns the handler of an endpoint for administrators, that only a writer can
// answer.
func (s *API) administering(f forSubject) func(http.ResponseWriter, asked) error {
	return func(w http.ResponseWriter, r asked) error {
		if s.config.Jobs == nil {
			return login.ErrOnlyReads
		}
		who, err := s.config.Login.Administrator(r.Request)
		if err != nil {
			return err
		}
		return f(w, r, who)
	}
}

type jobsAnswer struct {
	Current bool        `json:"current" doc:"whether the leader has reported within a minute"`
	Items   []jobAnswer `json:"items"`
}

type jobAnswer struct {
	Name      string            `json:"name"`
	Running   bool              `json:"running"`
	Done      int64             `json:"done" doc:"how much of its run is done, or was when the last one ended"`
	Total     int64             `json:"total" doc:"how much there is to do; 0: the job does not say"`
	LastBegin *answer.Timestamp `json:"last_begin,omitempty"`
	LastEnd   *answer.Timestamp `json:"last_end,omitempty"`
	LastError string            `json:"last_error,omitempty" doc:"why the last run failed; absent: it did not"`
	Next      *answer.Timestamp `json:"next,omitempty" doc:"absent: it runs, or only when somebody asks for it"`
}

func jobOf(j indexer.Job) jobAnswer {
	return jobAnswer{
		Name: j.Name, Running: j.Running, Done: j.Done, Total: j.Total, LastBegin: timestampOf(j.LastBegin),
		LastEnd: timestampOf(j.LastEnd), LastError: j.LastError, Next: timestampOf(j.Next),
	}
}

func (s *API) jobs(w http.ResponseWriter, r asked) error {
	if _, err := s.config.Login.Administrator(r.Request); err != nil {
		return err
	}
	var report indexer.JobReport
	err := s.answerer.Read(r.Context(), r.Request, func(b answer.Book) (err error) {
		report, err = b.Jobs(r.Context())
		return err
	})
	if err != nil {
		return err
	}
	return answer.WriteJSON(w, http.StatusOK, jobsAnswer{report.IsCurrent(), answer.Map(report.Jobs, jobOf)})
}

// A jobRunAnswer is a run of a job in the API.
type jobRunAnswer struct {
	ID        int64             `json:"id"`
	Job       string            `json:"job"`
	AskedBy   string            `json:"asked_by" doc:"who asked for it first"`
	AskedAt   answer.Timestamp  `json:"asked_at"`
	StartedAt *answer.Timestamp `json:"started_at,omitempty" doc:"absent: the leader has not begun it"`
	EndedAt   *answer.Timestamp `json:"ended_at,omitempty" doc:"absent: it is not over"`
	Error     string            `json:"error,omitempty" doc:"why it failed"`
}

func writeRun(w http.ResponseWriter, run indexer.JobRun) error {
	code := http.StatusOK
	if !run.Ended() {
		code = http.StatusAccepted
	}
	return answer.WriteJSON(w, code, jobRunAnswer{
		ID: run.ID, Job: run.Name, AskedBy: run.AskedBy, AskedAt: answer.Timestamp{Time: run.AskedAt},
		StartedAt: timestampOf(run.StartedAt), EndedAt: timestampOf(run.EndedAt), Error: run.Error,
	})
}

const (
	// jobWait is how long a request for a run waits for its end: 10 s. Then the answer is 202.
	jobWait = 10 * time.Second
	// jobEvery is how often it looks: 250 ms.
	jobEvery = 250 * time.Millisecond
)

func (s *API) runJob(w http.ResponseWriter, r asked, who access.Subject) error {
	name := r.PathValue("job")
	if !slices.Contains(indexer.JobNames, name) {
		return answer.Refuse(http.StatusNotFound, "there is no job %.64q: there are %s", name,
			strings.Join(indexer.JobNames, ", "))
	}
	ctx, err := s.config.Login.Changing(r.Request, who, access.Administrators)
	if err != nil {
		return err
	}
	var run indexer.JobRun
	err = s.config.Login.Managing(r.WithContext(ctx), func(ctx context.Context) (err error) {
		run, err = s.config.Jobs.RequestJob(ctx, name)
		return err
	})
	for end := time.Now().Add(jobWait); err == nil && !run.Ended() && time.Now().Before(end); {
		select {
		case <-r.Context().Done():
			return r.Context().Err()
		case <-time.After(jobEvery):
		}
		run, err = s.config.Jobs.JobRun(r.Context(), run.ID)
	}
	if err != nil {
		return err
	}
	return writeRun(w, run)
}

func (s *API) jobRun(w http.ResponseWriter, r asked, _ access.Subject) error {
	id, err := strconv.ParseInt(r.PathValue("run"), 10, 64)
	if err != nil || id < 1 || id > query.MaxNumber {
		return answer.Refuse(http.StatusNotFound, "there is no run %.64q of a job", r.PathValue("run"))
	}
	var run indexer.JobRun
	err = s.config.Login.Managing(r.Request, func(ctx context.Context) (err error) {
		run, err = s.config.Jobs.JobRun(ctx, id)
		return err
	})
	if err != nil {
		return orNone(err, "run %d of a job", id)
	}
	return writeRun(w, run)
}
