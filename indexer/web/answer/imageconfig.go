package answer

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A ConfigView is what an image config says about running the image.
type ConfigView struct {
	Facts   []Pair // one-line facts
	Env     []string
	History []HistoryRow
}

// A HistoryRow is a step of the build of an image.
type HistoryRow struct {
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

// ReadConfig reads what it can of the config of an image with these layers.
func ReadConfig(body []byte, layers []ocispec.Descriptor) ConfigView {
	var c imageConfig
	_ = json.Unmarshal(body, &c) // fills what fits, and goes on after what does not
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

// history gives the steps of a build. Those that made a layer stand in the order
// of the layers; if there are not as many of them, as of a squashed image, it
// cannot be told which step made which.
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

// words gives a command line as JSON, since it is a list: spaces in a word
// would look like two.
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

// MaxShown is the most elements of one list on a page: 1,000. A manifest of
// 4 MiB has room for some 40,000 descriptors.
const MaxShown = 1000

// MaxValue is the most runes of one value on a page: 2,000. Labels hold
// whole documents; the rest is in the config.
const MaxValue = 2000

// A Pair is a key and a value, cut to what fits a page.
type Pair struct{ Key, Value string }
