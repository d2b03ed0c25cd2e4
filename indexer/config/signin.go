package config

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
)

// checkSessions checks where sessions of browsers are.
func (l *loader) checkSessions(c *Config) {
	const store, address = "auth.sessions.store", "auth.sessions.redis"
	s := c.Auth.Sessions
	_, set := l.set[store]
	u, err := url.Parse(s.Redis)
	switch {
	case set && c.Auth.Method != Accounts:
		l.fail("%s is used only with auth.method accounts, and auth.method is %s: set auth.method, or remove it%s",
			store, c.Auth.Method, l.at(store))
	case s.Store == MemorySessions && c.Role == Reader:
		l.fail("%s is memory, which is that of one process, and a reader begins no session: set it to jwt, postgres or"+
			" redis here and at the writer%s", store, l.at(store))
	case s.Store == RedisSessions && s.Redis == "":
		l.fail("%s is required with %s redis: set it to a URL such as redis://redis:6379/0%s", address, store, l.at(store))
	case s.Store != RedisSessions && s.Redis != "":
		l.fail("%s is used only with %s redis, and that is %s: set it to redis, or remove %s%s",
			address, store, s.Store, address, l.at(address))
	case s.Redis != "" && (err != nil || u.Scheme != "redis" && u.Scheme != "rediss" || u.Host == "" || u.RawQuery != ""):
		l.fail("%s is not a URL of Redis (value not shown): write redis://host:6379/0, with rediss for TLS, a user and a"+
			" password before the host if it needs them, and no query%s", address, l.at(address))
	}
}

// checkSignIns checks the identity providers at which people sign in in the browser, and sets
// their redirect addresses.
func (l *loader) checkSignIns(c *Config) {
	o, g := &c.Auth.OIDC, &c.Auth.GitHubLogin
	if l.checkSignIn(c, "auth.oidc", []string{"issuer", "client_id", "client_secret"}) {
		l.checkAbsolute("auth.oidc.issuer", o.Issuer)
		if !slices.Contains(o.Scopes, "openid") {
			l.fail("auth.oidc.scopes has no openid, without which a provider does not say who a person is: add it%s",
				l.at("auth.oidc.scopes"))
		}
		l.setRedirect(c, "auth.oidc.redirect_url", &o.RedirectURL, "oidc")
	}
	if l.checkSignIn(c, "auth.github_login", []string{"client_id", "client_secret"}) {
		l.checkAbsolute("auth.github_login.url", g.URL)
		l.checkAbsolute("auth.github_login.api", g.API)
		if strings.TrimRight(g.URL, "/") == o.Issuer {
			l.fail("auth.github_login.url and auth.oidc.issuer are both %s: use one of them%s", shown(g.URL),
				l.at("auth.oidc.issuer"))
		}
		l.setRedirect(c, "auth.github_login.redirect_url", &g.RedirectURL, "github")
	}
}

// checkSignIn reports whether a provider is configured. Then it must be so wholly, and people
// must have accounts and pages.
func (l *loader) checkSignIn(c *Config, section string, needs []string) bool {
	some := ""
	for _, k := range l.keys {
		if _, set := l.set[k.Name]; set && strings.HasPrefix(k.Name, section+".") {
			some = cmp.Or(some, k.Name)
		}
	}
	if some == "" {
		return false
	}
	for _, need := range needs {
		if _, set := l.set[section+"."+need]; !set {
			l.fail("%s.%s is required with %s: set it%s", section, need, some, l.at(some))
		}
	}
	if c.Auth.Method != Accounts {
		l.fail("%s is used only with auth.method accounts, and auth.method is %s: set auth.method, or remove it%s",
			some, c.Auth.Method, l.at(some))
	}
	if !c.Components.WebUI {
		l.fail("%s is for people in the browser, and components.web_ui is false: set it to true, or remove %s%s",
			some, some, l.at(some))
	}
	return true
}

// setRedirect sets the address to which a provider sends the browser back, which has to be the
// one that is registered there.
func (l *loader) setRedirect(c *Config, name string, to *string, id string) {
	if *to != "" {
		l.checkAbsolute(name, *to)
		return
	}
	// Its default is the address of the registry behind us.
	u, err := url.Parse(l.set["registry.public_url"].text)
	if err != nil || u.Host == "" {
		l.fail("registry.public_url does not say where browsers reach us, which a sign-in at a provider needs: set it to a"+
			" URL such as https://registry.example.org, or set %s%s", name, l.at("registry.public_url"))
		return
	}
	*to = u.Scheme + "://" + u.Host + "/account/callback/" + id
	l.effective[name] = setting{*to, "default: below registry.public_url"}
}

// checkAbsolute checks a URL of a provider, or of ours that a provider knows.
func (l *loader) checkAbsolute(name, value string) {
	u, err := url.Parse(value)
	switch {
	case value == "": // it is required, which has been said
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		l.fail("%s: %s is not a URL: write https://host, with a path if it has one%s", name, shown(value), l.at(name))
	case u.User != nil, u.RawQuery != "", u.ForceQuery, u.Fragment != "":
		l.fail("%s: %s has a user, a query or a fragment: remove it%s", name, shown(value), l.at(name))
	}
}
