package catalogue

import (
	"context"
	"net/http"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// failedList is how many blobs that the storage refused to move or delete the page lists: 100.
// The API lists all of them.
const failedList = 100

// A collectView is the page of the garbage collection of blobs.
type collectView struct {
	indexer.Collection
	Failed []indexer.Candidate
	tabs
}

// Configured reports whether the collection has ever done anything.
func (v collectView) Configured() bool { return v.Does != "" }

// A returnedView is a row of the table of blobs that were needed again.
type returnedView struct {
	indexer.Returned
	After string
}

// Table returns the rows of the table of blobs that were needed again.
func (v collectView) Table() []returnedView {
	return answer.Map(v.Returns, func(r indexer.Returned) returnedView {
		if r.UpTo == 0 {
			return returnedView{r, "longer"}
		}
		return returnedView{r, "at most " + span(r.UpTo)}
	})
}

// LongestSpan returns the longest time after which a blob was needed again, for people.
func (v collectView) LongestSpan() string {
	return span(max(v.Longest.Round(time.Second), time.Second))
}

// ObservedSpan returns for how long the storage has been looked at, for people.
func (v collectView) ObservedSpan() string {
	if v.Observed < time.Second {
		return "less than a second"
	}
	return span(v.Observed.Round(time.Second))
}

// Collect serves the garbage collection of blobs to administrators.
func (s *Catalogue) Collect(w http.ResponseWriter, r *http.Request) error {
	return s.manage(w, r, access.Administrators, func(ctx context.Context, c login.Changer, who access.Subject) error {
		v := collectView{tabs: tabsOf(who, "collect")}
		var err error
		if v.Collection, err = c.Collection(ctx); err != nil {
			return err
		}
		if v.Failed, err = c.FailedCandidates(ctx, failedList); err != nil {
			return err
		}
		return s.unstored(w, http.StatusOK, "collect", page{Title: "Garbage collection", Account: true, Main: v})
	})
}

// PauseCollect stops the collection at once.
func (s *Catalogue) PauseCollect(w http.ResponseWriter, r *http.Request) error {
	return s.changeCollect(w, r, func(ctx context.Context, c login.Changer) error { return c.PauseCollection(ctx, true) })
}

// ResumeCollect lets the collection delete again.
func (s *Catalogue) ResumeCollect(w http.ResponseWriter, r *http.Request) error {
	return s.changeCollect(w, r, func(ctx context.Context, c login.Changer) error { return c.PauseCollection(ctx, false) })
}

// RetryCollect lets blobs be tried again that the storage refused to move or delete.
func (s *Catalogue) RetryCollect(w http.ResponseWriter, r *http.Request) error {
	return s.changeCollect(w, r, func(ctx context.Context, c login.Changer) error {
		_, err := c.RetryCollection(ctx)
		return err
	})
}

func (s *Catalogue) changeCollect(w http.ResponseWriter, r *http.Request,
	f func(context.Context, login.Changer) error) error {
	who, err := s.config.Login.Person(r)
	if err != nil {
		return err
	}
	if err := s.change(r, who, access.Administrators, f); err != nil {
		return err
	}
	seeOther(w, "/manage/collect")
	return nil
}
