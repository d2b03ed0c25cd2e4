package config

import (
	"cmp"
	"net"
	"net/netip"
)

// pesdeKeys are the keys that variables of pesde's registry server set. They are not
// PORTBOOK_ variables, so that its environment works unchanged.
var pesdeKeys = map[string]string{
	"ACCESS_TOKEN": "auth.token", "READ_ACCESS_TOKEN": "auth.read_token", "WRITE_ACCESS_TOKEN": "auth.write_token",
	"GITHUB_CLIENT_ID": "auth.github.client_id", "GITHUB_CLIENT_SECRET": "auth.github.client_secret",
	"READ_NEEDS_AUTH": "auth.login_to_read",
}

// putPesde sets the key of a variable of pesde's registry server. There an empty token was a
// token, and any value of READ_NEEDS_AUTH, even an empty one, was yes.
func (l *loader) putPesde(name, value string) {
	k, _ := l.find(pesdeKeys[name], fold)
	switch {
	case name == "READ_NEEDS_AUTH":
		value = "true"
	case value == "":
		l.fail("%s is set, but empty: give it a value, or do not set it (%s)", name, l.environment(name))
	}
	l.put(k, value, l.environment(name))
}

// methods are the methods of logins, the first that is configured wins if auth.method is not
// set, and the keys that each needs. It is the order of pesde's registry server, with delegated
// after its methods.
var methods = []struct {
	method Method
	needs  []string
}{
	{OneToken, []string{"auth.token"}},
	{GitHubToken, []string{"auth.github.client_secret", "auth.github.client_id"}},
	{TwoTokens, []string{"auth.read_token", "auth.write_token"}},
	{Delegated, []string{"auth.delegate.url"}},
}

// checkAuth chooses the method of logins if it is not set. It requires what the method needs,
// and refuses what would be configured in vain or by half.
func (l *loader) checkAuth(c *Config) {
	if l.onlyDatabase {
		return
	}
	a := &c.Auth
	if !l.chosen("auth.method") {
		a.Method = l.methodByKeys()
		l.effective["auth.method"] = setting{string(a.Method), "default: by the other keys of auth"}
	}
	if _, set := l.set["audit.pushes"]; !set && a.Keys != "" && c.Events.Token != "" {
		c.Audit.Pushes = true // without the token, anybody who reaches /events could fill the audit log
		l.effective["audit.pushes"] = setting{"true", "default: auth.keys and events.token are set"}
	}
	for _, m := range methods {
		l.checkMethod(m.method, m.needs, a.Method)
	}
	if a.Method == GitHubToken {
		l.checkURL("auth.github.url", a.GitHub.URL)
	}
	if a.Delegate.URL != "" {
		l.checkURL("auth.delegate.url", a.Delegate.URL)
	}
	l.checkSignIns(c)
	l.checkSessions(c)
	switch {
	case a.Delegate.Anonymous && a.Delegate.URL == "":
		l.fail("auth.delegate.anonymous needs auth.delegate.url: set it, or remove auth.delegate.anonymous%s",
			l.at("auth.delegate.anonymous"))
	case a.Method == Accounts && a.Keys == "":
		l.fail("auth.keys is required with auth.method accounts: make the file with `portbook keys rotate FILE`%s",
			l.at("auth.method"))
	case a.Method == NoLogins && !l.chosen("auth.method") && !IsLoopback(c.HTTP.Address):
		l.fail("nobody logs in, and http.address %s can be reached from other machines: set auth.method to accounts, or to"+
			" none if everybody who reaches it may see everything%s", shown(c.HTTP.Address), l.at("http.address"))
	case a.Method == NoLogins && a.Keys != "":
		l.fail("auth.keys is not used with auth.method none: remove it, or set auth.method to accounts%s", l.at("auth.keys"))
	case a.Method == NoLogins && a.LoginToRead:
		l.fail("auth.login_to_read needs a login, and auth.method is none: set auth.method, or remove it%s",
			l.at("auth.login_to_read"))
	case a.Keys != "" && c.Registry.Username != "":
		l.fail("registry.username is not used with auth.keys, because the indexer signs its own tokens:"+
			" remove it and registry.password%s", l.at("registry.username"))
	}
}

// chosen reports whether a key was set.
func (l *loader) chosen(name string) bool {
	_, set := l.set[name]
	return set
}

// IsLoopback reports whether only this machine can reach an address to listen on. What is not
// an address has its own error.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip, errIP := netip.ParseAddr(host)
	return err != nil || host == "localhost" || errIP == nil && ip.IsLoopback()
}

// methodByKeys returns the method of logins whose keys are set.
func (l *loader) methodByKeys() Method {
	for _, m := range methods {
		for _, key := range m.needs {
			if l.chosen(key) && (m.method != GitHubToken || key == m.needs[0]) {
				return m.method
			}
		}
	}
	return NoLogins
}

// checkMethod checks the keys that a method needs. Those of a method that is not used are
// ignored if all are set, since the order of methods is known; half of them are a mistake.
func (l *loader) checkMethod(m Method, needs []string, used Method) {
	set, missing := "", ""
	for _, key := range needs {
		if l.chosen(key) {
			set = cmp.Or(set, key)
		} else {
			missing = cmp.Or(missing, key)
		}
	}
	switch {
	case m == used && missing != "":
		l.fail("%s is required with auth.method %s: set it%s", missing, m, cmp.Or(l.at("auth.method"), l.at(set)))
	case m != used && set != "" && missing != "":
		l.fail("%s is set without %s: set both or neither%s", set, missing, l.at(set))
	}
}
