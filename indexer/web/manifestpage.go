package web

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/portbook/portbook/indexer"
)

const (
	// maxShown is the most elements of one list on a page: 1,000. A manifest of
	// 4 MiB has room for some 40,000 descriptors.
	maxShown = 1000
	// maxValue is the most runes of one value on a page: 2,000. Labels hold
	// whole documents; the rest is in the config.
	maxValue = 2000
	// maxRaw is the most bytes of JSON that are shown laid out: 256 KiB. What
	// is larger is shown as it is, up to here.
	maxRaw = 256 << 10
	// maxDepth is the deepest JSON that is laid out: 32 levels; manifests have
	// 5. Each level indents each line, so that a few MiB of brackets would
	// become gigabytes.
	maxDepth = 32
)

type manifestView struct {
	indexer.Manifest
	Reference   string // name:tag or name@digest
	Asked       indexer.Reference
	Pull        string
	Tags        []string
	Labels      []pair
	Annotations []pair
	Config      configView
	Referrers   []indexer.Referrer
	Raw         string
	RawCut      bool
	Cut         bool // some list is not shown to its end
}

// A pair is a key and a value, cut to what fits a page.
type pair struct{ Key, Value string }

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

func (s *server) manifestPage(w http.ResponseWriter, r *http.Request, ref indexer.Reference) error {
	if ref.Digest != "" {
		ref.Tag = "" // the digest says it all, as docker has it
	}
	return s.html(w, r, "manifest", func(b Book) (page, error) {
		view, err := s.manifestView(r, b, ref)
		return page{Title: ref.String(), Main: view}, err
	})
}

func (s *server) manifestView(r *http.Request, b Book, ref indexer.Reference) (manifestView, error) {
	m, err := b.Manifest(r.Context(), ref)
	if err != nil {
		return manifestView{}, err
	}
	tags, err := b.TagsOf(r.Context(), ref.Repository, m.Digest)
	if err != nil {
		return manifestView{}, err
	}
	referrers, err := b.Referrers(r.Context(), ref.Repository, m.Digest)
	if err != nil {
		return manifestView{}, err
	}
	v := manifestView{
		Manifest:    m,
		Reference:   ref.String(),
		Asked:       ref,
		Pull:        s.host + "/" + ref.String(),
		Tags:        first(tags),
		Labels:      first(pairs(m.Labels)),
		Annotations: first(pairs(m.Annotations)),
		Config:      readConfig(m.ConfigBody, first(m.Layers)),
		Referrers:   first(referrers),
	}
	v.Cut = max(len(tags), len(m.Labels), len(m.Annotations), len(m.Layers), len(m.Entries), len(referrers)) > maxShown
	v.Layers, v.Entries = first(m.Layers), first(m.Entries)
	v.Raw, v.RawCut = layOut(m.Body)
	return v, nil
}

func first[T any](list []T) []T { return list[:min(len(list), maxShown)] }

// pairs gives m in order of key.
func pairs(m map[string]string) []pair {
	list := make([]pair, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, pair{cut(k, maxValue), cut(m[k], maxValue)})
	}
	return list
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

// layOut gives JSON indented, and whether it is cut. What is too large or too
// deep to indent, or is no JSON, stays as it is.
func layOut(body []byte) (string, bool) {
	var b bytes.Buffer
	if len(body) <= maxRaw && depth(body) <= maxDepth && json.Indent(&b, body, "", "  ") == nil {
		return b.String(), false
	}
	return string(body[:min(len(body), maxRaw)]), len(body) > maxRaw
}

// depth is how deep the brackets of JSON nest; those in strings count too, which
// only makes it more.
func depth(body []byte) (deepest int) {
	open := 0
	for _, c := range body {
		switch c {
		case '{', '[':
			open++
			deepest = max(deepest, open)
		case '}', ']':
			open--
		}
	}
	return deepest
}
