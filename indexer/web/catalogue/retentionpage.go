package catalogue

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/retention"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// A retentionView is the page of rules of retention and of plans.
type retentionView struct {
	Rules    []shownRule
	Plans    []retention.Plan
	More     string // the address of older plans
	Uses     []retention.Use
	MoreUses bool
	Overseen []access.Pattern
	Wrong    string
	Typed    url.Values // of the form of a rule
	tabs
}

// A shownRule is a rule, and whether the one who looks may change it.
type shownRule struct {
	retention.Rule
	Changes bool
}

// Get returns what was typed into a field.
func (v retentionView) Get(name string) string { return v.Typed.Get(name) }

// plansShown is how many plans the page of rules lists: 20.
const plansShown = 20

// planning runs f for the person who is signed in and oversees something. Who is not signed in is
// sent to do so, and then back.
func (s *Catalogue) planning(w http.ResponseWriter, r *http.Request,
	f func(ctx context.Context, c login.Plans, who access.Subject) error) error {
	l := s.config.Login
	if l.Plans == nil {
		return login.ErrOnlyReads
	}
	who, err := l.Person(r)
	switch {
	case err != nil:
		return err
	case who.Name == "":
		seeOther(w, "/account?next="+url.QueryEscape(r.URL.RequestURI()))
		return nil
	}
	return l.Planning(r, who, access.Overseers, func(ctx context.Context, c login.Plans) error { return f(ctx, c, who) })
}

// Retention serves the rules of retention, and the latest plans.
func (s *Catalogue) Retention(w http.ResponseWriter, r *http.Request) error {
	return s.retention(w, r, http.StatusOK, retentionView{Typed: url.Values{}})
}

// typedRule returns the form of a rule.
func typedRule(r retention.Rule) url.Values {
	c, form := r.Conditions, url.Values{}
	for name, value := range map[string]string{
		"rule": strconv.FormatInt(r.ID, 10), "pattern": r.Pattern.String(), "action": string(r.Action), "note": r.Note,
		"tag": c.Tag, "tag_regexp": c.TagRegexp, "label": c.Label, "by": c.By, "semver": c.Semver,
		"older_than":    retention.FormatDuration(c.OlderThan),
		"pushed_within": retention.FormatDuration(c.PushedWithin), "pulled_within": retention.FormatDuration(c.PulledWithin),
	} {
		form.Set(name, value)
	}
	if c.Newest > 0 {
		form.Set("newest", strconv.Itoa(c.Newest))
	}
	if c.Untagged {
		form.Set("untagged", "yes")
	}
	return form
}

func (s *Catalogue) retention(w http.ResponseWriter, r *http.Request, code int, v retentionView) error {
	return s.planning(w, r, func(ctx context.Context, c login.Plans, who access.Subject) error {
		v.Overseen, v.tabs = who.Overseen(), tabsOf(who, "retention")
		seen := map[int64]bool{}
		for _, p := range v.Overseen {
			rules, err := c.RetentionRules(ctx, p)
			if err != nil {
				return err
			}
			for _, rule := range rules {
				if !seen[rule.ID] {
					seen[rule.ID] = true
					v.Rules = append(v.Rules, shownRule{rule, who.Oversees(rule.Pattern)})
				}
			}
		}
		if err := v.readRule(r.URL.Query().Get("rule")); err != nil {
			return err
		}
		before, err := numberIn(cleanField(r.URL.Query(), "before"))
		if err != nil {
			return err
		}
		if v.Uses, err = c.Uses(ctx, retention.UseQuery{Within: v.Overseen, Limit: pageSize + 1}); err != nil {
			return err
		}
		if v.MoreUses = len(v.Uses) > pageSize; v.MoreUses {
			v.Uses = v.Uses[:pageSize]
		}
		v.Plans, err = c.Plans(ctx, retention.PlanQuery{Within: v.Overseen, Before: before, Limit: plansShown + 1})
		if err != nil {
			return err
		}
		if len(v.Plans) > plansShown {
			v.Plans = v.Plans[:plansShown]
			v.More = "/manage/retention?before=" + strconv.FormatInt(v.Plans[plansShown-1].ID, 10)
		}
		return s.unstored(w, code, "retention", page{Title: "Retention", Account: true, Main: v})
	})
}

// readRule fills the form with the rule that is to be changed, unless something was typed.
func (v *retentionView) readRule(number string) error {
	if number == "" || len(v.Typed) > 0 {
		return nil
	}
	for _, rule := range v.Rules {
		if rule.Changes && strconv.FormatInt(rule.ID, 10) == number {
			v.Typed = typedRule(rule.Rule)
			return nil
		}
	}
	return answer.Refuse(http.StatusNotFound, "there is no rule %.20s that you may change", number)
}

