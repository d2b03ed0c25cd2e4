package web

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A configView is what an image config says about running the image.
type configView struct {
	Facts   []pair // one-line facts
	Env     []string
	History []historyRow
}

type historyRow struct {
	Created string // as the config says; it may be no time
	Command string
	Layer   *ocispec.Descriptor // nil if the step made none, or if it cannot be told
}

// imageConfig is an image config as far as a page shows it. Everything in it
// may be missing or of another type.
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

// readConfig reads what it can of the config of an image with these layers.
func readConfig(body []byte, layers []ocispec.Descriptor) configView {
	var c imageConfig
	_ = json.Unmarshal(body, &c) // fills what fits, and goes on after what does not
	v := configView{Facts: c.facts(), History: c.history(layers)}
	for _, e := range first(c.Config.Env) {
		v.Env = append(v.Env, cut(e, maxValue))
	}
	return v
}

func (c imageConfig) facts() (facts []pair) {
	for _, f := range []pair{
		{"User", c.Config.User},
		{"Working directory", c.Config.WorkingDir},
		{"Entrypoint", words(c.Config.Entrypoint)},
		{"Command", words(c.Config.Cmd)},
		{"Ports", keys(c.Config.ExposedPorts)},
		{"Volumes", keys(c.Config.Volumes)},
		{"Stop signal", c.Config.StopSignal},
	} {
		if f.Value != "" {
			facts = append(facts, pair{f.Key, cut(f.Value, maxValue)})
		}
	}
	return facts
}

// history gives the steps of a build. Those that made a layer stand in the order
// of the layers; if there are not as many of them, as of a squashed image, it
// cannot be told which step made which.
func (c imageConfig) history(layers []ocispec.Descriptor) (rows []historyRow) {
	next := 0
	for _, h := range first(c.History) {
		row := historyRow{
			Created: cut(h.Created, 40),
			Command: cut(strings.TrimSpace(h.CreatedBy+" "+h.Comment), maxValue),
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

// words gives a command line as JSON, since it is a list: spaces in a word
// would look like two.
func words(list []string) string {
	if len(list) == 0 {
		return ""
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the template escapes
	_ = e.Encode(first(list))
	return strings.TrimSpace(b.String())
}

func keys(m map[string]json.RawMessage) string {
	return strings.Join(first(slices.Sorted(maps.Keys(m))), ", ")
}

func first[T any](list []T) []T { return list[:min(len(list), maxShown)] }

// maxShown is the most elements of one list on a page: 1,000. A manifest of
// 4 MiB has room for some 40,000 descriptors.
const maxShown = 1000

// maxValue is the most runes of one value on a page: 2,000. Labels hold
// whole documents; the rest is in the config.
const maxValue = 2000

// A pair is a key and a value, cut to what fits a page.
type pair struct{ Key, Value string }
