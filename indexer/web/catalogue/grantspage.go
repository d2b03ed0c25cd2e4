package catalogue

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// A grantsView is the page of grants, or of those that select one repository.
type grantsView struct {
	Grants      []access.Grant
	Grantee     string // only grants to it; "": to any
	Repository  string // only grants that select it; "": any
	Of          string // Repository, if the one who looks may ask about it
	Listed      bool   // whether Grants was read: not if the request is wrong
	Wider       bool   // whether grants that are not shown select it too
	Overseen    []access.Pattern
	Everything  bool // whether the one who looks manages all grants
	Who         string
	Why         *whyView
	Back, More  string
	Wrong, Done string
	Typed       typedGrant
	tabs
}

// A typedGrant is a grant as it was typed into a form.
type typedGrant struct{ Grantee, Pattern string }

// A whyView answers why an account may do something in a repository.
type whyView struct {
	Account access.Account
	Actions []whyAction
}

// A whyAction has the reasons why one action is allowed.
type whyAction struct {
	Name    string
	Reasons []access.Grant
	Unseen  bool // whether grants allow it that the one who looks does not see
}

// Grants serves the grants that a person manages.
func (s *Catalogue) Grants(w http.ResponseWriter, r *http.Request) error {
	return s.grants(w, r, http.StatusOK, grantsView{})
}

func (s *Catalogue) grants(w http.ResponseWriter, r *http.Request, code int, v grantsView) error {
	form := r.URL.Query()
	v.Grantee, v.Repository, v.Who = cleanField(form, "grantee"), cleanField(form, "repository"), cleanField(form, "who")
	return s.manage(w, r, access.Overseers, func(ctx context.Context, c login.Changer, who access.Subject) error {
		v.Overseen, v.Everything, v.tabs = who.Overseen(), who.Oversees(access.Every), tabsOf(who, "grants")
		q, err := v.query(who, cleanField(form, "after"))
		if err == nil {
			err = v.fill(ctx, c, who, q)
		}
		err = s.config.Login.Forbidden(r, who, err)
		if problemCode, text := wrong(err); text != "" && v.Wrong == "" {
			code, v.Wrong, err = problemCode, text, nil
		}
		if err != nil {
			return err
		}
		return s.unstored(w, code, "grants", page{Title: "Grants", Account: true, Main: v})
	})
}

// query returns the grants that the page shows.
func (v *grantsView) query(who access.Subject, after string) (q access.GrantQuery, err error) {
	q = access.GrantQuery{Within: who.Overseen(), Limit: pageSize + 1}
	if v.Grantee != "" {
		to, err := access.ParseGrantee(v.Grantee)
		if err != nil {
			return q, err
		}
		q.To = &to
	}
	if v.Repository != "" {
		if !indexer.IsRepository(v.Repository) {
			return q, indexer.InvalidRepository(v.Repository)
		}
		if !who.OverseesRepository(v.Repository) {
			return q, indexer.Forbidden("you do not administer %q: that takes a grant of the action admin on it", v.Repository)
		}
		v.Of, q.Patterns = v.Repository, access.PatternsOf(v.Repository)
	}
	if grantee, pattern, found := strings.Cut(after, " "); found {
		g, err := parseGrant(grantee, pattern, "pull")
		if err != nil {
			return q, err
		}
		q.After = &g
	}
	return q, nil
}

// fill reads what the page shows.
func (v *grantsView) fill(ctx context.Context, c login.Changer, who access.Subject, q access.GrantQuery) (err error) {
	if v.Grants, err = c.GrantPage(ctx, q); err != nil {
		return err
	}
	v.Listed = true
	address := func(after string) string {
		return addressWith("/account/grants", "grantee", v.Grantee, "repository", v.Repository, "after", after)
	}
	if q.After != nil {
		v.Back = address("")
	}
	if len(v.Grants) > pageSize {
		v.Grants = v.Grants[:pageSize]
		last := v.Grants[pageSize-1]
		v.More = address(last.To.String() + " " + last.Rule.Pattern.String())
	}
	if v.Repository == "" {
		return nil
	}
	if unseen := q.Unseen(who); len(unseen.Patterns) > 0 {
		found, err := c.GrantPage(ctx, unseen)
		if err != nil {
			return err
		}
		v.Wider = len(found) > 0
	}
	return v.explain(ctx, c, who)
}

