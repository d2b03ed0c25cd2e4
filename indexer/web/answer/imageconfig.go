package answer

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A ConfigView is what an image config contains about running the image.
type ConfigView struct {
	Facts   []Pair // each on one line
	Env     []string
	History []HistoryRow
}

// A HistoryRow is one step of the build of an image.
type HistoryRow struct {
	Created string // as in the config; it may not be a time
	Command string
	Layer   *ocispec.Descriptor // nil if the step made none, or if it is unknown
}

// imageConfig has the fields of an image config that a page shows. Each of them may
// be missing or have another type.
type imageConfig struct {
	Config struct {
		User         string
		ExposedPorts map[string]json.RawMessage
		Env          []string
		Entrypoint   []string
		Cmd          []string
		Volumes      map[string]json.RawMessage
		WorkingDir   string
		StopSignal   string
	} `json:"config"`
	History []struct {
		Created    string `json:"created"`
		CreatedBy  string `json:"created_by"`
		Comment    string `json:"comment"`
		EmptyLayer bool   `json:"empty_layer"`
	} `json:"history"`
}

// ReadConfig reads the config of an image that has these layers. It skips what it
// cannot read.
func ReadConfig(body []byte, layers []ocispec.Descriptor) ConfigView {
	var c imageConfig
	_ = json.Unmarshal(body, &c) // fills the fields that fit, and skips the others
	v := ConfigView{Facts: c.facts(), History: c.history(layers)}
	for _, e := range First(c.Config.Env) {
		v.Env = append(v.Env, Cut(e, MaxValue))
	}
	return v
}

func (c imageConfig) facts() (facts []Pair) {
	for _, f := range []Pair{
		{"User", c.Config.User},
		{"Working directory", c.Config.WorkingDir},
		{"Entrypoint", words(c.Config.Entrypoint)},
		{"Command", words(c.Config.Cmd)},
		{"Ports", keys(c.Config.ExposedPorts)},
		{"Volumes", keys(c.Config.Volumes)},
		{"Stop signal", c.Config.StopSignal},
	} {
		if f.Value != "" {
			facts = append(facts, Pair{f.Key, Cut(f.Value, MaxValue)})
		}
	}
	return facts
}

// history returns the steps of a build. The steps that made a layer have the order
// of the layers. If their numbers differ, as in a squashed image, it is unknown
// which step made which layer.
func (c imageConfig) history(layers []ocispec.Descriptor) (rows []HistoryRow) {
	next := 0
	for _, h := range First(c.History) {
		row := HistoryRow{
			Created: Cut(h.Created, 40),
			Command: Cut(strings.TrimSpace(h.CreatedBy+" "+h.Comment), MaxValue),
		}
		if !h.EmptyLayer {
			if next < len(layers) {
				row.Layer = &layers[next]
			}
			next++
		}
		rows = append(rows, row)
	}
	if next != len(layers) {
		for i := range rows {
			rows[i].Layer = nil
		}
	}
	return rows
}

// words returns a command line as JSON, because a space within a word would
// otherwise look like a separator.
func words(list []string) string {
	if len(list) == 0 {
		return ""
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the template escapes
	_ = e.Encode(First(list))
	return strings.TrimSpace(b.String())
}

func keys(m map[string]json.RawMessage) string {
	return strings.Join(First(slices.Sorted(maps.Keys(m))), ", ")
}

// First returns the first MaxShown elements of a list.
func First[T any](list []T) []T { return list[:min(len(list), MaxShown)] }

// MaxShown is the maximum number of elements of one list on a page: 1,000. A
// manifest of 4 MiB has room for about 40,000 descriptors.
const MaxShown = 1000

// MaxValue is the maximum number of runes of one value on a page: 2,000. Some labels
// hold whole documents; the config has the rest.
const MaxValue = 2000

// A Pair is a key and a value, cut to the length that a page shows.
type Pair struct{ Key, Value string }
