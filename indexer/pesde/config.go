package pesde

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// A Scope is the file scope.toml of a scope: who may publish in it.
type Scope struct {
	Owners []uint64 `toml:"owners"`
}

// ParseScope reads a scope.toml.
func ParseScope(text []byte) (s Scope, err error) {
	var raw struct{ Owners *[]uint64 }
	if err := toml.Unmarshal(text, &raw); err != nil {
		return s, fmt.Errorf("scope.toml: %w", err)
	}
	if raw.Owners == nil {
		return s, errors.New("scope.toml: owners is missing")
	}
	return Scope{*raw.Owners}, nil
}

// Encode returns the text of the file.
func (s Scope) Encode() ([]byte, error) {
	owners := slices.Clone(s.Owners)
	slices.Sort(owners)
	return toml.Marshal(Scope{slices.Compact(owners)})
}

// A Config is the file config.toml of an index.
type Config struct {
	API                    string   // the absolute URL of our API
	Download               string   // a template of URLs of archives; "": DefaultDownload
	GitHubOAuthClientID    string   // the application with which clients log in to GitHub
	GitAllowed             Allowed  // dependencies in repositories of git
	OtherRegistriesAllowed Allowed  // dependencies in other registries of pesde
	WallyAllowed           Allowed  // dependencies in registries of Wally
	MaxArchiveSize         int64    // of an archive as it is sent, in bytes
	ScriptsPackages        []string // offered by `pesde init`
}

// DefaultDownload is the template of URLs of archives if config.toml has none.
const DefaultDownload = "{API_URL}/v1/packages/{PACKAGE}/{PACKAGE_VERSION}/{PACKAGE_TARGET}/archive"

// DefaultMaxArchiveSize is the maximum size of an archive if config.toml has none: 4 MiB.
const DefaultMaxArchiveSize = 4 << 20

// An Allowed says which URLs a policy allows.
type Allowed struct {
	All  bool
	URLs []string
}

// rawConfig is config.toml as it is written.
type rawConfig struct {
	API                    string   `toml:"api"`
	Download               string   `toml:"download,omitempty"`
	GitHubOAuthClientID    string   `toml:"github_oauth_client_id,omitempty"`
	GitAllowed             any      `toml:"git_allowed"`
	OtherRegistriesAllowed any      `toml:"other_registries_allowed"`
	WallyAllowed           any      `toml:"wally_allowed"`
	MaxArchiveSize         *int64   `toml:"max_archive_size"`
	ScriptsPackages        []string `toml:"scripts_packages,omitempty"`
}

// ParseConfig reads a config.toml. Unknown keys are ignored, as clients do. The errors are for
// whoever edits the file.
func ParseConfig(text []byte) (c Config, err error) {
	var raw rawConfig
	if err := toml.Unmarshal(text, &raw); err != nil {
		return c, fmt.Errorf("config.toml: %w", err)
	}
	if !isURL(raw.API) {
		return c, fmt.Errorf("config.toml: api is `%s`: write the absolute URL of the registry's API", shorten(raw.API))
	}
	c = Config{
		API: strings.TrimRight(raw.API, "/"), Download: raw.Download, GitHubOAuthClientID: raw.GitHubOAuthClientID,
		MaxArchiveSize: DefaultMaxArchiveSize, ScriptsPackages: raw.ScriptsPackages,
	}
	for _, p := range []struct {
		key  string
		from any
		to   *Allowed
	}{
		{"git_allowed", raw.GitAllowed, &c.GitAllowed},
		{"other_registries_allowed", raw.OtherRegistriesAllowed, &c.OtherRegistriesAllowed},
		{"wally_allowed", raw.WallyAllowed, &c.WallyAllowed},
	} {
		if *p.to, err = allowedOf(p.from); err != nil {
			return c, fmt.Errorf("config.toml: %s %w", p.key, err)
		}
	}
	if raw.MaxArchiveSize != nil {
		c.MaxArchiveSize = *raw.MaxArchiveSize
	}
	return c, c.check()
}

func (c Config) check() error {
	if c.MaxArchiveSize <= 0 {
		return fmt.Errorf("config.toml: max_archive_size is %d: write a number of bytes above 0", c.MaxArchiveSize)
	}
	for _, name := range c.ScriptsPackages {
		if _, err := ParseName(name); err != nil {
			return fmt.Errorf("config.toml: scripts_packages: %w", err)
		}
	}
	return nil
}

func allowedOf(value any) (a Allowed, err error) {
	switch v := value.(type) {
	case nil:
	case bool:
		a.All = v
	case []any:
		for _, item := range v {
			s, ok := item.(string)
			if !ok || normalURL(s) == "" {
				return a, fmt.Errorf("has `%v`, which is not a URL", item)
			}
			a.URLs = append(a.URLs, s)
		}
	default:
		return a, errors.New("is neither true, false, nor a list of URLs")
	}
	return a, nil
}

// value returns a as it is written.
func (a Allowed) value() any {
	if len(a.URLs) > 0 {
		return a.URLs
	}
	return a.All
}

// Encode returns the text of the file. It has read it back.
func (c Config) Encode() ([]byte, error) {
	raw := rawConfig{
		API: c.API, Download: c.Download, GitHubOAuthClientID: c.GitHubOAuthClientID, GitAllowed: c.GitAllowed.value(),
		OtherRegistriesAllowed: c.OtherRegistriesAllowed.value(), WallyAllowed: c.WallyAllowed.value(),
		MaxArchiveSize: &c.MaxArchiveSize, ScriptsPackages: c.ScriptsPackages,
	}
	var text bytes.Buffer
	if err := toml.NewEncoder(&text).Encode(raw); err != nil {
		return nil, err
	}
	read, err := ParseConfig(text.Bytes())
	if err == nil && !reflect.DeepEqual(read, c) {
		err = errors.New("config.toml would be read as something else")
	}
	return text.Bytes(), err
}

// Allows reports whether the policy allows a URL. Letters of the scheme and host in any case, a
// slash and .git at the end make no difference.
func (a Allowed) Allows(u string) bool {
	asked := normalURL(u)
	return asked != "" && (a.All || slices.ContainsFunc(a.URLs, func(s string) bool { return normalURL(s) == asked }))
}

// normalURL returns a URL of a repository in one spelling; "" if s is none.
func normalURL(s string) string {
	if at := strings.Index(s, "@"); at > 0 && !strings.Contains(s, "://") { // git@host:path
		host, p, ok := strings.Cut(s[at+1:], ":")
		if !ok || host == "" || p == "" {
			return ""
		}
		s = "ssh://" + s[:at] + "@" + host + "/" + strings.TrimPrefix(p, "/")
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" && u.Path == "" {
		return ""
	}
	p := strings.TrimSuffix(strings.TrimRight(u.Path, "/"), ".git")
	return strings.ToLower(u.Scheme) + "://" + strings.ToLower(u.Host) + strings.TrimRight(p, "/")
}
