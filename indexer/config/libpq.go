package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgservicefile"
	"github.com/jackc/pgx/v5/pgconn"
)

// variables maps the variables of libpq that pgx reads to keywords of a connection
// string (pgx v5.12.0, pgconn/config.go, parseEnvSettings).
var variables = map[string]string{
	"PGHOST": "host", "PGPORT": "port", "PGDATABASE": "dbname", "PGUSER": "user", "PGPASSWORD": "password",
	"PGPASSFILE": "passfile", "PGSERVICE": "service", "PGSERVICEFILE": "servicefile",
	"PGAPPNAME": "application_name", "PGCONNECT_TIMEOUT": "connect_timeout",
	"PGSSLMODE": "sslmode", "PGSSLKEY": "sslkey", "PGSSLCERT": "sslcert", "PGSSLCERTMODE": "sslcertmode",
	"PGSSLSNI":      "sslsni",
	"PGSSLROOTCERT": "sslrootcert", "PGSSLPASSWORD": "sslpassword", "PGSSLNEGOTIATION": "sslnegotiation",
	"PGTARGETSESSIONATTRS": "target_session_attrs", "PGTZ": "timezone", "PGOPTIONS": "options",
	"PGCHANNELBINDING": "channel_binding", "PGREQUIREAUTH": "require_auth",
	"PGMINPROTOCOLVERSION": "min_protocol_version", "PGMAXPROTOCOLVERSION": "max_protocol_version",
}

// byPart are the keys of the database's address, and their keywords.
var byPart = []struct{ key, keyword string }{
	{"database.host", "host"}, {"database.port", "port"}, {"database.user", "user"}, {"database.password", "password"},
	{"database.database", "dbname"}, {"database.sslMode", "sslmode"},
}

const byURL = "database.postgres.url"

// parameters returns the values of libpq's keywords from all sources. As in pgx, the
// URL or the parts override a service file, which overrides the environment.
func (l *loader) parameters() (map[string]setting, error) {
	all, own := map[string]setting{}, map[string]setting{}
	for name, keyword := range variables {
		if value := l.env[name]; value != "" {
			all[keyword] = setting{value, l.environment(name)}
		}
	}
	for _, part := range byPart {
		if s, ok := l.set[part.key]; ok {
			own[part.keyword] = s
		}
	}
	if s, ok := l.set[byURL]; ok {
		for keyword, value := range urlParameters(s.text) {
			own[keyword] = setting{value, byURL + ", " + s.origin}
		}
	}
	err := l.readService(all, own)
	maps.Copy(all, own)
	return all, err
}

// readService adds the settings of the service that own or all names, if any.
func (l *loader) readService(all, own map[string]setting) error {
	named := func(keyword string) setting {
		if s, ok := own[keyword]; ok {
			return s
		}
		return all[keyword]
	}
	service, file := named("service"), named("servicefile").text
	if service.text == "" {
		return nil
	}
	if file == "" {
		file = filepath.Join(l.env["HOME"], ".pg_service.conf")
	}
	known, err := pgservicefile.ReadServicefile(file)
	if err != nil {
		return fmt.Errorf("the service %q cannot be read: %w: check PGSERVICEFILE (%s)", service.text, err, service.origin)
	}
	found, err := known.GetService(service.text)
	if err != nil {
		return fmt.Errorf("the file %s has no service %q: add it or correct the name (%s)",
			file, service.text, service.origin)
	}
	for keyword, value := range found.Settings {
		all[keyword] = setting{value, fmt.Sprintf("service %s of %s", service.text, file)}
	}
	return nil
}

// cutURL cuts a connection URL as pgx and libpq do: the user ends at the first @
// before any slash, and the query begins after hosts in brackets. The query keeps
// its question mark.
func cutURL(u string) (user, address, query string) {
	_, address, _ = strings.Cut(u, "://")
	if i := strings.IndexAny(address, "@/"); i >= 0 && address[i] == '@' {
		user, address = address[:i], address[i+1:]
	}
	at := 0
	for {
		if strings.HasPrefix(address[at:], "[") {
			at += max(strings.IndexByte(address[at:], ']'), 0)
		}
		i := strings.IndexAny(address[at:], "/?,")
		if i < 0 {
			return user, address, ""
		}
		if at += i; address[at] != ',' {
			break
		}
		at++
	}
	if i := strings.IndexByte(address[at:], '?'); i >= 0 {
		return user, address[:at+i], address[at+i:]
	}
	return user, address, ""
}

