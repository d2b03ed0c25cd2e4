package config

import (
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/portbook/portbook/indexer"
)

// Packages is the registry of packages of pesde.
type Packages struct {
	Enabled        bool   `mapstructure:"enabled" default:"false"`
	Prefix         string `mapstructure:"prefix" default:"pesde/"` // begins the names of the repositories of packages
	API            string `mapstructure:"api"`                     // our address for clients of pesde, in the first config.toml; default: http.address
	IndexURL       string `mapstructure:"index_url"`               // the repository in which the index is published too; empty: in none
	GitUsername    string `mapstructure:"git_username"`            // to log in there
	GitPassword    string `mapstructure:"git_password" secret:"true"`
	CommitterName  string `mapstructure:"committer_name" default:"Portbook"` // whom the commits of the index name
	CommitterEmail string `mapstructure:"committer_email" default:"portbook@localhost"`
}

// packageKeys are the keys that variables of pesde's registry server set.
var packageKeys = map[string]string{
	"INDEX_REPO_URL": "packages.index_url",
	"GIT_USERNAME":   "packages.git_username", "GIT_PASSWORD": "packages.git_password",
	"COMMITTER_GIT_NAME": "packages.committer_name", "COMMITTER_GIT_EMAIL": "packages.committer_email",
}

// checkPackages checks the registry of packages, and sets what depends on other settings.
func (l *loader) checkPackages(c *Config) {
	p := &c.Packages
	if _, set := l.set["packages.enabled"]; !set && p.IndexURL != "" {
		p.Enabled = true
		l.effective["packages.enabled"] = setting{"true", "default: packages.index_url is set"}
	}
	name, ok := strings.CutSuffix(p.Prefix, "/")
	if !ok || !indexer.IsRepository(name) {
		l.fail("packages.prefix: %s is not the begin of names: write one such as pesde/%s", shown(p.Prefix),
			l.at("packages.prefix"))
	}
	l.checkIndexURL(p.IndexURL)
	if (p.GitUsername == "") != (p.GitPassword == "") {
		l.fail("packages.git_username and packages.git_password need each other: set both, or none%s",
			l.at("packages.git_username")+l.at("packages.git_password"))
	}
	if p.API != "" {
		l.checkURL("packages.api", p.API)
	} else if p.Enabled && !l.onlyDatabase {
		l.packagesAPI(c)
	}
}

// packagesAPI sets the default of packages.api: where we listen, if that is an address of its own.
func (l *loader) packagesAPI(c *Config) {
	host, port, err := net.SplitHostPort(c.HTTP.Address)
	if err != nil {
		return // checkAddress says so
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if c.Role == Writer {
			l.fail("packages.api is required, since http.address is %s: set it to the URL at which clients of pesde reach us",
				shown(c.HTTP.Address))
		}
		return
	}
	c.Packages.API = "http://" + net.JoinHostPort(host, port)
	l.effective["packages.api"] = setting{c.Packages.API, "default: http.address"}
}

// checkIndexURL checks packages.index_url. A login in it would be in logs, and in the index.
func (l *loader) checkIndexURL(s string) {
	const name = "packages.index_url"
	u, err := url.Parse(s)
	switch {
	case s == "" || filepath.IsAbs(s):
	case err == nil && u.User != nil:
		l.fail("%s has a login in it (value not shown): set packages.git_username and packages.git_password instead%s", name,
			l.at(name))
	case err != nil || u.Scheme != "file" && (u.Scheme != "http" && u.Scheme != "https" || u.Host == ""):
		l.fail("%s: %s is not the URL of a repository: write one with https, http or file, or an absolute path%s", name,
			shown(s), l.at(name))
	}
}
