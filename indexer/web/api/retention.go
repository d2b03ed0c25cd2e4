package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/retention"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// retentionEndpoints returns the endpoints of rules of retention, plans and what runs, in the
// order of doc/api.md; none if there are no accounts.
func (s *API) retentionEndpoints() []endpoint {
	if s.config.Login == nil || s.config.Login.Accounts == nil {
		return nil
	}
	limit := answer.Parameter{Name: "limit", Doc: "maximum number of elements (default 100)", Max: maxList}
	truth := func(name, doc string) answer.Parameter {
		return answer.Parameter{Name: name, Doc: doc, OneOf: []string{"true", "false"}}
	}
	made, done, applied := []int{http.StatusCreated}, []int{http.StatusNoContent}, []int{http.StatusOK,
		http.StatusAccepted}
	const rule, plan = "/retention/{rule}", "/plans/{plan}"
	return []endpoint{
		{path: "/retention", id: "retentionRules",
			summary: "List the rules of retention that select repositories you administer",
			gives:   rulesAnswer{}, f: s.planning(s.rules), takes: []answer.Parameter{
				{Name: "repository", Doc: "only rules that select this repository"}}},
		{method: "POST", path: "/retention", id: "addRetentionRule", summary: "Add a rule of retention",
			body: newRule{}, codes: made, gives: ruleAnswer{}, f: s.planning(s.addRule)},
		{path: rule, id: "retentionRule", summary: "Get a rule of retention", gives: ruleAnswer{}, f: s.planning(s.rule)},
		{method: "PUT", path: rule, id: "changeRetentionRule", summary: "Replace a rule of retention, except its pattern",
			body: newRule{}, gives: ruleAnswer{}, f: s.planning(s.changeRule)},
		{method: "DELETE", path: rule, id: "removeRetentionRule", summary: "Remove a rule of retention",
			codes: done, f: s.planning(s.removeRule)},
		{path: "/plans", id: "plans", summary: "List plans, the latest first", gives: plansAnswer{}, f: s.planning(s.plans),
			takes: []answer.Parameter{
				{Name: "before", Doc: "only plans older than the one with this number", Max: query.MaxNumber}, limit}},
		{method: "POST", path: "/plans", id: "makePlan", summary: "Make a plan: what the rules would delete now",
			body: newPlan{}, codes: made, gives: planAnswer{}, f: s.planning(s.makePlan)},
		{path: plan, id: "plan", summary: "Get a plan", gives: planAnswer{}, f: s.planning(s.plan)},
		{path: plan + "/repositories", id: "planRepositories",
			summary: "List the repositories of a plan in which something is deleted, those with most first",
			gives:   planRepositoriesAnswer{}, f: s.planning(s.planRepositories), takes: []answer.Parameter{
				{Name: "q", Doc: "a part of the name"}, truth("left_out", "true: those that were left out, instead of the others"),
				{Name: "offset", Doc: "how many to leave out", Max: 1_000_000}, limit}},
		{path: plan + "/items", id: "planItems", summary: "List the tags and manifests of a plan, with the rule that decided",
			gives: itemsAnswer{}, f: s.planning(s.planItems), takes: []answer.Parameter{
				{Name: "repository", Doc: "only those of this repository"},
				truth("deleted", "only those that are deleted, or that stay"),
				{Name: "kind", Doc: "only tags or manifests", OneOf: []string{"tag", "manifest"}},
				{Name: "outcome", Doc: "only those with which applying the plan did this",
					OneOf: []string{retention.OutcomeDone, retention.OutcomeSkipped}},
				{Name: "q", Doc: "a part of the tag or the digest"},
				{Name: "after", Doc: "only elements after this one, as in the address of the next page"}, limit}},
		{method: "POST", path: plan + "/apply", id: "applyPlan",
			summary: "Delete what a plan lists, after another look at each",
			body:    application{}, codes: applied, gives: planAnswer{}, f: s.planning(s.applyPlan)},
		{method: "POST", path: plan + "/undo", id: "undoPlan", summary: "Put back all that applying a plan has deleted",
			codes: applied, gives: planAnswer{}, f: s.planning(s.undoPlan)},
		{path: "/in-use", id: "inUse",
			summary: "List what clusters have reported to run, of repositories that you administer",
			gives:   usesOfAnswer{}, f: s.planning(s.inUse), takes: []answer.Parameter{
				{Name: "repository", Doc: "only of this repository"},
				{Name: "after", Doc: "only elements after this one, as in the address of the next page"}, limit}},
		{method: "POST", path: "/in-use", id: "reportInUse",
			summary: "Report manifests that run in a cluster: no rule deletes them",
			urgent:  true, body: useReport{}, codes: done, f: s.planning(s.reportInUse)},
	}
}