// urlParameters returns the values in a connection URL by keyword. Those of host and
// port are only for display: pgx parses the URL that is used.
func urlParameters(u string) map[string]string {
	found := map[string]string{}
	put := func(keyword, value string) {
		if decoded, err := url.PathUnescape(value); err == nil && decoded != "" {
			found[keyword] = decoded
		}
	}
	user, rest, query := cutURL(u)
	user, password, _ := strings.Cut(user, ":")
	put("user", user)
	put("password", password)
	hosts, name, _ := strings.Cut(rest, "/")
	put("host", hosts)
	put("dbname", name)
	for pair := range strings.SplitSeq(strings.TrimPrefix(query, "?"), "&") {
		keyword, value, _ := strings.Cut(pair, "=")
		switch keyword, _ = url.PathUnescape(keyword); {
		case keyword == "ssl" && value == "true": // the form of JDBC
			put("sslmode", "require")
		case keyword == "database":
			put("dbname", value)
		default:
			put(keyword, value)
		}
	}
	return found
}

// ConnString returns the argument of pgx.ParseConfig: the URL, or the parts as
// keywords, followed by SSLMode and TargetSessionAttrs. pgx takes the rest from PG*
// variables. The pgpass file is turned off, since pgx accepts one that everybody may
// read.
//
// The parts are keywords because a socket directory, an IPv6 zone or a slash in a
// name needs no escapes there. The host must be in the string, since pgx checks the
// server's certificate against it.
func (d Database) ConnString() string {
	more := [][2]string{{"sslmode", d.SSLMode}, {"target_session_attrs", d.TargetSessionAttrs}}
	more = slices.DeleteFunc(more, func(p [2]string) bool { return p[1] == "" })
	more = append(more, [2]string{"passfile", ""})
	if d.Postgres.URL != "" {
		return withParameters(d.Postgres.URL, more)
	}
	var parts [][2]string
	if d.Host != "" {
		parts = [][2]string{{"host", d.Host}, {"port", strconv.Itoa(d.Port)}, {"user", d.User}, {"dbname", d.Database}}
	}
	if d.Password != "" { // with an empty one, pgx would ignore PGPASSWORD
		parts = append(parts, [2]string{"password", d.Password})
	}
	var words []string
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	for _, p := range append(parts, more...) {
		words = append(words, fmt.Sprintf("%s='%s'", p[0], quote.Replace(p[1])))
	}
	return strings.Join(words, " ")
}

// withParameters adds parameters to a URL. pgx uses the last of two with one name.
func withParameters(u string, parameters [][2]string) string {
	separator := "&"
	switch _, _, query := cutURL(u); {
	case query == "":
		separator = "?"
	case query == "?", strings.HasSuffix(query, "&"):
		separator = ""
	}
	for _, p := range parameters {
		u += separator + p[0] + "=" + p[1] // no value needs escapes
		separator = "&"
	}
	return u
}

// checkConnection checks how the connection is made, and sets the fields of Database
// that follow from it. It checks the address only if known is true.
func (l *loader) checkConnection(c *Config, known bool) {
	d := &c.Database
	var err error
	if l.libpq, err = l.parameters(); err != nil {
		l.errs = append(l.errs, err)
		known = false
	}
	for _, keyword := range slices.Sorted(maps.Keys(l.libpq)) {
		if strings.HasPrefix(keyword, "pool_") {
			l.fail("%s in %s is not supported: set database.maxOpenConns, database.maxIdleConns or"+
				" database.connMaxLifetime", keyword, l.libpq[keyword].origin)
		}
	}
	d.Passfile, d.PassfileFrom = l.libpq["passfile"].text, l.libpq["passfile"].origin
	if home := l.env["HOME"]; d.Passfile == "" && home != "" {
		d.Passfile = filepath.Join(home, ".pgpass")
	}
	l.checkPasswords(d)
	var hosts []string
	if known {
		hosts = l.parse(*d)
	}
	l.checkTLS(d, hosts)
	l.checkSession(c, hosts)
}

