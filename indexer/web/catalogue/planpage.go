package catalogue

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/retention"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// A planView is the page of a plan. It is made for a person who is afraid to delete something.
type planView struct {
	retention.Plan
	Cap          int
	Outcomes     retention.Outcomes
	Repositories []retention.PlanRepository // those in which most is deleted
	MoreOf       bool                       // whether there are others
	LeftOutOf    []retention.PlanRepository // the first of those that were left out
	Stays        []stay                     // of all shown repositories
	Items        []retention.Item
	Repository   string // only items of it; "": any
	Show         string // deleted, stays or skipped
	Find         string
	Back, More   string
	Wrong        string
	Applies      bool // whether it can be applied
	tabs
}

// A stay is how much stays for a reason.
type stay struct {
	Why   string
	Count int
}

// Confirmation returns the number that has to be typed to apply the plan: that of its tags or,
// if there are none, of its manifests.
func (v planView) Confirmation() int64 { return cmp.Or(v.TagsDeleted, v.ManifestsDeleted) }

// Counts returns what has to be typed, in words.
func (v planView) Counts() string {
	if v.TagsDeleted > 0 {
		return "tags"
	}
	return "manifests"
}

// BeyondCap reports whether more is deleted than the cap allows.
func (v planView) BeyondCap() bool { return v.Percent > v.Cap }

// whys are the reasons to stay, in the order in which they are shown.
var whys = []struct {
	code retention.Code
	text string
}{
	{retention.ByRule, "kept by a rule, or not decided for lack of knowledge"},
	{retention.NoRule, "no rule selects them"},
	{retention.Tagged, "a tag that stays shows them"},
	{retention.Child, "an index that stays lists them"},
	{retention.Referrer, "attached to what stays, such as signatures"},
	{retention.InUse, "run in a cluster, or belong to what does"},
	{retention.Protected, "protected"},
	{retention.Unknown, "not known whole"},
}

const (
	// repositoriesShown is how many repositories the page of a plan lists: 20.
	repositoriesShown = 20
	// leftOutShown is how many of those that were left out it lists: 10.
	leftOutShown = 10
)

// Plan serves the page of a plan.
func (s *Catalogue) Plan(w http.ResponseWriter, r *http.Request) error {
	return s.plan(w, r, http.StatusOK, "")
}

func (s *Catalogue) plan(w http.ResponseWriter, r *http.Request, code int, problem string) error {
	return s.planning(w, r, func(ctx context.Context, c login.Plans, who access.Subject) error {
		p, err := planIn(ctx, r, c, who)
		if err != nil {
			return err
		}
		form := r.URL.Query()
		v := planView{
			Plan: p, Cap: c.Limit(), Repository: cleanField(form, "repository"), Show: cleanField(form, "show"),
			Find: cleanField(form, "find"), Wrong: problem, tabs: tabsOf(who, "retention"),
		}
		v.Applies = p.State == retention.PlanMade && p.Stale == "" && p.Operation == 0 && p.TagsDeleted+p.ManifestsDeleted > 0
		if err := v.fill(ctx, c, cleanField(form, "after")); err != nil {
			return err
		}
		title := "Plan " + strconv.FormatInt(p.ID, 10)
		return s.unstored(w, code, "plan", page{Title: title, Account: true, Main: v})
	})
}

// planIn returns the plan in the path of a request, which a person oversees.
func planIn(ctx context.Context, r *http.Request, c login.Plans, who access.Subject) (retention.Plan, error) {
	id, err := numberIn(r.PathValue("plan"))
	if err != nil {
		return retention.Plan{}, err
	}
	p, err := login.PlanOf(ctx, c, who, id)
	if errors.Is(err, indexer.ErrNotFound) {
		err = answer.Refuse(http.StatusNotFound, "there is no plan %d", id)
	}
	return p, err
}

// fill reads what the page shows.
func (v *planView) fill(ctx context.Context, c login.Plans, after string) (err error) {
	if v.Operation > 0 {
		if v.Outcomes, err = c.PlanOutcomes(ctx, v.ID); err != nil {
			return err
		}
	}
	v.Repositories, err = c.PlanRepositories(ctx, retention.RepositoryQuery{
		Plan: v.ID, Contains: v.Repository, Limit: repositoriesShown + 1,
	})
	if err != nil {
		return err
	}
	if v.MoreOf = len(v.Repositories) > repositoriesShown; v.MoreOf {
		v.Repositories = v.Repositories[:repositoriesShown]
	}
	v.LeftOutOf, err = c.PlanRepositories(ctx, retention.RepositoryQuery{Plan: v.ID, LeftOut: true, Limit: leftOutShown})
	if err != nil {
		return err
	}
	v.count()
	return v.list(ctx, c, after)
}

