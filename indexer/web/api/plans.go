package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/retention"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// A planAnswer is a plan in the API.
type planAnswer struct {
	ID               int64             `json:"id"`
	Scope            string            `json:"scope" doc:"the pattern of its repositories"`
	State            string            `json:"state" doc:"waiting, making, made or failed"`
	CreatedBy        string            `json:"created_by"`
	CreatedAt        answer.Timestamp  `json:"created_at"`
	MadeAt           *answer.Timestamp `json:"made_at,omitempty"`
	Rules            []string          `json:"rules" doc:"that were used, in words"`
	Stale            string            `json:"stale,omitempty" doc:"why it cannot be applied any more"`
	Notes            []string          `json:"notes" doc:"what was not known"`
	Repositories     int               `json:"repositories" doc:"number of repositories that were looked at"`
	LeftOut          int               `json:"left_out" doc:"number of repositories of which nothing was decided"`
	Tags             int64             `json:"tags"`
	TagsDeleted      int64             `json:"tags_deleted"`
	Manifests        int64             `json:"manifests"`
	ManifestsDeleted int64             `json:"manifests_deleted"`
	Percent          int               `json:"percent" doc:"the largest share of tags or manifests that is deleted, of a repository or of all; rounded up"`
	PercentOf        string            `json:"percent_of,omitempty" doc:"the repository of percent; absent: all"`
	Cap              int               `json:"cap" doc:"the share up to which it can be applied without accept_percent"`
	Frees            *int64            `json:"frees,omitempty" doc:"bytes that nothing else uses; absent: not counted, or you do not see all repositories"`
	Shared           *int64            `json:"shared,omitempty" doc:"bytes that others use too, and that stay"`
	Unknown          *int64            `json:"unknown,omitempty" doc:"bytes of which it was not found out in time; if there are any, frees is a lower bound"`
	Error            string            `json:"error,omitempty" doc:"why it failed"`
	Operation        int64             `json:"operation,omitempty" doc:"number of the operation that applies it"`
	Undo             int64             `json:"undo,omitempty" doc:"number of the operation that puts back what it deleted"`
	Outcomes         *outcomesAnswer   `json:"outcomes,omitempty" doc:"what applying it did so far"`
}

type outcomesAnswer struct {
	Tags      int64 `json:"tags" doc:"number of tags that were deleted"`
	Manifests int64 `json:"manifests" doc:"number of manifests that were deleted"`
	Skipped   int64 `json:"skipped" doc:"number of tags and manifests that were skipped"`
	Left      int64 `json:"left" doc:"number of tags and manifests that are not done"`
}

type plansAnswer struct {
	Items []planAnswer `json:"items"`
	Next  string       `json:"next,omitempty" doc:"the address of the next page"`
}

func planOf(p retention.Plan, limit int) planAnswer {
	a := planAnswer{
		ID: p.ID, Scope: p.Scope.String(), State: string(p.State), CreatedBy: p.CreatedBy,
		CreatedAt: answer.Timestamp{Time: p.CreatedAt}, MadeAt: timestampOf(p.MadeAt), Rules: textsOf(p.Rules),
		Stale: p.Stale,
		Notes: textsOf(p.Notes), Repositories: p.Repositories, LeftOut: p.LeftOut, Tags: p.Tags, TagsDeleted: p.TagsDeleted,
		Manifests: p.Manifests, ManifestsDeleted: p.ManifestsDeleted, Percent: p.Percent, PercentOf: p.PercentOf, Cap: limit,
		Error: p.Error, Operation: p.Operation, Undo: p.Undo,
	}
	if f := p.Freed; f != nil {
		a.Frees, a.Shared, a.Unknown = &f.Frees, &f.Shared, &f.Unknown
	}
	return a
}

// textsOf returns texts, which JSON writes as a list even if there are none.
func textsOf(texts []string) []string { return append([]string{}, texts...) }

func (s *API) plans(w http.ResponseWriter, r asked, who access.Subject) error {
	n := r.number("limit", defaultList)
	q := retention.PlanQuery{Within: who.Overseen(), Before: int64(r.number("before", 0)), Limit: n + 1}
	var all []retention.Plan
	limit := 0
	err := s.config.Login.Planning(r.Request, who, access.Overseers, func(ctx context.Context, c login.Plans) (err error) {
		all, err = c.Plans(ctx, q)
		limit = c.Limit()
		return err
	})
	if err != nil {
		return err
	}
	next := ""
	if len(all) > n {
		all = all[:n]
		next = r.page("before", strconv.FormatInt(all[n-1].ID, 10))
		w.Header().Set("Link", "<"+next+`>; rel="next"`)
	}
	items := answer.Map(all, func(p retention.Plan) planAnswer { return planOf(p, limit) })
	return answer.WriteJSON(w, http.StatusOK, plansAnswer{items, next})
}

