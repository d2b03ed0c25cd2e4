package api

import (
	"context"
	"net/http"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// A grantAnswer is a grant in the API.
type grantAnswer struct {
	Grantee   string           `json:"grantee" doc:"the name of an account, group:NAME, or everybody"`
	Pattern   string           `json:"pattern" doc:"* for all repositories, team/* for those below team, or one name"`
	Actions   []string         `json:"actions" doc:"of pull, push, delete and admin; each includes pull"`
	CreatedAt answer.Timestamp `json:"created_at"`
}

func grantOf(g access.Grant) grantAnswer {
	return grantAnswer{g.To.String(), g.Rule.Pattern.String(), g.Rule.Actions.Names(), answer.Timestamp{Time: g.CreatedAt}}
}

type grantsAnswer struct {
	Items []grantAnswer `json:"items"`
	Wider bool          `json:"wider,omitempty" doc:"whether grants that you do not manage, on wider patterns, select the repository too"`
	Next  string        `json:"next,omitempty" doc:"the address of the next page"`
}

func (s *API) grants(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Overseers(who); err != nil {
		return err
	}
	n := r.number("limit", defaultList)
	q, err := r.grantQuery(who, n+1)
	if err != nil {
		return err
	}
	var list []access.Grant
	var wider bool
	err = s.look(r, func(ctx context.Context, c login.Changer) (err error) {
		if name := r.values.Get("account"); name != "" {
			a, _, err := c.Account(ctx, name)
			if err != nil {
				return orNone(err, "account %.64q", name)
			}
			q.Account = &a
		}
		if list, err = c.GrantPage(ctx, q); err != nil || r.values.Get("repository") == "" {
			return err
		}
		wider, err = hasWider(ctx, c, who, q)
		return err
	})
	if err != nil {
		return err
	}
	list, next := turn(w, r, list, n, func(g access.Grant) string { return g.To.String() + " " + g.Rule.Pattern.String() })
	return answer.WriteJSON(w, http.StatusOK, grantsAnswer{answer.Map(list, grantOf), wider, next})
}

// hasWider reports whether there are grants as q selects them that the subject does not see.
func hasWider(ctx context.Context, c login.Changer, who access.Subject, q access.GrantQuery) (bool, error) {
	q = q.Unseen(who)
	if len(q.Patterns) == 0 {
		return false, nil
	}
	found, err := c.GrantPage(ctx, q)
	return len(found) > 0, err
}

// grantQuery returns the grants that the parameters ask for.
func (r asked) grantQuery(who access.Subject, limit int) (q access.GrantQuery, err error) {
	q = access.GrantQuery{Within: who.Overseen(), Limit: limit}
	if text := r.values.Get("grantee"); text != "" {
		to, err := access.ParseGrantee(text)
		if err != nil {
			return q, err
		}
		q.To = &to
	}
	if text := r.values.Get("pattern"); text != "" {
		p, err := access.ParsePattern(text)
		if err != nil {
			return q, err
		}
		q.Patterns = []access.Pattern{p}
	}
	if name := r.values.Get("repository"); name != "" {
		if !indexer.IsRepository(name) {
			return q, indexer.InvalidRepository(name)
		}
		if q.Patterns != nil {
			return q, answer.Invalid("the parameters", "pattern and repository exclude each other: give one")
		}
		if !who.OverseesRepository(name) {
			return q, indexer.Forbidden("you do not administer %q: that takes a grant of the action admin on it", name)
		}
		q.Patterns = access.PatternsOf(name)
	}
	if text := r.values.Get("after"); text != "" {
		grantee, pattern := splitGrant(text)
		after, err := parseGrant(grantee, pattern)
		if err != nil {
			return q, err
		}
		q.After = &after
	}
	return q, nil
}

// parseGrant parses a grantee and a pattern.
func parseGrant(grantee, pattern string) (g access.Grant, err error) {
	if g.To, err = access.ParseGrantee(grantee); err == nil {
		g.Rule.Pattern, err = access.ParsePattern(pattern)
	}
	return g, err
}

// A newGrant is the body of a request to grant something.
type newGrant struct {
	Grantee string   `json:"grantee" doc:"the name of an account, group:NAME, or everybody"`
	Pattern string   `json:"pattern" doc:"* for all repositories, team/* for those below team, or one name"`
	Actions []string `json:"actions" doc:"of pull, push, delete and admin; each includes pull"`
}

// grant returns the grant that is wanted.
func (n newGrant) grant() (g access.Grant, err error) {
	if g, err = parseGrant(n.Grantee, n.Pattern); err != nil {
		return g, err
	}
	if len(n.Actions) == 0 {
		return g, answer.Invalid("the field", "\"actions\" is empty: delete the grant instead")
	}
	for _, text := range n.Actions {
		a, err := access.ParseActions(text)
		if err != nil {
			return g, err
		}
		g.Rule.Actions |= a
	}
	return g, nil
}

func (s *API) putGrant(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Overseers(who); err != nil {
		return err
	}
	var n newGrant
	if err := r.read(w, &n); err != nil {
		return err
	}
	g, err := n.grant()
	if err != nil {
		return err
	}
	pattern := []access.Pattern{g.Rule.Pattern}
	q := access.GrantQuery{Within: pattern, Patterns: pattern, To: &g.To, Limit: 1}
	var before, after []access.Grant
	err = s.change(r, who, access.OverseersOf(g.Rule.Pattern), func(ctx context.Context, c login.Changer) (err error) {
		if before, err = c.GrantPage(ctx, q); err == nil {
			err = c.Grant(ctx, g.To, g.Rule)
		}
		if err == nil {
			after, err = c.GrantPage(ctx, q)
		}
		return err
	})
	switch {
	case err != nil:
		return orNone(err, "account %q", g.To.Account)
	case len(after) == 1:
		g = after[0]
	}
	if len(before) == 1 {
		return answer.WriteJSON(w, http.StatusOK, grantOf(g))
	}
	address := escaped("grantee", g.To.String(), "pattern", g.Rule.Pattern.String())
	return created(w, answer.APIPrefix+"/grants"+address, grantOf(g))
}

func (s *API) removeGrant(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Overseers(who); err != nil {
		return err
	}
	for _, name := range []string{"grantee", "pattern"} {
		if r.values.Get(name) == "" {
			return answer.Invalid("the parameter", "%q is missing: a grant is known by its grantee and its pattern", name)
		}
	}
	g, err := parseGrant(r.values.Get("grantee"), r.values.Get("pattern"))
	if err != nil {
		return err
	}
	err = s.change(r, who, access.OverseersOf(g.Rule.Pattern), func(ctx context.Context, c login.Changer) error {
		return c.Revoke(ctx, g.To, g.Rule.Pattern)
	})
	if err != nil {
		return orNone(err, "grant of %s to %s", g.Rule.Pattern, g.To)
	}
	return noContent(w)
}