// planning returns the handler of an endpoint for clients that say who they are.
func (s *API) planning(f forSubject) func(http.ResponseWriter, asked) error {
	return func(w http.ResponseWriter, r asked) error {
		who, err := s.config.Login.Known(r.Request)
		if err != nil {
			return err
		}
		return f(w, r, who)
	}
}

// A newRule is the body of a request for a rule.
type newRule struct {
	Pattern      string `json:"pattern" doc:"* for all repositories, team/* for those below team, or one name"`
	Action       string `json:"action" doc:"keep or delete; keep beats delete"`
	Newest       int    `json:"newest,omitempty" doc:"how many of the newest tags; with semver: how many versions of each"`
	By           string `json:"by,omitempty" doc:"what newest counts: push (default) or pull"`
	PushedWithin string `json:"pushed_within,omitempty" doc:"pushed at most so long ago: 90d, 12h"`
	PulledWithin string `json:"pulled_within,omitempty" doc:"pulled at most so long ago"`
	OlderThan    string `json:"older_than,omitempty" doc:"pushed longer ago; with untagged: without a tag for longer"`
	Tag          string `json:"tag,omitempty" doc:"a glob: * is any run of characters, ? any one"`
	TagRegexp    string `json:"tag_regexp,omitempty" doc:"a regular expression (RE2) that matches the whole tag"`
	Semver       string `json:"semver,omitempty" doc:"major or minor: the highest version of each"`
	Untagged     bool   `json:"untagged,omitempty" doc:"manifests without a tag, instead of tags"`
	Label        string `json:"label,omitempty" doc:"a label of the image's config: key, or key=value"`
	Note         string `json:"note,omitempty" doc:"what it is for: at most 200 characters"`
}

// A ruleAnswer is a rule in the API.
type ruleAnswer struct {
	ID int64 `json:"id"`
	newRule
	Sentence  string           `json:"sentence" doc:"what it does, in words"`
	CreatedBy string           `json:"created_by"`
	CreatedAt answer.Timestamp `json:"created_at"`
}

func ruleOf(r retention.Rule) ruleAnswer {
	c := r.Conditions
	return ruleAnswer{
		ID: r.ID, Sentence: r.Sentence(), CreatedBy: r.CreatedBy, CreatedAt: answer.Timestamp{Time: r.CreatedAt},
		newRule: newRule{
			Pattern: r.Pattern.String(), Action: string(r.Action), Newest: c.Newest, By: c.By,
			PushedWithin: retention.FormatDuration(c.PushedWithin), PulledWithin: retention.FormatDuration(c.PulledWithin),
			OlderThan: retention.FormatDuration(c.OlderThan), Tag: c.Tag, TagRegexp: c.TagRegexp, Semver: c.Semver,
			Untagged: c.Untagged, Label: c.Label, Note: r.Note,
		},
	}
}

// rule returns the rule that is wanted.
func (n newRule) rule() (r retention.Rule, err error) {
	words := retention.Words{
		PushedWithin: n.PushedWithin, PulledWithin: n.PulledWithin, OlderThan: n.OlderThan,
		Conditions: retention.Conditions{
			Newest: n.Newest, By: n.By, Tag: n.Tag, TagRegexp: n.TagRegexp, Semver: n.Semver, Untagged: n.Untagged,
			Label: n.Label,
		},
	}
	return words.Rule(n.Pattern, n.Action, n.Note)
}

type rulesAnswer struct {
	Items []ruleAnswer `json:"items"`
}

// overseenRules returns the rules that select a repository that a subject administers, in order
// of pattern and id.
func overseenRules(ctx context.Context, c login.Plans, who access.Subject) (all []retention.Rule, err error) {
	seen := map[int64]bool{}
	for _, p := range who.Overseen() {
		rules, err := c.RetentionRules(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			if !seen[r.ID] {
				seen[r.ID], all = true, append(all, r)
			}
		}
	}
	return all, nil
}

