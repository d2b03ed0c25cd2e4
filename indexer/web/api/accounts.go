package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
	"github.com/portbook/portbook/indexer/query"
	"github.com/portbook/portbook/indexer/web/answer"
	"github.com/portbook/portbook/indexer/web/login"
)

// accountEndpoints returns the endpoints for those who manage accounts, tokens and grants, in
// the order of doc/api.md; none if there are no accounts.
func (s *API) accountEndpoints() []endpoint {
	if s.config.Login == nil || s.config.Login.Accounts == nil {
		return nil
	}
	limit := answer.Parameter{Name: "limit", Doc: "maximum number of elements (default 100)", Max: maxList}
	after := func(what string) answer.Parameter {
		return answer.Parameter{Name: "after", Doc: "only elements after this " + what}
	}
	account := func(doc string) answer.Parameter { return answer.Parameter{Name: "account", Doc: doc} }
	grantee := func(doc string) answer.Parameter {
		return answer.Parameter{Name: "grantee", Doc: doc + ": the name of an account, group:NAME, or everybody"}
	}
	made, put, done := []int{http.StatusCreated}, []int{http.StatusOK, http.StatusCreated}, []int{http.StatusNoContent}
	const user, token = "/users/{account}", "/tokens/{id}"
	return append([]endpoint{
		{path: "/me", id: "me", summary: "Get who you are and what you may do", gives: meAnswer{}, f: s.me},
		{path: "/users", id: "users", summary: "List accounts, in order of name",
			gives: usersAnswer{}, f: s.managing(s.users), takes: []answer.Parameter{
				{Name: "q", Doc: "a part of the name"}, {Name: "group", Doc: "a group"}, limit, after("name")}},
		{method: "POST", path: "/users", id: "addUser", summary: "Add the account of a person or a robot",
			body: newUser{}, codes: made, gives: userAnswer{}, f: s.managing(s.addUser)},
		{path: user, id: "user", summary: "Get an account: your own, or any as an administrator",
			gives: userAnswer{}, f: s.managing(s.user)},
		{method: "PATCH", path: user, id: "changeUser",
			summary: "Change whether an account administers or is disabled, and its groups",
			body:    userChange{}, gives: userAnswer{}, f: s.managing(s.changeUser)},
		{method: "DELETE", path: user, id: "deleteUser", summary: "Delete an account with its tokens and grants",
			codes: done, f: s.managing(s.deleteUser)},
		{method: "PUT", path: user + "/password", id: "setPassword",
			summary: "Set the password of a person: your own with the current one, or another's as an administrator",
			urgent:  true, body: newPassword{}, codes: done, f: s.managing(s.setPassword)}, // guesses have their own limit
		{path: "/groups", id: "groups", summary: "List groups, in order of name",
			gives: groupsAnswer{}, f: s.managing(s.groups), takes: []answer.Parameter{limit, after("name")}},
		{path: "/tokens", id: "tokens", summary: "List the tokens of an account, the newest first",
			gives: tokensAnswer{}, f: s.managing(s.tokens), takes: []answer.Parameter{
				account("an account (default your own); another's as an administrator")}},
		{method: "POST", path: "/tokens", id: "addToken",
			summary: "Make a token for yourself or, as an administrator, for a robot",
			body:    newToken{}, codes: made, gives: madeToken{}, f: s.managing(s.addToken)},
		{path: token, id: "token", summary: "Get what is known of a token", gives: tokenAnswer{}, f: s.managing(s.token)},
		{method: "DELETE", path: token, id: "revokeToken", summary: "Make a token void",
			urgent: true, codes: done, f: s.managing(s.revokeToken)},
		{method: "POST", path: token + "/rotate", id: "rotateToken",
			summary: "Make a token like another one, which becomes void after a time",
			body:    rotation{}, codes: made, gives: madeToken{}, f: s.managing(s.rotateToken)},
		{path: "/grants", id: "grants",
			summary: "List the grants that you manage: those within patterns on which you have the action admin",
			gives:   grantsAnswer{}, f: s.managing(s.grants), takes: []answer.Parameter{grantee("only grants to this"),
				{Name: "pattern", Doc: "only grants for this pattern"},
				{Name: "repository", Doc: "only grants that select this repository"},
				account("only grants that this account has, by itself, by a group or as everybody"), limit,
				after("grant: grantee and pattern, with a space between them")}},
		{method: "PUT", path: "/grants", id: "putGrant",
			summary: "Grant actions to somebody, instead of those granted on the same pattern before",
			body:    newGrant{}, codes: put, gives: grantAnswer{}, f: s.managing(s.putGrant)},
		{method: "DELETE", path: "/grants", id: "removeGrant", summary: "Take a grant back", urgent: true, codes: done,
			f:     s.managing(s.removeGrant),
			takes: []answer.Parameter{grantee("who has the grant"), {Name: "pattern", Doc: "the pattern of the grant"}}},
		{path: "/audit", id: "audit",
			summary: "List who changed accounts and grants, pushed or deleted, and whose login was refused, the latest first",
			gives:   login.AuditAnswer{}, f: s.audit, takes: append(auditFilters(),
				answer.Parameter{Name: "before", Doc: "only records older than the one with this id", Max: query.MaxNumber},
				limit)},
		{path: "/audit/export", id: "exportAudit",
			summary: "Get the same as CloudEvents with OCSF fields, one per line, the oldest first",
			gives:   access.CloudEvent{}, media: "application/x-ndjson", streams: true, f: s.exportAudit,
			takes: append(auditFilters(),
				answer.Parameter{Name: "after", Doc: "only records newer than the one with this id (default 0)"})},
	}, s.collectEndpoints()...)
}

