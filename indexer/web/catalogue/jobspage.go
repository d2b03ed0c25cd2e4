package catalogue

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// Jobs has the leader run jobs: see postgres.Store.
type Jobs interface {
	RequestJob(ctx context.Context, name string) (indexer.JobRun, error)
	JobRun(ctx context.Context, id int64) (indexer.JobRun, error)
}

// A jobsView is the page of the jobs of the leader.
type jobsView struct {
	leadView
	List []jobRow
	Run  *indexer.JobRun // which somebody has asked for here; nil: none
	tabs
}

// A jobRow is a job in the table, which a leader may have or not.
type jobRow struct {
	jobView
	What      string // what the job does
	Has       bool   // whether the leader has reported it
	OnlyAsked bool   // whether it runs only when somebody asks for it
}

// jobTexts say what jobs do.
var jobTexts = map[string]string{
	"scan":                          "compares the registry with the book",
	"search":                        "writes search rows of an older form again",
	"storage":                       "counts what repositories take",
	"partitions":                    "makes the tables of the next months, and drops old ones",
	"changes":                       "forgets which search rows changed, once every reader knows",
	"usage":                         "adds pulls and pushes to the counts",
	"protection":                    "puts protected tags back that were moved all the same",
	"webhooks":                      "counts what waits for webhooks, and forgets old deliveries",
	"watch":                         "notices restarts of the registry",
	"loose":                         "forgets loose blobs that are no longer loose",
	"times":                         "gives what was imported from another system the times that it had there",
	"trash":                         "empties the trash of what is too old",
	"plans":                         "makes a plan of what rules of retention would delete, if one is due",
	"tidy":                          "deletes rows that nothing refers to",
	"collect":                       "looks at the storage, and frees blobs that nothing uses",
	indexer.IndexManifests:          "scans the registry, and reads again what is not known whole",
	indexer.RunBlobGC:               "removes loose blobs from repositories",
	indexer.CalculateProjectStorage: "counts what each repository and each project takes",
	indexer.RunAll:                  "indexManifests, runBlobGC and calculateProjectStorage, in this order",
}

// soon is the time to the next run of a job that is not told: 10 s. By then a reader has not read
// it.
const soon = 10 * time.Second

// rows returns the jobs that the leader has reported, and then those that it has not.
func (v leadView) rows() (list []jobRow) {
	for _, j := range v.Jobs {
		if time.Until(j.Next) < soon {
			j.Next = time.Time{}
		}
		list = append(list, jobRow{j, jobTexts[j.Name], true, slices.Contains(indexer.InternalJobs, j.Name)})
	}
	for _, name := range indexer.JobNames {
		if !slices.ContainsFunc(v.Jobs, func(j jobView) bool { return j.Name == name }) {
			list = append(list, jobRow{jobView: jobView{Job: indexer.Job{Name: name}}, What: jobTexts[name]})
		}
	}
	return list
}

// Jobs serves the jobs of the leader to administrators. While a run that somebody asked for here
// is not over, the browser asks again.
func (s *Catalogue) Jobs(w http.ResponseWriter, r *http.Request) error {
	return s.manage(w, r, access.Administrators, func(ctx context.Context, _ login.Changer, who access.Subject) error {
		if s.config.Jobs == nil {
			return login.ErrOnlyReads
		}
		v := jobsView{tabs: tabsOf(who, "jobs")}
		id, err := numberIn(cleanField(r.URL.Query(), "run"))
		if err != nil {
			return err
		}
		if id > 0 {
			run, err := s.config.Jobs.JobRun(ctx, id)
			if errors.Is(err, indexer.ErrNotFound) {
				return answer.Refuse(http.StatusNotFound, "there is no run %d of a job: ended runs are forgotten after a week", id)
			}
			if err != nil {
				return err
			}
			v.Run = &run
		}
		err = s.answerer.Read(ctx, r, func(b answer.Book) error {
			report, err := b.Jobs(ctx)
			v.leadView = viewLead(report, time.Now())
			return err
		})
		if err != nil {
			return err
		}
		v.List = v.rows()
		if v.Run != nil && !v.Run.Ended() {
			w.Header().Set("Refresh", "2")
		}
		return s.unstored(w, http.StatusOK, "jobs", page{Title: "Jobs", Account: true, Main: v})
	})
}

// RunJob has the leader run a job, and shows how far it is.
func (s *Catalogue) RunJob(w http.ResponseWriter, r *http.Request) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	if s.config.Jobs == nil {
		return login.ErrOnlyReads
	}
	name := r.PathValue("job")
	if !slices.Contains(indexer.JobNames, name) {
		return answer.Refuse(http.StatusNotFound, "there is no job %.64q: there are %s", name,
			strings.Join(indexer.JobNames, ", "))
	}
	var run indexer.JobRun
	err = s.change(r, who, access.Administrators, func(ctx context.Context, _ login.Changer) (err error) {
		run, err = s.config.Jobs.RequestJob(ctx, name)
		return err
	})
	if err != nil {
		return err
	}
	seeOther(w, "/manage/jobs?run="+strconv.FormatInt(run.ID, 10))
	return nil
}
