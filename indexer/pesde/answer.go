package pesde

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
)

// Published is one version of a package for one target, as the registry answers it. It may also be
// a container image: then Target is a platform such as linux_amd64.
type Published struct {
	Version      Version
	Target       Target
	Lib, Bin     bool
	Scripts      []string
	Yanked       bool
	PublishedAt  string
	Description  string
	License      string
	Authors      []string
	Repository   string
	Docs         []Doc
	Dependencies map[string]Dependency
}

// PublishedOf returns an entry as the registry answers it.
func PublishedOf(id ID, e Listed) Published {
	return Published{
		Version: id.Version, Target: id.Target, Lib: e.Target.Lib != "", Bin: e.Target.Bin != "",
		Scripts: slices.Sorted(maps.Keys(e.Target.Scripts)), Yanked: e.Yanked, PublishedAt: e.PublishedAt,
		Description: e.Description, License: e.License, Authors: e.Authors, Repository: e.Repository,
		Docs: e.Docs, Dependencies: e.Dependencies,
	}
}

// Latest returns the version that `latest` is: of the releases, or else the pre-releases, one that is
// not yanked, or else one that is, and of those the highest. It is false if there is none.
func Latest(all []Published) (Version, bool) {
	if len(all) == 0 {
		return Version{}, false
	}
	yanked := map[Version]bool{} // for all targets
	for _, p := range all {
		was, seen := yanked[p.Version]
		yanked[p.Version] = p.Yanked && (was || !seen)
	}
	best := slices.MaxFunc(slices.Collect(maps.Keys(yanked)), func(a, b Version) int {
		return cmp.Or(-compareBool(a.Pre != "", b.Pre != ""), -compareBool(yanked[a], yanked[b]), a.Compare(b))
	})
	return best, true
}

// compareBool orders false before true.
func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// Highest returns the version that a search shows: the highest that is not yanked, also a
// pre-release. It is false if there is none.
func Highest(all []Published) (best Version, ok bool) {
	for _, p := range all {
		if !p.Yanked && (!ok || p.Version.Compare(best) > 0) {
			best, ok = p.Version, true
		}
	}
	return best, ok
}

// OfVersion returns those of a version, in the order of their targets.
func OfVersion(all []Published, v Version) []Published {
	var of []Published
	for _, p := range all {
		if p.Version == v {
			of = append(of, p)
		}
	}
	slices.SortFunc(of, func(a, b Published) int { return a.Target.Compare(b.Target) })
	return of
}

// A PackageAnswer is the answer about one version of a package.
type PackageAnswer struct {
	Name         string                `json:"name"`
	Version      string                `json:"version"`
	Targets      []TargetAnswer        `json:"targets"`
	Description  string                `json:"description,omitempty"`
	Deprecated   string                `json:"deprecated,omitempty"`
	PublishedAt  string                `json:"published_at"`
	License      string                `json:"license,omitempty"`
	Authors      []string              `json:"authors,omitempty"`
	Repository   string                `json:"repository,omitempty"`
	Docs         []docAnswer           `json:"docs,omitempty"`
	Dependencies map[string]Dependency `json:"dependencies,omitempty"`
}

// A TargetAnswer is a target in a PackageAnswer.
type TargetAnswer struct {
	Kind    Target   `json:"kind"`
	Yanked  bool     `json:"yanked,omitempty"`
	Lib     bool     `json:"lib"`
	Bin     bool     `json:"bin"`
	Scripts []string `json:"scripts,omitempty"`
}

// A docAnswer is a Doc without its hash.
type docAnswer struct {
	Label     string      `json:"label"`
	Position  *int64      `json:"position,omitempty"`
	Name      string      `json:"name,omitempty"`
	Items     []docAnswer `json:"items,omitempty"`
	Collapsed bool        `json:"collapsed,omitempty"`
}

// docsOf returns documentation for an answer, which has it in the order of labels.
func docsOf(docs []Doc) (all []docAnswer) {
	for _, d := range docs {
		all = append(all, docAnswer{d.Label, d.Position, d.Name, docsOf(d.Items), d.Collapsed})
	}
	slices.SortStableFunc(all, func(a, b docAnswer) int { return cmp.Compare(a.Label, b.Label) })
	return all
}