// auditFilters are the parameters that select records.
func auditFilters() []answer.Parameter {
	events := answer.Map(access.Events, func(e access.Event) string { return string(e) })
	all := []answer.Parameter{
		{Name: "actor", Doc: "who did it"}, {Name: "target", Doc: "whom or what it was done to"},
		{Name: "repository", Doc: "the repository that it was done in"}, {Name: "event", Doc: "what was done", OneOf: events},
		{Name: "outcome", Doc: "whether it was done", OneOf: []string{access.Done, access.Refused}},
		{Name: "since", Doc: "a time (RFC 3339) or a day: only records of then and later"},
		{Name: "until", Doc: "a time (RFC 3339) or a day: only records of before"},
	}
	return all[:len(all):len(all)]
}

func (s *API) audit(w http.ResponseWriter, r asked) error {
	return s.answerer.Reading(s.config.Login.ServeAudit)(w, r.Request)
}

func (s *API) exportAudit(w http.ResponseWriter, r asked) error {
	return s.config.Login.ServeExport(w, r.Request)
}

// A forSubject is a handler for clients that say who they are.
type forSubject func(http.ResponseWriter, asked, access.Subject) error

// managing returns the handler of an endpoint that only a writer can answer.
func (s *API) managing(f forSubject) func(http.ResponseWriter, asked) error {
	return func(w http.ResponseWriter, r asked) error {
		if s.config.Login.Changer == nil {
			return login.ErrOnlyReads
		}
		who, err := s.config.Login.Known(r.Request)
		if err != nil {
			return err
		}
		return s.config.Login.Forbidden(r.Request, who, f(w, r, who))
	}
}

// look runs f, which reads accounts, when its turn comes.
func (s *API) look(r asked, f func(context.Context, login.Changer) error) error {
	l := s.config.Login
	return l.Managing(r.Request, func(ctx context.Context) error { return f(ctx, l.Changer) })
}

// change runs f, which changes accounts, when its turn comes, if permit lets the subject.
func (s *API) change(r asked, who access.Subject, permit access.Permit,
	f func(context.Context, login.Changer) error) error {
	ctx, err := s.config.Login.Changing(r.Request, who, permit)
	if err != nil {
		return err
	}
	return s.look(asked{Request: r.WithContext(ctx)}, f)
}