// parse returns the hosts of a connection in order, or none after it has reported a
// mistake. It ignores TLS settings, which checkTLS checks. It shows no part of a URL
// that cannot be parsed, since any part may belong to a password.
func (l *loader) parse(d Database) (hosts []string) {
	d.SSLMode, d.TargetSessionAttrs = "disable", "any"
	s := d.ConnString()
	for _, keyword := range []string{"sslrootcert", "sslcert", "sslkey"} {
		if d.Postgres.URL != "" {
			s = withParameters(s, [][2]string{{keyword, ""}})
		} else {
			s += " " + keyword + "=''"
		}
	}
	pc, err := pgconn.ParseConfig(s)
	if err != nil {
		if base, _, found := strings.Cut(d.Postgres.URL, "?"); found {
			if _, err := pgconn.ParseConfig(base); err == nil {
				l.fail("%s: a parameter after the ? cannot be parsed: check it against the parameters of libpq (value"+
					" not shown)%s", byURL, l.at(byURL))
				return nil
			}
		}
		if _, isURL := l.set[byURL]; isURL {
			l.fail("%s cannot be parsed: write postgres://user:password@host:port/database, and %%40 for @, %%2F"+
				" for /, %%3A for : and %%3F for ? in a password (value not shown)%s", byURL, l.at(byURL))
			return nil
		}
		l.fail("the address of the database cannot be parsed: check %s", l.variablesInUse())
		return nil
	}
	l.address = pc
	hosts = []string{pc.Host}
	for _, f := range pc.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	return hosts
}