// PackageOf returns the answer about one version: of are all its targets, from OfVersion, and shown
// is the one whose description, documentation and so on are answered.
func PackageOf(name, deprecated string, of []Published, shown Published) PackageAnswer {
	p := PackageAnswer{
		Name: name, Version: shown.Version.String(), Deprecated: deprecated, Description: shown.Description,
		PublishedAt: shown.PublishedAt, License: shown.License, Authors: shown.Authors, Repository: shown.Repository,
		Docs: docsOf(shown.Docs), Dependencies: shown.Dependencies, Targets: []TargetAnswer{},
	}
	for _, t := range of {
		p.Targets = append(p.Targets, TargetAnswer{t.Target, t.Yanked, t.Lib, t.Bin, t.Scripts})
	}
	return p
}

// A VersionsAnswer is the answer about all versions of a package.
type VersionsAnswer struct {
	Name       string                 `json:"name"`
	Deprecated string                 `json:"deprecated,omitempty"`
	Versions   ordered[versionAnswer] `json:"versions"`
}

type versionAnswer struct {
	Description string                 `json:"description,omitempty"`
	Targets     ordered[versionTarget] `json:"targets"`
}

type versionTarget struct {
	Target struct {
		Lib     bool     `json:"lib"`
		Bin     bool     `json:"bin"`
		Scripts []string `json:"scripts,omitempty"`
	} `json:"target"`
	Yanked       bool                  `json:"yanked,omitempty"`
	PublishedAt  string                `json:"published_at"`
	License      string                `json:"license,omitempty"`
	Authors      []string              `json:"authors,omitempty"`
	Repository   string                `json:"repository,omitempty"`
	Docs         []docAnswer           `json:"docs,omitempty"`
	Dependencies map[string]Dependency `json:"dependencies,omitempty"`
}

// VersionsOf returns the answer about all versions, in ascending order.
func VersionsOf(name, deprecated string, all []Published) VersionsAnswer {
	answer := VersionsAnswer{Name: name, Deprecated: deprecated, Versions: ordered[versionAnswer]{}}
	for _, v := range versions(all) {
		of := OfVersion(all, v)
		one := versionAnswer{Description: of[len(of)-1].Description, Targets: ordered[versionTarget]{}}
		for _, p := range of {
			t := versionTarget{Yanked: p.Yanked, PublishedAt: p.PublishedAt, License: p.License, Authors: p.Authors,
				Repository: p.Repository, Docs: docsOf(p.Docs), Dependencies: p.Dependencies}
			t.Target.Lib, t.Target.Bin, t.Target.Scripts = p.Lib, p.Bin, p.Scripts
			one.Targets = append(one.Targets, pair[versionTarget]{string(p.Target), t})
		}
		answer.Versions = append(answer.Versions, pair[versionAnswer]{v.String(), one})
	}
	return answer
}

// PackagesOf returns the answer of /v0 about all versions: one package for each, in ascending order,
// with what the highest target says.
func PackagesOf(name, deprecated string, all []Published) []PackageAnswer {
	answers := []PackageAnswer{}
	for _, v := range versions(all) {
		of := OfVersion(all, v)
		answers = append(answers, PackageOf(name, deprecated, of, of[len(of)-1]))
	}
	return answers
}

// versions returns the versions, each once, in ascending order.
func versions(all []Published) []Version {
	seen := map[Version]bool{}
	for _, p := range all {
		seen[p.Version] = true
	}
	return slices.SortedFunc(maps.Keys(seen), Version.Compare)
}

// ordered is a JSON object whose members stay in their order.
type ordered[T any] []pair[T]

type pair[T any] struct {
	key   string
	value T
}

// MarshalJSON implements json.Marshaler.
func (o ordered[T]) MarshalJSON() ([]byte, error) {
	var text bytes.Buffer
	text.WriteByte('{')
	for i, p := range o {
		if i > 0 {
			text.WriteByte(',')
		}
		value, err := json.Marshal(p.value)
		if err != nil {
			return nil, err
		}
		text.Write(encodeJSON(p.key))
		text.WriteByte(':')
		text.Write(value)
	}
	text.WriteByte('}')
	return text.Bytes(), nil
}