// count counts what stays in the shown repositories.
func (v *planView) count() {
	counts := map[retention.Code]int{}
	for _, r := range v.Repositories {
		for code, n := range r.Stays {
			counts[code] += n
		}
	}
	for _, why := range whys {
		if n := counts[why.code]; n > 0 {
			v.Stays = append(v.Stays, stay{why.text, n})
		}
	}
}

// list reads the items that the page shows.
func (v *planView) list(ctx context.Context, c login.Plans, after string) (err error) {
	q := retention.ItemQuery{Plan: v.ID, Repository: v.Repository, Contains: v.Find, Limit: pageSize + 1}
	deleted := v.Show != "stays"
	q.Deleted = &deleted
	if v.Show == retention.OutcomeSkipped {
		q.Outcome = retention.OutcomeSkipped
	}
	address := func(after string) string {
		return addressWith("/manage/plans/"+strconv.FormatInt(v.ID, 10), "repository", v.Repository, "show", v.Show, "find",
			v.Find,
			"after", after)
	}
	if name, number, found := strings.Cut(after, " "); found {
		if q.AfterID, err = strconv.Atoi(number); err != nil || !indexer.IsRepository(name) {
			return indexer.Invalid("after is %.64q: take it from the link to the next page", after)
		}
		q.After, v.Back = name, address("")
	}
	if v.Items, err = c.PlanItems(ctx, q); err != nil {
		return err
	}
	if len(v.Items) > pageSize {
		v.Items = v.Items[:pageSize]
		last := v.Items[pageSize-1]
		v.More = address(last.Repository + " " + strconv.Itoa(last.ID))
	}
	return nil
}

// ApplyPlan applies a plan, if the person has typed how much it deletes.
func (s *Catalogue) ApplyPlan(w http.ResponseWriter, r *http.Request) error {
	return s.operatePlan(w, r, func(ctx context.Context, c login.Plans, p retention.Plan) (indexer.Operation, error) {
		v := planView{Plan: p, Cap: c.Limit()}
		typed, err := numberIn(strings.ReplaceAll(cleanField(r.PostForm, "count"), ",", ""))
		if err != nil {
			return indexer.Operation{}, err
		}
		if typed != v.Confirmation() {
			return indexer.Operation{}, indexer.Invalid("the plan deletes %d %s, and you typed %d: nothing was deleted",
				v.Confirmation(), v.Counts(), typed)
		}
		accept, err := numberIn(strings.TrimSpace(strings.TrimSuffix(cleanField(r.PostForm, "accept_percent"), "%")))
		if err != nil {
			return indexer.Operation{}, err
		}
		return c.Apply(ctx, p, int(min(accept, 100)))
	})
}

// UndoPlan puts back all that a plan has deleted.
func (s *Catalogue) UndoPlan(w http.ResponseWriter, r *http.Request) error {
	return s.operatePlan(w, r, func(ctx context.Context, c login.Plans, p retention.Plan) (indexer.Operation, error) {
		return c.UndoPlan(ctx, p)
	})
}

// operatePlan performs an operation of a plan, and shows the plan again.
func (s *Catalogue) operatePlan(w http.ResponseWriter, r *http.Request,
	f func(context.Context, login.Plans, retention.Plan) (indexer.Operation, error)) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	l := s.config.Login
	var p retention.Plan
	err = l.Planning(r, who, access.Overseers, func(ctx context.Context, c login.Plans) (err error) {
		p, err = planIn(ctx, r, c, who)
		return err
	})
	if err != nil {
		return err
	}
	err = l.Planning(r, who, access.OverseersOf(p.Scope), func(ctx context.Context, c login.Plans) error {
		_, err := f(ctx, c, p)
		return err
	})
	if code, text := wrong(err); text != "" {
		return s.plan(w, r, code, text)
	}
	if err != nil {
		return err
	}
	seeOther(w, "/manage/plans/"+strconv.FormatInt(p.ID, 10))
	return nil
}