// orNone returns the refusal for an ErrNotFound: what there is none of.
func orNone(err error, format string, a ...any) error {
	if errors.Is(err, indexer.ErrNotFound) {
		return answer.Refuse(http.StatusNotFound, "there is no "+format, a...)
	}
	return err
}

// created answers with what was made, and its address.
func created(w http.ResponseWriter, location string, v any) error {
	w.Header().Set("Location", location)
	return answer.WriteJSON(w, http.StatusCreated, v)
}

// noContent answers that something is done.
func noContent(w http.ResponseWriter) error {
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// turn returns the first limit elements of a list that was read with one more, and the address
// of the next page; "" if there is none. key returns the value of after for an element. It
// also sets the field Link.
func turn[T any](w http.ResponseWriter, r asked, list []T, limit int, key func(T) string) (page []T, next string) {
	if len(list) <= limit {
		return list, ""
	}
	next = r.page("after", key(list[limit-1]))
	w.Header().Set("Link", "<"+next+`>; rel="next"`)
	return list[:limit], next
}

// escaped returns a parameter and its value for an address.
func escaped(pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Set(pairs[i], pairs[i+1])
	}
	return "?" + v.Encode()
}

// A meAnswer says who the client is.
type meAnswer struct {
	Name          string            `json:"name"`
	Administrator bool              `json:"administrator" doc:"whether you may change accounts, and do everything with every repository"`
	Limited       bool              `json:"limited" doc:"whether you log in with a token that is limited to the rules; it changes nothing"`
	Token         string            `json:"token,omitempty" doc:"the id of the token that you log in with"`
	ExpiresAt     *answer.Timestamp `json:"expires_at,omitempty" doc:"when that token ends; absent: never"`
	Rules         []string          `json:"rules" doc:"what you may do: PATTERN:ACTIONS"`
	Administers   []string          `json:"administers" doc:"the patterns within which you manage grants"`
}

// me answers who the client is, also on a reader.
func (s *API) me(w http.ResponseWriter, r asked) error {
	who, err := s.config.Login.Known(r.Request)
	if err != nil {
		return err
	}
	return answer.WriteJSON(w, http.StatusOK, meAnswer{
		Name: who.Name, Administrator: who.Administers(), Limited: who.Narrowed, Token: who.Token,
		ExpiresAt: timestampOf(who.Expires), Rules: answer.Map(who.Effective(), access.Rule.String),
		Administers: answer.Map(who.Overseen(), access.Pattern.String),
	})
}

// A groupAnswer is a group in the API.
type groupAnswer struct {
	Name    string `json:"name"`
	Members int    `json:"members" doc:"number of accounts in it"`
	Grants  int    `json:"grants" doc:"number of grants to it"`
}

type groupsAnswer struct {
	Items []groupAnswer `json:"items"`
	Next  string        `json:"next,omitempty" doc:"the address of the next page"`
}

func (s *API) groups(w http.ResponseWriter, r asked, who access.Subject) error {
	if err := access.Administrators(who); err != nil {
		return err
	}
	n := r.number("limit", defaultList)
	var list []access.Group
	err := s.look(r, func(ctx context.Context, c login.Changer) (err error) {
		list, err = c.GroupPage(ctx, r.values.Get("after"), n+1)
		return err
	})
	if err != nil {
		return err
	}
	list, next := turn(w, r, list, n, func(g access.Group) string { return g.Name })
	items := answer.Map(list, func(g access.Group) groupAnswer { return groupAnswer(g) })
	return answer.WriteJSON(w, http.StatusOK, groupsAnswer{items, next})
}

// splitGrant returns the grantee and the pattern of the value of after in a list of grants.
func splitGrant(text string) (grantee, pattern string) {
	grantee, pattern, _ = strings.Cut(text, " ")
	return grantee, pattern
}
