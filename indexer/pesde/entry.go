package pesde

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"
)

// An Entry describes one version of a package for one target, as a package file does.
type Entry struct {
	PublishedAt  string                `toml:"published_at" json:"published_at"` // RFC 3339, in UTC
	Description  string                `toml:"description,omitempty" json:"description,omitempty"`
	License      string                `toml:"license,omitempty" json:"license,omitempty"`
	Authors      []string              `toml:"authors,omitempty" json:"authors,omitempty"`
	Repository   string                `toml:"repository,omitempty" json:"repository,omitempty"` // an absolute URL
	Target       TargetInfo            `toml:"target" json:"target"`
	Engines      map[string]string     `toml:"engines,omitempty" json:"engines,omitempty"` // name to requirement
	Docs         []Doc                 `toml:"docs,omitempty" json:"docs,omitempty"`
	Dependencies map[string]Dependency `toml:"-" json:"dependencies,omitempty"` // by alias
}

// A TargetInfo says what a package offers for its target.
type TargetInfo struct {
	Environment Target            `toml:"environment" json:"environment"`
	Lib         string            `toml:"lib,omitempty" json:"lib,omitempty"` // path of the library
	Bin         string            `toml:"bin,omitempty" json:"bin,omitempty"` // path of the program; not for Roblox
	BuildFiles  []string          `toml:"build_files,omitempty" json:"build_files,omitempty"`
	Scripts     map[string]string `toml:"scripts,omitempty" json:"scripts,omitempty"` // name to path; not for Roblox
}

// A Doc is a page of the documentation, or a category of pages, which has no Name.
type Doc struct {
	Label     string `toml:"label" json:"label"`
	Position  *int64 `toml:"position,omitempty" json:"position,omitempty"`
	Name      string `toml:"name,omitempty" json:"name,omitempty"` // the path below docs/, without .md
	Hash      string `toml:"hash,omitempty" json:"hash,omitempty"` // SHA-256 of the page, in hexadecimal digits
	Items     []Doc  `toml:"items,omitempty" json:"items,omitempty"`
	Collapsed bool   `toml:"collapsed,omitempty" json:"collapsed,omitempty"`
}

// Kinds of dependencies.
const (
	Standard = "standard"
	Peer     = "peer"
	Dev      = "dev"
)

// A Dependency is a package that a package needs.
type Dependency struct {
	Specifier Specifier
	Kind      string // Standard, Peer or Dev
}

// A Specifier says where a dependency is. Which fields it has tells its kind: see check.
type Specifier struct {
	Name      string `toml:"name,omitempty" json:"name,omitempty"`
	Wally     string `toml:"wally,omitempty" json:"wally,omitempty"`
	Repo      string `toml:"repo,omitempty" json:"repo,omitempty"`
	Rev       string `toml:"rev,omitempty" json:"rev,omitempty"`
	Workspace string `toml:"workspace,omitempty" json:"workspace,omitempty"`
	Version   string `toml:"version,omitempty" json:"version,omitempty"`
	Index     string `toml:"index,omitempty" json:"index,omitempty"`
	Target    string `toml:"target,omitempty" json:"target,omitempty"`
	Path      string `toml:"path,omitempty" json:"path,omitempty"`
}

// MarshalJSON implements json.Marshaler: a dependency is written as [specifier, kind].
func (d Dependency) MarshalJSON() ([]byte, error) {
	return json.Marshal([]any{d.Specifier, d.Kind})
}

// UnmarshalJSON implements json.Unmarshaler.
func (d *Dependency) UnmarshalJSON(text []byte) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(text, &parts); err != nil || len(parts) != 2 {
		return errors.New("a dependency is a list of a specifier and a kind")
	}
	return errors.Join(json.Unmarshal(parts[0], &d.Specifier), json.Unmarshal(parts[1], &d.Kind))
}

// A source is the kind of place where a dependency is.
type source int

const (
	nowhere source = iota
	inRegistry
	inWally
	inGit
	inWorkspace
	inPath
)

