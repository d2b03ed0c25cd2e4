package pesde

import (
	"fmt"
	"maps"
	"net/url"
	"slices"

	"github.com/pelletier/go-toml/v2"
)

// manifest is the pesde.toml of an archive, as far as the registry needs it.
type manifest struct {
	Name             string               `toml:"name"`
	Version          string               `toml:"version"`
	Description      string               `toml:"description"`
	License          string               `toml:"license"`
	Authors          []string             `toml:"authors"`
	Repository       string               `toml:"repository"`
	Target           TargetInfo           `toml:"target"`
	Engines          map[string]string    `toml:"engines"`
	Dependencies     map[string]Specifier `toml:"dependencies"`
	PeerDependencies map[string]Specifier `toml:"peer_dependencies"`
	DevDependencies  map[string]Specifier `toml:"dev_dependencies"`
}

// parseManifest reads a pesde.toml. published_at and the documentation of the entry are left out.
func parseManifest(text []byte) (p Package, err error) {
	var m manifest
	if err := toml.Unmarshal(text, &m); err != nil {
		return p, invalidArchive("pesde.toml: %s", err)
	}
	if p.Name, err = ParseName(m.Name); err != nil {
		return p, invalidArchive("pesde.toml: %s", err)
	}
	if !p.Name.IsRepository() {
		return p, invalidArchive("pesde.toml: the registry has no names with three underscores, such as `%s`", p.Name)
	}
	if p.ID.Version, err = ParseVersion(m.Version); err != nil {
		return p, invalidArchive("pesde.toml: version: %s", err)
	}
	p.ID.Target = m.Target.Environment
	p.Entry = Entry{
		Description: m.Description, License: m.License, Authors: m.Authors, Target: m.Target, Engines: m.Engines,
	}
	if p.Entry.Repository, err = repositoryURL(m.Repository); err != nil {
		return p, err
	}
	p.Entry.Dependencies, err = m.all()
	p.Entry = p.Entry.normal()
	return p, err
}

// repositoryURL returns the URL of a repository as pesde writes it: with a path.
func repositoryURL(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	u, err := url.Parse(s)
	if err != nil || !isURL(s) {
		return "", invalidArchive("pesde.toml: repository: `%s` is not an absolute URL", shorten(s))
	}
	if u.Path == "" {
		u.Path = "/"
	}
	return u.String(), nil
}

// all returns the dependencies of the three tables.
func (m manifest) all() (map[string]Dependency, error) {
	var all map[string]Dependency
	for _, t := range []struct {
		kind  string
		table map[string]Specifier
	}{{Standard, m.Dependencies}, {Peer, m.PeerDependencies}, {Dev, m.DevDependencies}} {
		for _, alias := range slices.Sorted(maps.Keys(t.table)) {
			if _, ok := all[alias]; ok {
				return nil, invalidArchive(
					"manifest has invalid dependencies: another specifier is already using the alias %s", shorten(alias))
			}
			if all == nil {
				all = map[string]Dependency{}
			}
			all[alias] = Dependency{t.table[alias], t.kind}
		}
	}
	return all, nil
}

// checkPolicies returns an error unless the index allows the dependencies, in the order of their
// aliases. Those for development are not checked, since they are not installed with the package.
func checkPolicies(all map[string]Dependency, c Config, own []string) error {
	for _, alias := range slices.Sorted(maps.Keys(all)) {
		if all[alias].Kind == Dev {
			continue
		}
		switch s := all[alias].Specifier; s.source() {
		case inRegistry:
			if !(Allowed{URLs: own}).Allows(s.Index) && !c.OtherRegistriesAllowed.Allows(s.Index) {
				return invalidArchive("invalid index in pesde dependency %s@%s", s.Name, s.Version)
			}
		case inWally:
			if !c.WallyAllowed.Allows(s.Index) {
				return invalidArchive("invalid index in wally dependency %s@%s", wallyName(s.Wally), s.Version)
			}
		case inGit:
			if !c.GitAllowed.Allows(s.Repo) {
				return invalidArchive("git dependencies are not allowed")
			}
		case inWorkspace:
			return invalidArchive("non-transformed workspace dependency")
		case inPath:
			return invalidArchive("path dependencies are not allowed")
		case nowhere: // check refuses it
		}
	}
	return nil
}

// wallyName returns a name of Wally with its prefix.
func wallyName(s string) string {
	if len(s) > 6 && s[:6] == "wally#" {
		return s
	}
	return fmt.Sprintf("wally#%s", s)
}
