package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
)

const redacted = "REDACTED"

// Redacted returns c with secrets replaced, also passwords in URLs. An empty secret
// stays empty, to show that it is not set.
func (c Config) Redacted() Config {
	for _, k := range Keys() {
		v := k.in(&c)
		if s, ok := v.Interface().(string); ok && s != "" {
			v.SetString(k.redact(s))
		}
	}
	return c
}

func (k Key) redact(s string) string {
	isURL := strings.Contains(s, "://")
	switch {
	case k.field.Tag.Get("secret") == "true", k.Secret && !isURL:
		return redacted
	case isURL:
		return redactURL(s)
	}
	return s
}

// String returns one line for each key, without secrets.
func (c Config) String() string {
	var b strings.Builder
	for _, a := range c.LogValue().Group() {
		fmt.Fprintf(&b, "%s: %s\n", a.Key, a.Value)
	}
	return b.String()
}

// GoString is String, so that %#v does not print secrets either.
func (c Config) GoString() string { return c.String() }

// LogValue returns a group of all keys, without secrets.
func (c Config) LogValue() slog.Value {
	c = c.Redacted()
	var attrs []slog.Attr
	for _, k := range Keys() {
		attrs = append(attrs, slog.String(k.Name, fmt.Sprint(k.in(&c))))
	}
	return slog.GroupValue(attrs...)
}

// shown quotes a value for a message. A value with an at sign may be a URL with a
// password in the wrong place.
func shown(value string) string {
	return strconv.Quote(redactURL(value))
}

// redactURL removes secrets from a URL. If the URL is malformed, so that the end of
// the password is not certain, it removes everything after the scheme.
func redactURL(s string) string {
	scheme, rest, isURL := strings.Cut(s, "://")
	if !isURL {
		if strings.Contains(s, "@") {
			return redacted
		}
		return s
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	postgres, at := strings.HasPrefix(scheme, "postgres"), strings.LastIndexByte(authority, '@')
	_, port, hasPort := strings.Cut(authority, ":")
	if strings.Contains(tail, "@") || postgres && at < 0 && hasPort && strings.Trim(port, "0123456789") != "" {
		return scheme + "://" + redacted
	}
	if at >= 0 {
		user, _, hasPassword := strings.Cut(authority[:at], ":")
		if !postgres { // such a user may be a token
			user, hasPassword = redacted, false
		}
		if hasPassword {
			user += ":" + redacted
		}
		authority = user + authority[at:]
	}
	path, query, hasQuery := strings.Cut(tail, "?")
	if hasQuery {
		path += "?" + redactQuery(query)
	}
	return scheme + "://" + authority + path
}

func redactQuery(query string) string {
	pairs := strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == ';' })
	for i, pair := range pairs {
		name, _, _ := strings.Cut(pair, "=")
		decoded, err := url.QueryUnescape(name)
		decoded = strings.ToLower(decoded)
		if err != nil || strings.Contains(decoded, "pass") || strings.Contains(decoded, "secret") || strings.Contains(decoded, "token") {
			pairs[i] = name + "=" + redacted
		}
	}
	return strings.Join(pairs, "&")
}