// source returns the first kind of which a specifier has all fields that must be there. The client
// does the same, whatever other fields there are: with a name and a repo, but no version, it is a
// repository of git.
func (s Specifier) source() source {
	switch {
	case s.Name != "" && s.Version != "":
		return inRegistry
	case s.Wally != "" && s.Version != "":
		return inWally
	case s.Repo != "" && s.Rev != "":
		return inGit
	case s.Workspace != "":
		return inWorkspace
	case s.Path != "":
		return inPath
	}
	return nowhere
}

// check returns an error unless the client can read the specifier.
func (s Specifier) check() (err error) {
	switch s.source() {
	case inRegistry:
		_, err = ParseName(s.Name)
		err = cmp.Or(err, checkRequirement(s.Version), checkTarget(s.Target))
	case inWally:
		err = cmp.Or(checkWally(s.Wally), checkRequirement(s.Version))
	case inGit:
		err = checkRepo(s.Repo)
	case inWorkspace:
		_, err = ParseName(s.Workspace)
		if !slices.Contains(workspaceVersions, s.Version) {
			err = cmp.Or(err, checkRequirement(s.Version))
		}
		err = cmp.Or(err, checkTarget(s.Target))
	case inPath:
	case nowhere:
		err = errors.New("it has neither name and version, wally and version, repo and rev, workspace, nor path")
	}
	return err
}

// workspaceVersions are the versions of a dependency in a workspace besides requirements: how its
// version becomes one.
var workspaceVersions = []string{"", "^", "~", "=", "*"}

// checkTarget returns an error unless s is a target, or empty.
func checkTarget(s string) error {
	if s == "" {
		return nil
	}
	_, err := ParseTarget(s)
	return err
}

// checkRepo returns an error unless the client can read s as a repository of git. Without a colon,
// it is one at GitHub.
func checkRepo(s string) error {
	if !strings.Contains(s, ":") || normalURL(s) != "" && (!strings.Contains(s, "://") || hasGoodHost(s)) {
		return nil
	}
	return fmt.Errorf("`%s` is not a URL of a repository", shorten(s))
}

// check returns an error unless the client can read the entry.
func (e Entry) check(target Target) error {
	if _, err := time.Parse(time.RFC3339Nano, e.PublishedAt); err != nil {
		return fmt.Errorf("published_at: `%s` is not a time", shorten(e.PublishedAt))
	}
	if e.Target.Environment != target {
		return fmt.Errorf("the target is %s, and not %s", e.Target.Environment, target)
	}
	if err := e.Target.check(); err != nil {
		return err
	}
	if e.Repository != "" && !isURL(e.Repository) {
		return fmt.Errorf("repository: `%s` is not an absolute URL", shorten(e.Repository))
	}
	if err := checkEngines(e.Engines); err != nil {
		return err
	}
	if err := checkDocs(e.Docs, 0); err != nil {
		return err
	}
	return checkDependencies(e.Dependencies)
}

func (t TargetInfo) check() error {
	if _, err := ParseTarget(string(t.Environment)); err != nil {
		return err
	}
	switch {
	case t.Environment.isRoblox() && (t.Bin != "" || len(t.Scripts) > 0):
		return fmt.Errorf("target: %s has neither bin nor scripts", t.Environment)
	case !t.Environment.isRoblox() && len(t.BuildFiles) > 0:
		return fmt.Errorf("target: %s has no build_files", t.Environment)
	}
	return nil
}

// engines are the programs that a package can require.
var engines = []string{"lune", "pesde"}

func checkEngines(all map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !slices.Contains(engines, name) {
			return fmt.Errorf("engines: unknown engine kind %s", shorten(name))
		}
		if err := checkRequirement(all[name]); err != nil {
			return fmt.Errorf("engines.%s: %w", name, err)
		}
	}
	return nil
}

// maxDepth is the maximum number of categories around a page: 8, a guess that leaves room.
const maxDepth = 8