// A newPlan is the body of a request to make a plan.
type newPlan struct {
	Scope string `json:"scope" doc:"* for all repositories, team/* for those below team, or one name"`
}

func (s *API) makePlan(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Overseers(who); err != nil {
		return s.config.Login.Forbidden(r.Request, who, err)
	}
	var n newPlan
	if err := r.read(w, &n); err != nil {
		return err
	}
	scope, err := access.ParsePattern(n.Scope)
	if err != nil {
		return err
	}
	var p retention.Plan
	limit := 0
	err = s.config.Login.Planning(r.Request, who, access.OverseersOf(scope),
		func(ctx context.Context, c login.Plans) (err error) {
			limit = c.Limit()
			p, err = login.MakePlan(ctx, c, scope)
			return err
		})
	if err != nil {
		return err
	}
	return created(w, answer.APIPrefix+"/plans/"+strconv.FormatInt(p.ID, 10), planOf(p, limit))
}

// withPlan runs f with the plan in the path of a request, which the subject oversees.
func (s *API) withPlan(r asked, who access.Subject, f func(context.Context, login.Plans, retention.Plan) error) error {
	id, err := r.numbered("plan")
	if err != nil {
		return err
	}
	var p retention.Plan
	err = s.config.Login.Planning(r.Request, who, access.Overseers, func(ctx context.Context, c login.Plans) (err error) {
		p, err = login.PlanOf(ctx, c, who, id)
		return err
	})
	if err != nil {
		return orNone(err, "plan %d", id)
	}
	return s.config.Login.Planning(r.Request, who, access.OverseersOf(p.Scope),
		func(ctx context.Context, c login.Plans) error {
			return f(ctx, c, p)
		})
}

func (s *API) plan(w http.ResponseWriter, r asked, who access.Subject) error {
	return s.withPlan(r, who, func(ctx context.Context, c login.Plans, p retention.Plan) error {
		return s.writePlan(ctx, w, http.StatusOK, c, p)
	})
}

// writePlan answers with a plan and what applying it did.
func (s *API) writePlan(ctx context.Context, w http.ResponseWriter, code int, c login.Plans, p retention.Plan) error {
	a := planOf(p, c.Limit())
	if p.Operation > 0 {
		o, err := c.PlanOutcomes(ctx, p.ID)
		if err != nil {
			return err
		}
		a.Outcomes = &outcomesAnswer{o.Tags, o.Manifests, o.Skipped, o.Left}
	}
	return answer.WriteJSON(w, code, a)
}

// A planRepositoryAnswer is a repository of a plan.
type planRepositoryAnswer struct {
	Name             string         `json:"name"`
	Tags             int            `json:"tags"`
	TagsDeleted      int            `json:"tags_deleted"`
	Manifests        int            `json:"manifests"`
	ManifestsDeleted int            `json:"manifests_deleted"`
	Percent          int            `json:"percent" doc:"the larger share of its tags and of its manifests that is deleted; rounded up"`
	Size             int64          `json:"size" doc:"bytes that the deleted manifests name, each time that one does; others may use them too"`
	LeftOut          string         `json:"left_out,omitempty" doc:"why nothing was decided"`
	Stays            map[string]int `json:"stays" doc:"number of tags and manifests that stay, by the kind of reason"`
	Listed           bool           `json:"listed" doc:"whether items lists what stays too"`
}

type planRepositoriesAnswer struct {
	Items []planRepositoryAnswer `json:"items"`
	Next  string                 `json:"next,omitempty" doc:"the address of the next page"`
}

func planRepositoryOf(r retention.PlanRepository) planRepositoryAnswer {
	a := planRepositoryAnswer{
		Name: r.Name, Tags: r.Tags, TagsDeleted: r.TagsDeleted, Manifests: r.Manifests, ManifestsDeleted: r.ManifestsDeleted,
		Percent: r.Percent(), Size: r.Size, LeftOut: r.LeftOut, Stays: map[string]int{}, Listed: r.Listed,
	}
	for code, n := range r.Stays {
		a.Stays[string(code)] = n
	}
	return a
}

func (s *API) planRepositories(w http.ResponseWriter, r asked, who access.Subject) error {
	n, offset := r.number("limit", defaultList), r.number("offset", 0)
	var all []retention.PlanRepository
	err := s.withPlan(r, who, func(ctx context.Context, c login.Plans, p retention.Plan) (err error) {
		all, err = c.PlanRepositories(ctx, retention.RepositoryQuery{
			Plan: p.ID, Contains: r.values.Get("q"), LeftOut: r.values.Get("left_out") == "true", Offset: offset, Limit: n + 1,
		})
		return err
	})
	if err != nil {
		return err
	}
	next := ""
	if len(all) > n {
		all = all[:n]
		next = r.page("offset", strconv.Itoa(offset+n))
		w.Header().Set("Link", "<"+next+`>; rel="next"`)
	}
	return answer.WriteJSON(w, http.StatusOK, planRepositoriesAnswer{answer.Map(all, planRepositoryOf), next})
}

