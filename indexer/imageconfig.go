package indexer

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An ImageConfig is what the config of an image says about running and building it. A
// field is empty if the config lacks it.
type ImageConfig struct {
	User       string
	WorkingDir string
	Entrypoint []string
	Command    []string
	Ports      []string // such as "80/tcp", sorted
	Volumes    []string // sorted
	StopSignal string
	Env        []string    // KEY=VALUE
	Steps      []BuildStep // of the build, in order; at most MaxEntries
}

// A BuildStep is one step of the build of an image.
type BuildStep struct {
	Created string              // as in the config; it may not be a time
	Command string              // and its comment
	Layer   *ocispec.Descriptor // nil if the step made none, or if it is unknown
}

// configDocument has the fields of an image config that are read. Each of them may be
// missing or have another type.
type configDocument struct {
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

// ReadImageConfig reads the config of an image that has these layers. It skips what it
// cannot read.
func ReadImageConfig(body []byte, layers []ocispec.Descriptor) ImageConfig {
	var doc configDocument
	_ = json.Unmarshal(body, &doc) // fills the fields that fit, and skips the others
	c := doc.Config
	return ImageConfig{
		User: c.User, WorkingDir: c.WorkingDir, Entrypoint: c.Entrypoint, Command: c.Cmd,
		Ports: slices.Sorted(maps.Keys(c.ExposedPorts)), Volumes: slices.Sorted(maps.Keys(c.Volumes)),
		StopSignal: c.StopSignal, Env: c.Env, Steps: doc.steps(layers),
	}
}

// steps returns the steps of the build. The steps that made a layer have the order of
// the layers. If their numbers differ, as in a squashed image, it is unknown which step
// made which layer.
func (doc configDocument) steps(layers []ocispec.Descriptor) (steps []BuildStep) {
	next := 0
	for _, h := range doc.History[:min(len(doc.History), MaxEntries)] {
		step := BuildStep{Created: h.Created, Command: strings.TrimSpace(h.CreatedBy + " " + h.Comment)}
		if !h.EmptyLayer {
			if next < len(layers) {
				step.Layer = &layers[next]
			}
			next++
		}
		steps = append(steps, step)
	}
	if next != len(layers) {
		for i := range steps {
			steps[i].Layer = nil
		}
	}
	return steps
}