func checkDocs(docs []Doc, depth int) error {
	for _, d := range docs {
		switch {
		case depth > maxDepth:
			return fmt.Errorf("docs: more than %d categories around a page", maxDepth)
		case (d.Name == "") != (d.Hash == ""):
			return fmt.Errorf("docs: the page `%s` needs a name and a hash", shorten(d.Label))
		case d.Hash != "" && (len(d.Hash) != 64 || strings.Trim(d.Hash, "0123456789abcdef") != ""):
			return fmt.Errorf("docs: `%s` is not a hash", shorten(d.Hash))
		case d.Position != nil && *d.Position < 0:
			return fmt.Errorf("docs: the position of `%s` is below 0", shorten(d.Label))
		}
		if err := checkDocs(d.Items, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func checkDependencies(all map[string]Dependency) error {
	seen := map[string]string{}
	for _, alias := range slices.Sorted(maps.Keys(all)) {
		if err := checkAlias(alias); err != nil {
			return err
		}
		if other, ok := seen[strings.ToLower(alias)]; ok {
			return fmt.Errorf("aliases %s and %s differ only in case", other, alias)
		}
		seen[strings.ToLower(alias)] = alias
		if kind := all[alias].Kind; kind != Standard && kind != Peer && kind != Dev {
			return fmt.Errorf("dependency %s: unknown kind `%s`", alias, shorten(kind))
		}
		if err := all[alias].Specifier.check(); err != nil {
			return fmt.Errorf("dependency %s: %w", alias, err)
		}
	}
	return nil
}

// isURL reports whether s is an absolute URL with a host.
func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && u.Host != "" && hasGoodHost(s)
}

// hosts are names of hosts that every reader of URLs takes: letters that are not ASCII would have to
// be those of some version of Unicode.
var hosts = regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?$`)

// numeric are hosts whose last part is a number: the client takes them for IPv4 addresses.
var numeric = regexp.MustCompile(`(^|\.)([0-9]+|0[xX][0-9A-Fa-f]*)\.?$`)

// hasGoodHost reports whether s is a URL whose host and port are good. The client's reader of URLs is
// stricter about them than ours, and a bad one would make it refuse the whole file.
func hasGoodHost(s string) bool {
	u, err := url.Parse(s)
	if err != nil {
		return false
	}
	if _, err := strconv.ParseUint(cmp.Or(u.Port(), "0"), 10, 16); err != nil {
		return false
	}
	host := u.Hostname()
	if address, err := netip.ParseAddr(host); err == nil {
		return address.Zone() == ""
	}
	return host == "" && u.Scheme == "file" || hosts.MatchString(host) && !numeric.MatchString(host) && isDecodable(host)
}

// isDecodable reports whether the parts of a host that stand for other letters do so.
func isDecodable(host string) bool {
	if !strings.Contains(strings.ToLower(host), "xn--") {
		return true
	}
	_, err := idna.Lookup.ToUnicode(host)
	return err == nil
}

// normal returns the entry with nil for what is empty: files and manifests may have either.
func (e Entry) normal() Entry {
	e.Authors, e.Docs = nilIfEmpty(e.Authors), normalDocs(e.Docs)
	e.Target.BuildFiles = nilIfEmpty(e.Target.BuildFiles)
	if len(e.Target.Scripts) == 0 {
		e.Target.Scripts = nil
	}
	if len(e.Engines) == 0 {
		e.Engines = nil
	}
	if len(e.Dependencies) == 0 {
		e.Dependencies = nil
	}
	return e
}

func normalDocs(docs []Doc) []Doc {
	for i := range docs {
		docs[i].Items = normalDocs(docs[i].Items)
	}
	return nilIfEmpty(docs)
}

func nilIfEmpty[T any](s []T) []T {
	if len(s) == 0 {
		return nil
	}
	return s
}

// Timestamp returns a time as entries have it: RFC 3339 in UTC, without zeros at its end.
func Timestamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
