package catalogue

import (
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// A settingView is a setting, named as in doc/configuration.md, or another property of
// the program.
type settingView struct{ Name, Value, Meaning string }

// Settings serves the settings that anybody may know. They are listed one by one, so
// that a new setting is not published by accident. Listen addresses, the locations of
// registry and database, and all users are left out.
func (s *Catalogue) Settings(w http.ResponseWriter, r *http.Request) error {
	return s.fixed(w, r, "settings", page{Title: "Settings", Main: s.settings()})
}

func (s *Catalogue) settings() []settingView {
	list := []settingView{
		{"version", orNone(s.config.Version), "version of the program"},
		{"revision", orNone(s.config.Revision), "revision of the source of the program"},
		{"role", s.role(), "a writer receives events and scans; a reader only answers requests"},
		{"registry.public_url", s.publicAddress(), "address of the registry for its clients"},
		{"components.registry_proxy", yesNo(s.config.Proxies), "whether this indexer forwards /v2/ to the registry"},
		{"auth.method", s.loginMethod(), "how clients log in"},
		{"components.assert_endpoint", yesNo(s.config.Assertions), "whether integration tests can use /assert"},
		{"cache.max_age_index", duration(s.config.MaxAgeIndex), "how long a cache may serve data without asking again"},
		{"cache.max_age_html", duration(s.config.MaxAge), "the same for pages"},
		{"log.level", orNone(s.config.LogLevel), "lowest level of messages that are logged"},
	}
	if s.config.Writes {
		every := span(s.config.FetchAll)
		if s.config.FetchAll == 0 {
			every = "0: no periodic scans"
		}
		list = append(list, settingView{
			"interval.fetch_all", every, "time from the start of a scan to the start of the next one"})
	}
	return list
}

func (s *Catalogue) role() string {
	if s.config.Writes {
		return "writer"
	}
	return "reader"
}

func (s *Catalogue) loginMethod() string {
	switch {
	case s.config.Login == nil:
		return "none: everybody sees everything"
	case s.config.Login.Accounts != nil:
		return "accounts"
	}
	return "tokens of the configuration"
}

// publicAddress returns the address that commands on pages also contain.
func (s *Catalogue) publicAddress() string {
	if u, err := url.Parse(s.config.PublicURL); err == nil && u.Host != "" {
		return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
	}
	return "the address of this page in your browser"
}

func orNone(text string) string {
	if text == "" {
		return "not set"
	}
	return text
}

func yesNo(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

func duration(d time.Duration) string {
	if d < time.Second {
		return "0 s: it asks every time"
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + " s"
}