// An itemAnswer is a tag or a manifest of a plan.
type itemAnswer struct {
	Repository string `json:"repository"`
	Tag        string `json:"tag,omitempty" doc:"absent: it is about the manifest"`
	Digest     string `json:"digest" doc:"of the manifest, or what the tag shows"`
	Deleted    bool   `json:"deleted" doc:"whether the plan deletes it"`
	Code       string `json:"code" doc:"the kind of reason: rule, belongs, no-rule, protected, in-use, tagged, child, referrer or unknown"`
	Rule       int64  `json:"rule,omitempty" doc:"the rule that decided; absent: none"`
	Reason     string `json:"reason" doc:"the reason in words"`
	Outcome    string `json:"outcome,omitempty" doc:"what applying the plan did: done or skipped"`
	Skipped    string `json:"skipped,omitempty" doc:"why it was skipped"`
}

type itemsAnswer struct {
	Items []itemAnswer `json:"items"`
	Next  string       `json:"next,omitempty" doc:"the address of the next page"`
}

func itemOf(i retention.Item) itemAnswer {
	return itemAnswer{
		i.Repository, i.Tag, i.Digest.String(), i.Delete, string(i.Reason.Code), i.Reason.Rule, i.Reason.Text, i.Outcome,
		i.Skipped,
	}
}

// itemQuery returns the items that the parameters ask for.
func (r asked) itemQuery(limit int) (q retention.ItemQuery, err error) {
	q = retention.ItemQuery{
		Repository: r.values.Get("repository"), Outcome: r.values.Get("outcome"), Contains: r.values.Get("q"), Limit: limit,
	}
	if text := r.values.Get("deleted"); text != "" {
		deleted := text == "true"
		q.Deleted = &deleted
	}
	if text := r.values.Get("kind"); text != "" {
		tags := text == "tag"
		q.Tags = &tags
	}
	if text := r.values.Get("after"); text != "" {
		name, number, _ := strings.Cut(text, " ")
		n, err := strconv.ParseInt(number, 10, 32)
		if err != nil || !indexer.IsRepository(name) {
			return q, answer.Invalid("after", "is %.64q: take it from the address of the next page", text)
		}
		q.After, q.AfterID = name, int(n)
	}
	return q, nil
}

func (s *API) planItems(w http.ResponseWriter, r asked, who access.Subject) error {
	n := r.number("limit", defaultList)
	q, err := r.itemQuery(n + 1)
	if err != nil {
		return err
	}
	var all []retention.Item
	err = s.withPlan(r, who, func(ctx context.Context, c login.Plans, p retention.Plan) (err error) {
		q.Plan = p.ID
		all, err = c.PlanItems(ctx, q)
		return err
	})
	if err != nil {
		return err
	}
	all, next := turn(w, r, all, n, func(i retention.Item) string { return i.Repository + " " + strconv.Itoa(i.ID) })
	return answer.WriteJSON(w, http.StatusOK, itemsAnswer{answer.Map(all, itemOf), next})
}

// An application is the body of a request to apply a plan.
type application struct {
	Accept int `json:"accept_percent,omitempty" doc:"the share in per cent up to which it deletes, if that is more than the cap: the plan's percent"`
}

func (s *API) applyPlan(w http.ResponseWriter, r asked, who access.Subject) error {
	var a application
	if err := r.read(w, &a); err != nil {
		return err
	}
	if a.Accept < 0 || a.Accept > 100 {
		return answer.Invalid("the field", "\"accept_percent\" is %d: write a number from 1 to 100", a.Accept)
	}
	return s.operatePlan(w, r, who, func(ctx context.Context, c login.Plans, p retention.Plan) (indexer.Operation, error) {
		return c.Apply(ctx, p, a.Accept)
	})
}

func (s *API) undoPlan(w http.ResponseWriter, r asked, who access.Subject) error {
	return s.operatePlan(w, r, who, func(ctx context.Context, c login.Plans, p retention.Plan) (indexer.Operation, error) {
		return c.UndoPlan(ctx, p)
	})
}

// operatePlan answers with a plan when an operation of it is over, or 202 while it goes on.
func (s *API) operatePlan(w http.ResponseWriter, r asked, who access.Subject,
	f func(context.Context, login.Plans, retention.Plan) (indexer.Operation, error)) error {
	return s.withPlan(r, who, func(ctx context.Context, c login.Plans, p retention.Plan) error {
		o, err := f(ctx, c, p)
		if err != nil {
			return err
		}
		ctx = context.WithoutCancel(ctx) // the operation may have used up the time
		if p, err = c.Plan(ctx, p.ID); err != nil {
			return err
		}
		code := http.StatusOK
		if !o.Ended() {
			code = http.StatusAccepted
		}
		return s.writePlan(ctx, w, code, c, p)
	})
}