func (l *loader) variablesInUse() string {
	var names []string
	for name, keyword := range variables {
		if l.libpq[keyword].origin == l.environment(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// checkTLS ensures that no connection falls back to plain text. Unix sockets never use
// TLS.
func (l *loader) checkTLS(d *Database, hosts []string) {
	const key = "database.sslMode"
	given, ok := l.libpq["sslmode"]
	if !ok {
		given = setting{"require", "default"}
	}
	k, _ := l.find(key, fold)
	mode, err := k.parse(given.text)
	switch _, byKey := l.set[key]; {
	case err == nil:
	case byKey:
		return // decode has reported it
	case given.text == "allow", given.text == "prefer":
		l.fail("sslmode=%s falls back to plain text if TLS fails: write require, or disable to turn TLS off"+
			" (%s)", given.text, given.origin)
		return
	default:
		l.fail("sslmode: %s is not valid: write one of disable, require, verify-ca, verify-full (%s)",
			shown(given.text), given.origin)
		return
	}
	root, ok := l.libpq["sslrootcert"]
	if home := l.env["HOME"]; !ok && home != "" { // the default of libpq and pgx
		root = setting{filepath.Join(home, ".postgresql", "root.crt"), "default"}
		if _, err := os.Stat(root.text); err != nil {
			root = setting{}
		}
	}
	d.SSLMode = mode.(string)
	if root.text == "system" { // as in pgx, since anybody can get a certificate of a public authority
		d.SSLMode, given.origin = "verify-full", root.origin
	}
	l.effective[key] = setting{d.SSLMode, given.origin}
	if d.SSLMode == "require" && root.text != "" {
		origin := given.origin + "; as verify-ca, since there is a root certificate: " + root.text
		l.effective[key] = setting{"require", origin}
	}
	if !slices.ContainsFunc(hosts, func(h string) bool { return !strings.HasPrefix(h, "/") }) {
		return
	}
	if d.SSLMode == "verify-ca" && root.text == "" {
		l.fail("sslmode verify-ca requires the certificate of your authority: set PGSSLROOTCERT to its file, or"+
			" use verify-full, which also checks the host name and can trust the authorities of the system (%s)", given.origin)
		return
	}
	tls := *d
	tls.TargetSessionAttrs = "any" // checkSession checks it
	pc, err := pgconn.ParseConfig(tls.ConnString())
	if err != nil {
		l.fail("TLS to the database cannot be set up: %w", tlsMistake(err))
	} else if d.SSLMode != "disable" && withoutTLS(pc) { // only if pgx parses the URL differently
		l.fail("%s both requires and disables TLS (value not shown)%s", byURL, l.at(byURL))
	}
}

// withoutTLS reports whether a connection tries a host without TLS.
func withoutTLS(c *pgconn.Config) bool {
	for _, a := range append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...) {
		if network, _ := pgconn.NetworkAddress(a.Host, a.Port); network == "tcp" && a.TLSConfig == nil {
			return true
		}
	}
	return false
}

// tlsMistake returns the cause of an error of pgx, without the connection string.
func tlsMistake(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return fmt.Errorf("%w: check PGSSLROOTCERT, PGSSLCERT and PGSSLKEY", file)
	}
	if inner := errors.Unwrap(err); inner != nil {
		return fmt.Errorf("%w: check PGSSLROOTCERT, PGSSLCERT, PGSSLKEY and similar variables", inner)
	}
	return errors.New("check the PGSSL variables and the TLS parameters of the URL")
}

// checkSession sets which of several servers is used. By default a writer uses one that
// accepts writes, and a reader prefers a standby.
func (l *loader) checkSession(c *Config, hosts []string) {
	const key = "database.targetSessionAttrs"
	given, ok := l.set[key]
	byLibpq, also := l.libpq["target_session_attrs"]
	if also && (!ok || strings.HasPrefix(byLibpq.origin, byURL)) {
		given, ok = byLibpq, true
	}
	if !ok {
		given = setting{"any", "default of a reader with one host"}
		switch {
		case c.Role == Writer:
			given = setting{"read-write", "default of a writer"}
		case len(hosts) > 1:
			given = setting{"prefer-standby", "default of a reader with several hosts"}
		}
	}
	k, _ := l.find(key, fold)
	value, err := k.parse(given.text)
	if err != nil {
		if _, byKey := l.set[key]; !byKey {
			l.fail("%w (%s)", err, given.origin)
		}
		return
	}
	c.Database.TargetSessionAttrs = value.(string)
	l.effective[key] = setting{value.(string), given.origin}
	if c.Role == Writer && (value == "read-only" || value == "standby" || value == "prefer-standby") {
		l.fail("%s: %q selects servers that do not accept writes: write read-write or primary, or set role to"+
			" reader (%s)", key, value, given.origin)
	}
}

// checkPasswords refuses two ways to authenticate at once.
func (l *loader) checkPasswords(d *Database) {
	const key = "database.dynamicAuth"
	const region = key + ".awsRdsIam.region"
	given, dynamic := l.set[region]
	where, begun := l.seen[fold(key)]
	if begun && !dynamic { // an empty section is a mistake, since passwords would be used
		l.fail("%s is required, since the file has %s: write an AWS region such as eu-west-1, or detect, or"+
			" remove %s to use passwords", region, where, key)
		given, dynamic = setting{origin: where}, true
	} else if dynamic && d.DynamicAuth.AWSRDSIAM.Region != "detect" && !isRegion(d.DynamicAuth.AWSRDSIAM.Region) {
		l.fail("%s: %s is not an AWS region: write one such as eu-west-1, or detect%s",
			region, shown(d.DynamicAuth.AWSRDSIAM.Region), l.at(region))
	}
	password, hasPassword := l.libpq["password"]
	const exclusive = "are mutually exclusive; use one authentication method: remove"
	if dynamic && hasPassword {
		name, remedy := "database.password", "one"
		switch {
		case strings.HasPrefix(password.origin, byURL):
			name = "a password in " + byURL
		case strings.HasPrefix(password.origin, "environment PG"):
			name, remedy = "PGPASSWORD", "one (it would be a second password)"
		case strings.HasPrefix(password.origin, "service "):
			name = "a password in a service file"
		}
		l.fail("%s and %s %s %s (%s; %s)", name, key, exclusive, remedy, password.origin, given.origin)
	}
	migration, hasMigration := l.set["database.migrationPassword"]
	if dynamic && hasMigration {
		l.fail("database.migrationPassword and %s %s one (%s; %s)", key, exclusive, migration.origin, given.origin)
	}
	oneUser := d.MigrationUser == "" || d.MigrationUser == l.libpq["user"].text
	if oneUser && hasPassword && hasMigration && password.text != migration.text {
		l.fail("database.migrationPassword%s differs from the password of the same user (%s): remove it, or set"+
			" database.migrationUser", l.at("database.migrationPassword"), password.origin)
	}
}

// isRegion reports whether s has the form of an AWS region: us-east-1,
// us-gov-west-1, eusc-de-east-1.
func isRegion(s string) bool {
	words := strings.Split(s, "-")
	last := len(words) - 1
	for _, word := range words[:last] {
		if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz") != "" {
			return false
		}
	}
	return last >= 2 && words[last] != "" && strings.Trim(words[last], "0123456789") == ""
}

// checkHosts checks database.host. pgx would resolve "db:5432" as a name.
func (l *loader) checkHosts(d *Database) {
	const key = "database.host"
	if d.Host == "" {
		return
	}
	var hosts []string
	for host := range strings.SplitSeq(d.Host, ",") {
		host = strings.TrimSpace(host)
		_, err := netip.ParseAddr(host)
		switch {
		case host == "":
			l.fail("%s: %s has an extra comma: write hosts such as db1,db2%s", key, shown(d.Host), l.at(key))
			return
		case strings.Contains(host, "://"):
			l.fail("%s: %s is a URL: set database.postgres.url instead%s", key, shown(host), l.at(key))
			return
		case !strings.HasPrefix(host, "/") && strings.Contains(host, ":") && err != nil:
			l.fail("%s: %s contains a port: set database.port, which applies to all hosts, or"+
				" database.postgres.url%s", key, shown(host), l.at(key))
			return
		}
		hosts = append(hosts, host)
	}
	d.Host = strings.Join(hosts, ",")
}
