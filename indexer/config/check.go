package config

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/portbook/portbook/indexer/errorreport"
)

// check checks settings that depend on each other or have a syntax, and sets
// defaults that depend on other settings.
func (l *loader) check(c *Config) {
	l.checkRegistry(c)
	l.checkAddress("http.address", c.HTTP.Address)
	l.checkAddress("http.operations_address", c.HTTP.OperationsAddress)
	if a := c.HTTP.Address; a == c.HTTP.OperationsAddress && !strings.HasSuffix(a, ":0") {
		l.fail("http.address and http.operations_address are both %s: give them different ports", shown(a))
	}
	l.checkDatabase(c)
	l.checkAuth(c)
	l.checkUsage(c)
	l.checkCollect(c)
	l.checkWebhooks(c)
	l.checkPackages(c)
	l.checkDataDir(c)
	l.checkStorage(c)
	if err := errorreport.CheckDSN(c.Errors.SentryDSN); c.Errors.SentryDSN != "" && err != nil {
		l.fail("errors.sentry_dsn %w%s", err, l.at("errors.sentry_dsn"))
	}
	for _, o := range c.Flatpak.Owners {
		ref, repository, _ := strings.Cut(o, "=")
		if strings.TrimSpace(ref) == "" || strings.TrimSpace(repository) == "" {
			l.fail("flatpak.owners: %s is not an owner: write REF=REPOSITORY such as app/org.mozilla.*=flathub/*%s",
				shown(o), l.at("flatpak.owners"))
		}
	}
}

// at returns the source of a key in parentheses, for the end of a message.
func (l *loader) at(name string) string {
	if s, ok := l.set[name]; ok {
		return " (" + s.origin + ")"
	}
	return ""
}

func (l *loader) checkAddress(name, address string) {
	_, port, err := net.SplitHostPort(address)
	if _, errPort := strconv.ParseUint(port, 10, 16); err != nil || errPort != nil {
		l.fail("%s: %s is not an address: write host:port such as 127.0.0.1:8080%s", name, shown(address), l.at(name))
	}
}

func (l *loader) checkRegistry(c *Config) {
	r := &c.Registry
	if r.URL != "" {
		l.checkURL("registry.url", r.URL)
	} else if l.onlyDatabase || l.forRegistry {
		// it is optional
	} else if c.Role == Writer {
		l.fail("registry.url is required for a writer: set it or PORTBOOK_REGISTRY_URL, or set role to reader")
	} else if c.Components.RegistryProxy {
		l.fail("registry.url is required for components.registry_proxy: set it or PORTBOOK_REGISTRY_URL%s",
			l.at("components.registry_proxy"))
	} else if c.Front.Token != "" {
		l.fail("registry.url is required for front.token: set it or PORTBOOK_REGISTRY_URL%s", l.at("front.token"))
	}
	if r.PublicURL == "" {
		r.PublicURL = r.URL
		l.effective["registry.public_url"] = setting{r.URL, "default: registry.url"}
	} else if !strings.HasPrefix(r.PublicURL, "/") || strings.HasPrefix(r.PublicURL, "//") || strings.ContainsAny(r.PublicURL, "?#") {
		l.checkURL("registry.public_url", r.PublicURL)
	}
	if (r.Username == "") != (r.Password == "") {
		l.fail("registry.username and registry.password go together: set both or neither%s%s",
			l.at("registry.username"), l.at("registry.password"))
	}
}

func (l *loader) checkURL(name, value string) {
	u, err := url.Parse(value)
	what, remedy := "a URL of a registry", "set registry.username and registry.password"
	if strings.HasPrefix(name, "auth.") || strings.HasPrefix(name, "collect.") || strings.HasPrefix(name, "storage.") ||
		strings.HasPrefix(name, "packages.") {
		what, remedy = "a URL of an API", "remove it"
	}
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		form := "write http://host:port or https://host"
		if name == "registry.public_url" {
			form += ", or a path such as /"
		}
		l.fail("%s: %s is not %s: %s%s", name, shown(value), what, form, l.at(name))
	case u.User != nil:
		l.fail("%s: %s contains a user: %s%s", name, shown(value), remedy, l.at(name))
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		l.fail("%s: %s contains a query or fragment: remove it%s", name, shown(value), l.at(name))
	}
}

// checkDatabase requires exactly one of the URL, the parts and PG* variables. Only
// pgx parses the URL: net/url does not accept lists of hosts.
func (l *loader) checkDatabase(c *Config) {
	_, hasURL := l.set[byURL]
	part := ""
	for _, p := range byPart {
		if _, ok := l.set[p.key]; ok && part == "" {
			part = p.key
		}
	}
	before := len(l.errs)
	u := c.Database.Postgres.URL
	switch {
	case hasURL && part != "":
		l.fail("%s%s and %s%s both name the database: keep one (with a URL, the password may be in PGPASSWORD)",
			byURL, l.at(byURL), part, l.at(part))
	case hasURL:
		if !strings.HasPrefix(u, "postgres://") && !strings.HasPrefix(u, "postgresql://") {
			l.fail("%s must begin with postgres:// or postgresql:// (value not shown)%s", byURL, l.at(byURL))
		}
	case part != "":
		for _, name := range []string{"host", "port", "user", "database"} {
			if _, ok := l.set["database."+name]; !ok {
				l.fail("database.%s is required: set it or PORTBOOK_DATABASE_%s (%s is set by %s)",
					name, strings.ToUpper(name), part, l.set[part].origin)
			}
		}
		l.checkHosts(&c.Database)
	case l.forRegistry: // it is optional
	case l.env["PGHOST"] == "" && l.env["PGSERVICE"] == "":
		l.fail("database.postgres.url or database.host is required: set one of them, DB_URL, or libpq's PGHOST or PGSERVICE")
	}
	_, hasPort := l.set["database.port"]
	l.checkConnection(c, len(l.errs) == before && (c.Database.Port != 0 || !hasPort))
	l.checkPool(c)
}

// checkPool checks the limits of the pool. The default of maxIdleConns is at most
// maxOpenConns.
func (l *loader) checkPool(c *Config) {
	const open, idle = "database.maxOpenConns", "database.maxIdleConns"
	d := &c.Database
	if c.Role == Writer && d.MaxOpenConns < 2 {
		l.fail("%s: %q is too few for a writer, which keeps one connection for the leader: write at least 2%s",
			open, strconv.Itoa(d.MaxOpenConns), l.at(open))
	}
	if d.MaxIdleConns <= d.MaxOpenConns {
		return
	}
	if _, ok := l.set[idle]; ok {
		l.fail("%s: %q is more than database.maxOpenConns: write at most %d%s",
			idle, strconv.Itoa(d.MaxIdleConns), d.MaxOpenConns, l.at(idle))
	}
	d.MaxIdleConns = d.MaxOpenConns
	l.effective[idle] = setting{strconv.Itoa(d.MaxIdleConns), "default: at most " + open}
}