func (s *API) rules(w http.ResponseWriter, r asked, who access.Subject) error {
	repository := r.values.Get("repository")
	var all []retention.Rule
	err := s.config.Login.Planning(r.Request, who, access.Overseers, func(ctx context.Context, c login.Plans) (err error) {
		if repository == "" {
			all, err = overseenRules(ctx, c, who)
			return err
		}
		of, err := access.ParsePattern(repository)
		if err != nil || !indexer.IsRepository(repository) {
			return indexer.InvalidRepository(repository)
		}
		if err := access.OverseersOf(of)(who); err != nil {
			return err
		}
		all, err = c.RetentionRules(ctx, of)
		return err
	})
	if err != nil {
		return err
	}
	return answer.WriteJSON(w, http.StatusOK, rulesAnswer{answer.Map(all, ruleOf)})
}

// numbered returns the number in the path of a request.
func (r asked) numbered(name string) (int64, error) {
	n, err := strconv.ParseInt(r.PathValue(name), 10, 64)
	if err != nil || n < 1 {
		return 0, answer.Invalid(name, "is %.32q: write its number", r.PathValue(name))
	}
	return n, nil
}

// ruleIn returns the rule in the path of a request, if its pattern is within what a subject may
// see of rules.
func ruleIn(ctx context.Context, r asked, c login.Plans, who access.Subject) (retention.Rule, error) {
	id, err := r.numbered("rule")
	if err != nil {
		return retention.Rule{}, err
	}
	all, err := overseenRules(ctx, c, who)
	for _, rule := range all {
		if rule.ID == id {
			return rule, nil
		}
	}
	if err == nil {
		err = answer.Refuse(http.StatusNotFound, "there is no rule %d", id)
	}
	return retention.Rule{}, err
}

func (s *API) rule(w http.ResponseWriter, r asked, who access.Subject) error {
	var rule retention.Rule
	err := s.config.Login.Planning(r.Request, who, access.Overseers, func(ctx context.Context, c login.Plans) (err error) {
		rule, err = ruleIn(ctx, r, c, who)
		return err
	})
	if err != nil {
		return err
	}
	return answer.WriteJSON(w, http.StatusOK, ruleOf(rule))
}

func (s *API) addRule(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Overseers(who); err != nil {
		return s.config.Login.Forbidden(r.Request, who, err)
	}
	var n newRule
	if err := r.read(w, &n); err != nil {
		return err
	}
	rule, err := n.rule()
	if err != nil {
		return err
	}
	permit := access.OverseersOf(rule.Pattern)
	err = s.config.Login.Planning(r.Request, who, permit, func(ctx context.Context, c login.Plans) (err error) {
		rule, err = c.AddRetentionRule(ctx, rule)
		return err
	})
	if err != nil {
		return err
	}
	return created(w, answer.APIPrefix+"/retention/"+strconv.FormatInt(rule.ID, 10), ruleOf(rule))
}

// changingRule runs f with the rule in the path of a request, if the subject may change it.
func (s *API) changingRule(
	r asked, who access.Subject, f func(context.Context, login.Plans, retention.Rule) error,
) error {
	var rule retention.Rule
	err := s.config.Login.Planning(r.Request, who, access.Overseers, func(ctx context.Context, c login.Plans) (err error) {
		rule, err = ruleIn(ctx, r, c, who)
		return err
	})
	if err != nil {
		return err
	}
	permit := access.OverseersOf(rule.Pattern)
	err = s.config.Login.Planning(r.Request, who, permit, func(ctx context.Context,
		c login.Plans) error {
		return f(ctx, c, rule)
	})
	return orNone(err, "rule %d", rule.ID)
}

func (s *API) changeRule(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Overseers(who); err != nil {
		return s.config.Login.Forbidden(r.Request, who, err)
	}
	var n newRule
	if err := r.read(w, &n); err != nil {
		return err
	}
	wanted, err := n.rule()
	if err != nil {
		return err
	}
	err = s.changingRule(r, who, func(ctx context.Context, c login.Plans, rule retention.Rule) (err error) {
		if wanted.ID = rule.ID; wanted.Pattern != rule.Pattern {
			return indexer.Invalid("the pattern of rule %d is %s: add another rule, and remove this one", rule.ID, rule.Pattern)
		}
		wanted, err = c.ChangeRetentionRule(ctx, wanted)
		return err
	})
	if err != nil {
		return err
	}
	return answer.WriteJSON(w, http.StatusOK, ruleOf(wanted))
}

func (s *API) removeRule(w http.ResponseWriter, r asked, who access.Subject) error {
	err := s.changingRule(r, who, func(ctx context.Context, c login.Plans, rule retention.Rule) error {
		return c.RemoveRetentionRule(ctx, rule)
	})
	if err != nil {
		return err
	}
	return noContent(w)
}