// ruleOf returns the rule that was typed into a form.
func ruleOf(form url.Values) (retention.Rule, error) {
	field := func(name string) string { return cleanField(form, name) }
	newest, err := numberIn(field("newest"))
	if err != nil {
		return retention.Rule{}, err
	}
	by := field("by")
	if newest == 0 || field("semver") != "" {
		by = "" // the form always has one
	}
	return retention.Words{
		PushedWithin: field("pushed_within"), PulledWithin: field("pulled_within"), OlderThan: field("older_than"),
		Conditions: retention.Conditions{
			Newest: int(min(newest, 1<<30)), By: by, Tag: field("tag"), TagRegexp: field("tag_regexp"), Semver: field("semver"),
			Untagged: field("untagged") != "", Label: field("label"),
		},
	}.Rule(field("pattern"), field("action"), field("note"))
}

// AddRule adds a rule of retention, or changes the one whose number the form has.
func (s *Catalogue) AddRule(w http.ResponseWriter, r *http.Request) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	rule, err := ruleOf(r.PostForm)
	if err == nil {
		rule.ID, err = numberIn(cleanField(r.PostForm, "rule"))
	}
	if err == nil {
		err = s.config.Login.Planning(r, who, access.OverseersOf(rule.Pattern),
			func(ctx context.Context, c login.Plans) error { return putRule(ctx, c, rule) })
	}
	if code, text := wrong(err); text != "" {
		return s.retention(w, r, code, retentionView{Wrong: text, Typed: r.PostForm})
	}
	if err != nil {
		return err
	}
	seeOther(w, "/manage/retention")
	return nil
}

// putRule adds a rule or, if it has a number, changes that one, whose pattern stays as it is.
func putRule(ctx context.Context, c login.Plans, rule retention.Rule) error {
	if rule.ID == 0 {
		_, err := c.AddRetentionRule(ctx, rule)
		return err
	}
	now, err := c.RetentionRule(ctx, rule.ID)
	if errors.Is(err, indexer.ErrNotFound) || err == nil && now.Pattern != rule.Pattern {
		return answer.Refuse(http.StatusNotFound, "there is no rule %d of %s: add it", rule.ID, rule.Pattern)
	}
	if err == nil {
		_, err = c.ChangeRetentionRule(ctx, rule)
	}
	return err
}

// RemoveRule removes a rule of retention, once the person is sure.
func (s *Catalogue) RemoveRule(w http.ResponseWriter, r *http.Request) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	id, err := numberIn(cleanField(r.PostForm, "rule"))
	if err != nil {
		return err
	}
	var rule retention.Rule
	err = s.config.Login.Planning(r, who, access.Overseers, func(ctx context.Context, c login.Plans) (err error) {
		rule, err = c.RetentionRule(ctx, id)
		return err
	})
	if err == nil {
		err = s.config.Login.Forbidden(r, who, access.OverseersOf(rule.Pattern)(who))
	}
	if errors.Is(err, indexer.ErrNotFound) || errors.Is(err, indexer.ErrForbidden) {
		return answer.Refuse(http.StatusNotFound, "there is no rule %d that you may remove", id)
	}
	if err != nil {
		return err
	}
	if !isSure(r) {
		return s.confirm(w, r, confirmView{
			Question: fmt.Sprintf("Remove rule %d (%s), which says: %s?", rule.ID, rule.Pattern, rule.Sentence()),
			Advice:   "Plans that were made with it can then not be applied. Nothing is deleted by removing a rule.",
			Button:   "Remove", Back: "/manage/retention",
		})
	}
	err = s.config.Login.Planning(r, who, access.OverseersOf(rule.Pattern),
		func(ctx context.Context, c login.Plans) error {
			return c.RemoveRetentionRule(ctx, rule)
		})
	if err != nil {
		return err
	}
	seeOther(w, "/manage/retention")
	return nil
}

// MakePlan makes a plan and shows it.
func (s *Catalogue) MakePlan(w http.ResponseWriter, r *http.Request) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	scope, err := access.ParsePattern(cleanField(r.PostForm, "scope"))
	var p retention.Plan
	if err == nil {
		err = s.config.Login.Planning(r, who, access.OverseersOf(scope),
			func(ctx context.Context, c login.Plans) (err error) {
				p, err = login.MakePlan(ctx, c, scope)
				return err
			})
	}
	if code, text := wrong(err); text != "" {
		return s.retention(w, r, code, retentionView{Wrong: text, Typed: r.PostForm})
	}
	if err != nil {
		return err
	}
	seeOther(w, "/manage/plans/"+strconv.FormatInt(p.ID, 10))
	return nil
}
