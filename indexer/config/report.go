package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A Line is one setting of a report.
type Line struct {
	Name   string // a key or a variable of libpq
	Value  string // without secrets
	Origin string // "file portbook.yaml:12", "environment PGHOST", "flag --role", "default"
}

// Report loads the settings as Load does, and returns the effective value and the
// source of each: first the keys in the order of Config, then libpq's variables that
// are set. The address of the database is in database.host and the keys after it,
// even if it comes from a URL or a variable.
func Report(src Source) (Config, []Line, error) {
	c, l, err := load(src)
	if err != nil {
		return c, nil, err
	}
	l.effectiveAddress()
	var lines []Line
	for _, k := range l.keys {
		s, given := l.effective[k.Name]
		if !given {
			s, given = l.set[k.Name]
		}
		switch {
		case given && s.text != "":
			s.text = k.redact(s.text)
		case given:
		case k.Default != "":
			s = setting{k.Default, "default"}
		default:
			s.origin = "not set"
		}
		lines = append(lines, Line{k.Name, s.text, s.origin})
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		value, set := l.env[name]
		if !set {
			continue
		}
		if strings.HasSuffix(name, "PASSWORD") {
			value = redacted
		}
		origin := "environment"
		if at := l.fromFile[name]; at != "" {
			origin = "file " + at
		}
		if used := l.libpq[variables[name]]; used.origin != l.environment(name) {
			origin += ", not used: " + used.origin
		}
		lines = append(lines, Line{name, value, origin})
	}
	return c, lines, nil
}

// effectiveAddress sets the effective values of the address of the database.
func (l *loader) effectiveAddress() {
	ports, hosts := []string{strconv.Itoa(int(l.address.Port))}, []string{l.address.Host}
	for _, f := range l.address.Fallbacks {
		hosts, ports = append(hosts, f.Host), append(ports, strconv.Itoa(int(f.Port)))
	}
	if len(slices.Compact(slices.Clone(ports))) == 1 {
		ports = ports[:1]
	}
	database := l.address.Database
	if database == "" {
		database = l.address.User // as Postgres does
	}
	for _, e := range []struct{ keyword, key, value string }{
		{"host", "database.host", strings.Join(hosts, ",")}, {"port", "database.port", strings.Join(ports, ",")},
		{"user", "database.user", l.address.User}, {"dbname", "database.database", database},
	} {
		origin := l.libpq[e.keyword].origin
		if e.keyword == "port" && strings.Contains(l.libpq["host"].text, ":"+ports[0]) {
			origin = l.libpq["host"].origin
		}
		if origin == "" {
			origin = "default of libpq"
		}
		l.effective[e.key] = setting{e.value, origin}
	}
	password, ok := l.libpq["password"]
	if _, dynamic := l.set["database.dynamicAuth.awsRdsIam.region"]; dynamic {
		password, ok = setting{"", "database.dynamicAuth: a token for each connection"}, true
	}
	if ok {
		l.effective["database.password"] = password
	}
	if _, given := l.set["database.migrationUser"]; !given {
		l.effective["database.migrationUser"] = setting{l.address.User, "default: database.user"}
	}
	if _, given := l.set["database.migrationPassword"]; ok && !given && l.effective["database.migrationUser"].text == l.address.User {
		origin := fmt.Sprintf("default: database.password (%s)", password.origin)
		l.effective["database.migrationPassword"] = setting{password.text, origin}
	}
}
