package provider

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/oauth2"

	"github.com/portbook/portbook/indexer"
	"github.com/portbook/portbook/indexer/access"
)

// A GitHubConfig configures GitHub as an identity provider.
type GitHubConfig struct {
	URL, API               string // of GitHub, or of an enterprise server
	ClientID, ClientSecret string
	Redirect               string // our address to which the browser comes back
	// Organizations are those whose members may sign in; empty: everybody.
	Organizations []string
	Log           *slog.Logger
}

// maxPages is how many pages of 100 organizations, or of teams, of a person are read: 10.
const (
	maxPages = 10
	perPage  = 100
)

// GitHub is GitHub as an identity provider. It is safe for concurrent use.
type GitHub struct {
	config GitHubConfig
	oauth  *oauth2.Config
	client *http.Client
}

// NewGitHub returns a provider. It asks for the right to read a person's organizations only if
// they matter.
func NewGitHub(c GitHubConfig) *GitHub {
	c.URL, c.API = strings.TrimRight(c.URL, "/"), strings.TrimRight(c.API, "/")
	o := &oauth2.Config{
		ClientID: c.ClientID, ClientSecret: c.ClientSecret, RedirectURL: c.Redirect,
		Endpoint: oauth2.Endpoint{
			AuthURL: c.URL + "/login/oauth/authorize", TokenURL: c.URL + "/login/oauth/access_token",
			AuthStyle: oauth2.AuthStyleInParams,
		},
	}
	if len(c.Organizations) > 0 {
		o.Scopes = []string{"read:org"}
	}
	return &GitHub{config: c, oauth: o, client: newClient()}
}

// ID returns the name of the provider in addresses.
func (g *GitHub) ID() string { return "github" }

// Title returns what people call the provider.
func (g *GitHub) Title() string { return "GitHub" }

// Issuer returns "": an OAuth application need not know by what name GitHub sends answers.
func (g *GitHub) Issuer() string { return "" }

// Address returns where the browser goes for an attempt.
func (g *GitHub) Address(_ context.Context, a access.Attempt) (string, error) {
	return g.oauth.AuthCodeURL(a.State, oauth2.S256ChallengeOption(a.Verifier)), nil
}

// Identity returns who has come back with a code in an attempt. A login of GitHub can be
// changed and then taken by another person, so the number of the user is the subject.
func (g *GitHub) Identity(ctx context.Context, code string, a access.Attempt) (i access.Identity, err error) {
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, oauth2.HTTPClient, g.client), totalTime)
	defer cancel()
	token, err := exchange(ctx, g.oauth, g.Title(), code, a.Verifier)
	if err != nil {
		return i, err
	}
	var user struct {
		ID    int64
		Login string
	}
	if _, err := g.get(ctx, token, "/user", &user); err != nil {
		return i, err
	}
	if user.ID <= 0 || user.Login == "" {
		return i, away(g.Title(), "user", fmt.Errorf("the answer names no user"))
	}
	i = access.Identity{
		Provider: g.Title(), Issuer: g.config.URL, Subject: strconv.FormatInt(user.ID, 10), Name: user.Login,
	}
	i.Groups, err = g.groups(ctx, token)
	return i, err
}

// groups returns the organizations of a person that may sign in, and its teams in them: org
// and org.team. Others do not count, because anybody can make an organization of any free
// name.
func (g *GitHub) groups(ctx context.Context, t *oauth2.Token) ([]string, error) {
	if len(g.config.Organizations) == 0 {
		return nil, nil
	}
	type organization struct{ Login string }
	type team struct {
		Slug         string
		Organization organization
	}
	organizations, err := list[organization](ctx, g, t, "/user/orgs")
	if err != nil {
		return nil, err
	}
	var groups []string
	for _, o := range organizations {
		if g.allows(o.Login) {
			groups = append(groups, o.Login)
		}
	}
	if len(groups) == 0 {
		return nil, refuse("the account of GitHub is in none of the organizations that may sign in here, or this" +
			" application may not see that it is: an administrator of the organization approves applications at GitHub")
	}
	teams, err := list[team](ctx, g, t, "/user/teams")
	if err != nil {
		return nil, err
	}
	for _, x := range teams {
		if g.allows(x.Organization.Login) {
			groups = append(groups, x.Organization.Login+"/"+x.Slug)
		}
	}
	names, left := access.GroupNames(groups)
	if left > 0 {
		g.config.Log.WarnContext(ctx, "groups of a person cannot be groups here", "provider", g.ID(), "groups", left)
	}
	return names, nil
}

// allows reports whether members of an organization may sign in. GitHub ignores case.
func (g *GitHub) allows(organization string) bool {
	return slices.ContainsFunc(g.config.Organizations, func(o string) bool {
		return indexer.LowerASCII(o) == indexer.LowerASCII(organization)
	})
}

// list returns the items of all pages of a list, of maxPages at most.
func list[T any](ctx context.Context, g *GitHub, t *oauth2.Token, path string) (all []T, err error) {
	for page := 1; page <= maxPages; page++ {
		var items []T
		more, err := g.get(ctx, t, fmt.Sprintf("%s?per_page=%d&page=%d", path, perPage, page), &items)
		if err != nil {
			return nil, err
		}
		if all = append(all, items...); !more {
			return all, nil
		}
	}
	g.config.Log.WarnContext(ctx, "a person has more than is read of GitHub", "path", path, "read", len(all))
	return all, nil
}

// get reads an answer of the API. It reports whether there is another page.
func (g *GitHub) get(ctx context.Context, t *oauth2.Token, path string, into any) (more bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, g.config.API+path, nil)
	if err != nil {
		return false, err
	}
	t.SetAuthHeader(r)
	r.Header.Set("Accept", "application/vnd.github+json")
	resp, err := g.client.Do(r)
	if err != nil {
		cause := indexer.CauseOf(err)
		return false, away(g.Title(), path, fmt.Errorf("it %s: %s", cause.Public, cmp.Or(cause.Detail, "no details")))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, away(g.Title(), path, fmt.Errorf("it answered %s", resp.Status))
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return false, away(g.Title(), path, err)
	}
	return strings.Contains(resp.Header.Get("Link"), `rel="next"`), nil
}