// A useReport is the body of a request that reports what runs.
type useReport struct {
	Cluster   string           `json:"cluster" doc:"a name for the cluster: letters, digits and . _ -"`
	Images    []string         `json:"images" doc:"1 to 500 of REPOSITORY@DIGEST, which you may pull"`
	ExpiresAt answer.Timestamp `json:"expires_at,omitzero" doc:"until when it counts, at most 30 days (default: a day)"`
}

// uses returns what is reported.
func (u useReport) uses() (all []retention.Use, repositories []string, err error) {
	expires, now := u.ExpiresAt.Time, time.Now()
	if expires.IsZero() {
		expires = now.Add(retention.DefaultUse)
	}
	switch {
	case len(u.Images) == 0 || len(u.Images) > retention.MaxUsesEach:
		return nil, nil, answer.Invalid("the field", "\"images\" has %d elements: send 1 to %d at a time", len(u.Images),
			retention.MaxUsesEach)
	case !expires.After(now) || expires.After(now.Add(retention.MaxUse)):
		return nil, nil, answer.Invalid("the field", "\"expires_at\" is not within the next 30 days")
	}
	if err := retention.CheckCluster(u.Cluster); err != nil {
		return nil, nil, err
	}
	for _, image := range u.Images {
		ref, err := indexer.ParseReference(image)
		if err != nil {
			return nil, nil, err
		}
		if ref.Digest == "" {
			return nil, nil, answer.Invalid("the field", "\"images\" has %.64q: write REPOSITORY@DIGEST", image)
		}
		repositories = append(repositories, ref.Repository)
		all = append(all, retention.Use{Repository: ref.Repository, Digest: ref.Digest, Cluster: u.Cluster,
			ExpiresAt: expires})
	}
	return all, repositories, nil
}

func (s *API) reportInUse(w http.ResponseWriter, r asked, who access.Subject) error {
	var report useReport
	if err := r.read(w, &report); err != nil {
		return err
	}
	uses, repositories, err := report.uses()
	if err != nil {
		return err
	}
	err = s.config.Login.Planning(r.Request, who, login.PullersOf(repositories),
		func(ctx context.Context, c login.Plans) error {
			return c.ReportUse(ctx, uses)
		})
	if err != nil {
		return err
	}
	return noContent(w)
}

// A useAnswer is a report of what runs, in the API.
type useAnswer struct {
	Repository string           `json:"repository"`
	Digest     string           `json:"digest"`
	Cluster    string           `json:"cluster"`
	Reporter   string           `json:"reporter" doc:"who reported it"`
	ReportedAt answer.Timestamp `json:"reported_at"`
	ExpiresAt  answer.Timestamp `json:"expires_at" doc:"until when it counts, unless it is reported again"`
}

type usesOfAnswer struct {
	Items []useAnswer `json:"items"`
	Next  string      `json:"next,omitempty" doc:"the address of the next page"`
}

func (s *API) inUse(w http.ResponseWriter, r asked, who access.Subject) error {
	n := r.number("limit", defaultList)
	q := retention.UseQuery{Repository: r.values.Get("repository"), Within: who.Overseen(), Limit: n + 1}
	if text := r.values.Get("after"); text != "" {
		parts := strings.SplitN(text, " ", 3)
		ref, err := indexer.ParseReference(parts[0])
		if err != nil || len(parts) != 3 || ref.Digest == "" {
			return answer.Invalid("after", "is %.64q: take it from the address of the next page", text)
		}
		q.After = &retention.Use{Repository: ref.Repository, Digest: ref.Digest, Cluster: parts[1], Reporter: parts[2]}
	}
	var all []retention.Use
	err := s.config.Login.Planning(r.Request, who, access.Overseers, func(ctx context.Context, c login.Plans) (err error) {
		all, err = c.Uses(ctx, q)
		return err
	})
	if err != nil {
		return err
	}
	all, next := turn(w, r, all, n, func(u retention.Use) string {
		return u.Repository + "@" + u.Digest.String() + " " + u.Cluster + " " + u.Reporter
	})
	return answer.WriteJSON(w, http.StatusOK, usesOfAnswer{answer.Map(all, func(u retention.Use) useAnswer {
		return useAnswer{u.Repository, u.Digest.String(), u.Cluster, u.Reporter, answer.Timestamp{Time: u.ReportedAt},
			answer.Timestamp{Time: u.ExpiresAt}}
	}), next})
}