// explain answers why v.Who may do something in v.Repository.
func (v *grantsView) explain(ctx context.Context, c login.Changer, who access.Subject) error {
	if v.Who == "" {
		return nil
	}
	a, _, err := c.Account(ctx, v.Who)
	if err != nil {
		return noAccount(err, v.Who)
	}
	granted, err := c.GrantPage(ctx, access.GrantQuery{
		Within: []access.Pattern{access.Every}, Patterns: access.PatternsOf(v.Repository), Account: &a, Limit: maxShownGrants,
	})
	if err != nil {
		return err
	}
	v.Why = &whyView{Account: a}
	for _, action := range []access.Actions{access.Pull, access.Push, access.Delete, access.Admin} {
		names := action.Names()
		shown := whyAction{Name: names[len(names)-1]}
		for _, reason := range access.Reasons(who, granted, action) {
			if reason.Seen {
				shown.Reasons = append(shown.Reasons, reason.Grant)
			} else {
				shown.Unseen = true
			}
		}
		v.Why.Actions = append(v.Why.Actions, shown)
	}
	return nil
}

// parseGrant parses a grant of a form.
func parseGrant(grantee, pattern string, actions ...string) (g access.Grant, err error) {
	if g.To, err = access.ParseGrantee(grantee); err != nil {
		return g, err
	}
	if g.Rule.Pattern, err = access.ParsePattern(pattern); err != nil {
		return g, err
	}
	if len(actions) == 0 {
		return g, indexer.Invalid("choose at least one action")
	}
	g.Rule.Actions, err = access.ParseActions(strings.Join(actions, ","))
	return g, err
}

// AddGrant grants something.
func (s *Catalogue) AddGrant(w http.ResponseWriter, r *http.Request) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	typed := typedGrant{cleanField(r.PostForm, "grantee"), cleanField(r.PostForm, "pattern")}
	g, err := parseGrant(typed.Grantee, typed.Pattern, r.PostForm["actions"]...)
	if err == nil {
		err = s.change(r, who, access.OverseersOf(g.Rule.Pattern), func(ctx context.Context, c login.Changer) error {
			return c.Grant(ctx, g.To, g.Rule)
		})
		err = noAccount(err, g.To.Account)
	}
	if code, text := wrong(err); text != "" {
		return s.grants(w, r, code, grantsView{Wrong: text, Typed: typed})
	}
	if err != nil {
		return err
	}
	seeOther(w, addressWith("/account/grants", "grantee", g.To.String()))
	return nil
}

// RemoveGrant takes a grant back, once the person is sure.
func (s *Catalogue) RemoveGrant(w http.ResponseWriter, r *http.Request) error {
	who, err := s.changing(w, r)
	if err != nil {
		return err
	}
	g, err := parseGrant(cleanField(r.PostForm, "grantee"), cleanField(r.PostForm, "pattern"), "pull")
	if err == nil {
		err = s.config.Login.Forbidden(r, who, access.OverseersOf(g.Rule.Pattern)(who))
	}
	if err != nil {
		return err
	}
	if !isSure(r) {
		return s.confirm(w, r, confirmView{
			Question: fmt.Sprintf("Take back what %s may do with %s?", g.To, g.Rule.Pattern),
			Advice:   "Logins and searches know it within a second or so. The registry may allow it for five minutes more.",
			Button:   "Take back", Back: "/account/grants",
		})
	}
	err = s.change(r, who, access.OverseersOf(g.Rule.Pattern), func(ctx context.Context, c login.Changer) error {
		return c.Revoke(ctx, g.To, g.Rule.Pattern)
	})
	if errors.Is(err, indexer.ErrNotFound) {
		err = answer.Refuse(http.StatusNotFound, "there is no grant of %s to %s", g.Rule.Pattern, g.To)
	}
	if code, text := wrong(err); text != "" {
		return s.grants(w, r, code, grantsView{Wrong: text})
	}
	if err != nil {
		return err
	}
	seeOther(w, "/account/grants")
	return nil
}
