package config

import (
	"cmp"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// theirKeys are the keys that variables of other systems set, besides those of pesdeKeys. They
// are not PORTBOOK_ variables, so that their environment works unchanged. As everywhere, an
// empty one is ignored.
var theirKeys = map[string]string{
	// The registry of Deploys.app.
	"INTERNAL_SECRET": "internal.secret", "LOG_LEVEL": "log.level", "BUCKET_NAME": "storage.gcs.bucket",
	// pesde's registry server.
	"DATA_DIR": "data_dir", "FS_STORAGE_ROOT": "storage.filesystem.rootdirectory",
	"S3_ENDPOINT": "storage.s3.regionendpoint", "S3_BUCKET_NAME": "storage.s3.bucket", "S3_REGION": "storage.s3.region",
	"S3_ACCESS_KEY": "storage.s3.accesskey", "S3_SECRET_KEY": "storage.s3.secretkey",
	"SENTRY_DSN": "errors.sentry_dsn", // and of every client of Sentry
}

// theirOthers are variables of other systems that are not one key: see readEnv and putAddress.
var theirOthers = []string{"DB_URL", "DATABASE_URL", "ADDRESS", "PORT"}

// theirNames are keys that have another name in the files of other systems: in a fork of the
// stock registry with pages, audit log and accounts, and in version 2 of that registry.
var theirNames = map[string]string{
	"webmanagement.enabled":                   "components.web_ui",
	"webmanagement.oauth.github.clientid":     "auth.github_login.client_id",
	"webmanagement.oauth.github.clientsecret": "auth.github_login.client_secret",
	"audit.enabled":                           "audit.pushes",
	"audit.database.dsn":                      byURL, // all records are in one database, beside what they are about
	"auth.database.dsn":                       byURL,
	"redis.addr":                              "redis.addrs",
}

// notOurs are keys and sections of other systems that have no key here, with what to do instead.
var notOurs = map[string]string{
	"webmanagement.oauth.github.redirecturl": "GitHub sends browsers back to /account/callback/github here: register" +
		" that at GitHub, and remove it (auth.github_login.redirect_url is for a proxy that changes paths)",
	"webmanagement.cdn": "nothing here sends content through a CDN: let the registry send clients to it" +
		" (storage.middleware in its file), let it cache pages and answers (cache.max_age_html," +
		" cache.max_age_index), and remove it",
}

// theirTypes are keys of other systems that may only say that the database is PostgreSQL.
var theirTypes = []string{"audit.database.type", "auth.database.type"}

// isTheirs handles a key of another system that is not another name of one of ours. It reports
// whether name is one.
func (l *loader) isTheirs(name, value, origin string, same func(string) string) bool {
	for _, typ := range theirTypes {
		if same(typ) != same(name) {
			continue
		}
		if v := strings.ToLower(value); v != "postgresql" && v != "postgres" {
			l.fail("%s: %s is not supported: write postgresql, or remove it (%s)", typ, shown(value), origin)
		}
		return true
	}
	for theirs, instead := range notOurs {
		if same(theirs) == same(name) || strings.HasPrefix(same(name), same(theirs+".")) {
			l.fail("%s is not supported: %s (%s)", theirs, instead, origin)
			return true
		}
	}
	return false
}

// isTheirSection reports whether path is a section of another system, with keys that we know.
func isTheirSection(path string) bool {
	within := func(name string) bool { return strings.HasPrefix(fold(name), fold(path)+".") }
	for name := range theirNames {
		if within(name) {
			return true
		}
	}
	for name := range notOurs {
		if within(name) {
			return true
		}
	}
	return within(theirTypes[0]) || within(theirTypes[1])
}

// putAddress sets http.address by ADDRESS and PORT. Each is half of it: the other half comes from
// the file or the default.
func (l *loader) putAddress() {
	address, port := strings.TrimSpace(l.env["ADDRESS"]), strings.TrimSpace(l.env["PORT"])
	if address == "" && port == "" {
		return
	}
	name := "ADDRESS"
	if address == "" {
		name = "PORT"
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	if _, err := netip.ParseAddr(bare); err != nil && strings.ContainsAny(address, ":/ ") {
		l.fail("ADDRESS: %s is not an address without a port: write one such as 127.0.0.1 (%s)", shown(address),
			l.environment("ADDRESS"))
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); port != "" && err != nil {
		l.fail("PORT: %s is not a port: write 0 to 65535 (%s)", shown(port), l.environment("PORT"))
		return
	}
	k, _ := l.find("http.address", fold)
	host, number, err := net.SplitHostPort(cmp.Or(l.set[k.Name].text, k.Default))
	if err != nil {
		return // checkAddress says so
	}
	origin := l.environment(name)
	if address != "" && port != "" {
		origin += " and PORT"
	}
	l.put(k, net.JoinHostPort(cmp.Or(bare, host), cmp.Or(port, number)), origin)
}
